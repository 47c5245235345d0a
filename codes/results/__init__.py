"""From a study to a decision: open it, select, score on held-out data, promote, replay."""

from codes.results.opening import Kept, opened_study
from codes.results.select import select

__all__ = ["Kept", "opened_study", "select"]
