"""The exceptions that cross module borders, and what several of their messages say."""

import difflib
from collections.abc import Sequence


class UserError(Exception):
    """Bad input: the message names the key or file, the rule, the value, and what to do."""

    exit_code = 1


class StopTraining(Exception):
    """A training is to end early; raised by a ``report`` callback, for example because the trial is pruned."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TooLarge(UserError, MemoryError):
    """A training would need more memory than there is."""


class DataReplaced(UserError):
    """The data are no longer those that the study was started with: each further trial would end in the same way."""


class Diverged(StopTraining):
    """A loss or a prediction is NaN or infinite, or an ODE solver gave up."""


class OutOfRange(UserWarning):
    """A surrogate is asked about states or parameters beyond those that it has seen in training."""


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """``did you mean <nearest>? `` for a message about a ``name`` that is not known; empty where nothing is near."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}? " if close else ""
