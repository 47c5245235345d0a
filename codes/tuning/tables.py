"""Aligned columns of plain text."""

import textwrap
from collections.abc import Sequence
from itertools import zip_longest

WIDEST = 44  # characters of a cell; longer ones go on in the next line


def table(header: Sequence[str], rows: Sequence[Sequence[str]], indent: int = 2) -> str:
    """``rows`` under ``header``, columns as wide as their content."""
    cells = [[_lines(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(line) for row in cells for line in row[column]) for column in range(len(header))]
    lines = []
    for row in cells:
        for parts in zip_longest(*row, fillvalue=""):
            text = "  ".join(part.ljust(width) for part, width in zip(parts, widths, strict=True))
            lines.append(" " * indent + text.rstrip())
    return "\n".join(lines)


def _lines(cell: str) -> list[str]:
    return textwrap.wrap(cell, WIDEST, break_long_words=False, break_on_hyphens=False) or [""]
