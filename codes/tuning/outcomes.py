"""How a trial can end. Without Optuna, so that workers stay light.

=================  ======  ========  =====================================================================
outcome            valid   Optuna    meaning
=================  ======  ========  =====================================================================
``complete``       yes     COMPLETE  trained to its end
``pruned``         yes     PRUNED    stopped by the pruner; COMPLETE with its last values for several objectives
``diverged``       yes     PRUNED    NaN or infinite loss: a fact about the hyperparameters
``time_pruned``    no      PRUNED    would have taken too long; COMPLETE with capped values for several objectives
``out_of_memory``  no      PRUNED    did not fit; samplers ignore FAIL and would walk back into the wall
``crashed``        no      FAIL      its worker, or its coordinator, died
``failed``         no      FAIL      raised an error
``interrupted``    no      FAIL      stopped by the user, or with the study
``left_out``       no      FAIL      outside the study's present search space; the trial itself is in a backup
=================  ======  ========  =====================================================================

PRUNED is legal in studies of several objectives too: TPE ranks such trials last. NSGA-II reads COMPLETE trials only:
so that it learns from them, trials that were pruned or too slow are told as complete there, with the values that they
had or with capped ones (``Objective.told``); one that came to no evaluation has none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Outcome(str, Enum):
    """How a trial ended; the first three count against ``trials``."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    DIVERGED = "diverged"
    TIME_PRUNED = "time_pruned"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    LEFT_OUT = "left_out"


VALID = {Outcome.COMPLETE, Outcome.PRUNED, Outcome.DIVERGED}


@dataclass(frozen=True)
class Verdict:
    """How a trial ended, and what is kept of it.

    All ``metrics`` by name; ``duration``, seconds in the worker; ``epoch``, the last one evaluated; ``projected``,
    seconds of training that all epochs take at the pace seen; ``peak_memory``, bytes on the device that trained;
    ``together``, trials that began as one stack with it, whose ``duration`` and seconds of training are its share.
    """

    outcome: Outcome
    reason: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    duration: float = 0.0
    traceback: str = ""
    epoch: int = 0
    projected: float | None = None
    peak_memory: int | None = None
    together: int = 1
    fatal: bool = False  # the next trial would end in the same way: a full disk, other data
    broken: bool = False  # its worker cannot train again: a failed CUDA context
