"""The part of the log that is shown on the screen."""

import logging

from tqdm import tqdm


class AboveBars(logging.StreamHandler):
    """Log lines on a terminal, above any progress bar. Optuna's go to the log file only."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Everything but Optuna's."""
        return record.name.partition(".")[0] != "optuna" and bool(super().filter(record))

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line between two drawings of the bars."""
        try:
            tqdm.write(self.format(record), file=self.stream)
            self.flush()
        except Exception:  # of any kind: that is what logging does with it
            self.handleError(record)
