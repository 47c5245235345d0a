"""The exceptions that cross module borders."""


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
