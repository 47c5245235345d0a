"""Aligned columns of plain text."""

import shutil
import textwrap
from collections.abc import Sequence
from itertools import zip_longest

WIDTH = 98  # characters of a row, on a terminal as many as it has
WIDEST = 44  # characters of a cell; longer ones go on in the next line


def table(header: Sequence[str], rows: Sequence[Sequence[str]], indent: int = 2) -> str:
    """``rows`` under ``header``, columns as wide as their content where that leaves room for the others."""
    width = min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
    room = _room([header, *rows], width - indent - 2 * (len(header) - 1))
    cells = [[_lines(cell, width) for cell, width in zip(row, room, strict=True)] for row in (header, *rows)]
    widths = [max(len(line) for row in cells for line in row[column]) for column in range(len(header))]
    lines = []
    for row in cells:
        for parts in zip_longest(*row, fillvalue=""):
            text = "  ".join(part.ljust(width) for part, width in zip(parts, widths, strict=True))
            lines.append(" " * indent + text.rstrip())
    return "\n".join(lines)


def _room(rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """Width of each column: its content's, and where that is too much in all, the widest ones give way.

    None gets narrower than its longest word.
    """
    columns = list(zip(*rows, strict=True))
    room = [min(WIDEST, max(len(cell) for cell in column)) for column in columns]
    words = [max(len(word) for cell in column for word in [*cell.split(), ""]) for column in columns]
    while sum(room) > width:
        loose = [index for index in range(len(room)) if room[index] > words[index]]
        if not loose:
            break
        room[max(loose, key=room.__getitem__)] -= 1
    return room


def _lines(cell: str, width: int) -> list[str]:
    return textwrap.wrap(cell, max(1, width), break_long_words=False, break_on_hyphens=False) or [""]
