"""A study on a terminal: one bar for the study, one for each slot, drawn again and again at the same place."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from tqdm import tqdm

SHORTEST = 8  # columns of a bar beside a long text
SIZE = (80, 24)  # columns and rows of a terminal that does not say
LEAST = 4  # rows besides the slots': a multirun, the study, its outcomes, what is typed next


@dataclass(frozen=True)
class Line:
    """One row: a bar of ``done`` out of ``total`` between two texts, or without a total the first text only."""

    left: str
    right: str = ""
    done: int = 0
    total: int = 0

    def bar_format(self, width: int) -> str:
        """For tqdm, at most ``width`` characters wide."""
        if not self.total:
            return _cut(self.left, width)
        return f"{_cut(self.left, width)} |{{bar}}| {_cut(self.right, width - len(self.left) - SHORTEST - 4)}"


class Bars:
    """Rows at the bottom of the terminal. One thread draws; ``tqdm.write`` from any thread prints above them."""

    def __init__(self) -> None:
        self.rows: list[tqdm] = []

    def draw(self, lines: Sequence[Line]) -> None:
        """Show ``lines``; the first one stays when the bars are closed."""
        columns, height = terminal_size()
        while len(self.rows) < len(lines):
            self.rows.append(tqdm(total=1, leave=not self.rows, bar_format=" "))  # below a multirun's bar
        blank = [Line("")] * (len(self.rows) - len(lines))
        for row, line in zip(self.rows, [*lines, *blank], strict=True):
            row.ncols, row.nrows = columns - 1, height - 1  # a full last column would begin a new row
            row.bar_format = line.bar_format(columns - 1)
            row.n, row.total = line.done, max(line.total, 1)
            row.refresh()

    def close(self) -> None:
        """Leave the first row where it is and clear the others."""
        for row in reversed(self.rows):
            row.close()
        self.rows = []


def room(slots: int) -> int:
    """Slots that get a row of their own; where not all of them fit, a row sums up the rest."""
    rows = max(0, terminal_size()[1] - LEAST)
    return slots if slots <= rows else max(0, rows - 1)


def terminal_size() -> tuple[int, int]:
    """Columns and rows of the terminal that standard error goes to."""
    try:
        size = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError):  # no terminal, or a stream without a file
        return SIZE
    return size.columns or SIZE[0], size.lines or SIZE[1]


def _cut(text: str, width: int) -> str:
    """``text`` in at most ``width`` characters, its braces kept from ``str.format``."""
    short = text if len(text) <= width else text[: max(0, width - 2)] + ".."
    return short.replace("{", "{{").replace("}", "}}")
