"""What must be the same in two studies for their metrics to be compared."""

from collections.abc import Mapping

from omegaconf import DictConfig
from optuna.trial import FrozenTrial

from codes.tuning.ledger import record_of

ERRORS = ("source", "content", "url", "generate", "log10_transform", "tolerance")  # of dataset: what an error is of
DEVICE = "the device"
TIMES = {"inference_time", "train_time"}
MATTERS_TO = {  # what is measured differently matters to these metrics only; everything else to all
    "dataset.log10_transform": {"lae99", "mlae"},
    "trainer.target_percentile": {"lae99"},
    "trainer.threads": TIMES,
    DEVICE: TIMES,
}


def measured(config: DictConfig, trial: FrozenTrial | None, timed_on: str | None = None) -> dict[str, str]:
    """What the errors of a study are errors of, and on what the times of ``trial`` were taken, as far as is known.

    ``timed_on`` is the device on which they are to be taken anew. Threads are of the CPU: a GPU has little use for
    them, and slots on it have as many as there are cores for each.
    """
    facts = {f"dataset.{key}": str(config.dataset.get(key)) for key in ERRORS}
    facts["trainer.target_percentile"] = f"{config.trainer.target_percentile:g}"
    if trial is not None:
        record = record_of(trial)
        if (timed_on or record.get("device", "cpu")) == "cpu":
            facts["trainer.threads"] = str(record.get("threads", "unknown"))
        if timed_on is None:
            facts[DEVICE] = record.get("hardware", "unknown")
    return facts


def differences(studies: Mapping[str, Mapping[str, str]]) -> list[str]:
    """In what ``studies`` differ, by the facts that ``measured`` says of each: what is what in which of them."""
    values: dict[str, dict[str, list[str]]] = {}
    for name, facts in studies.items():
        for fact, value in facts.items():
            values.setdefault(fact, {}).setdefault(value, []).append(name)
    return [
        f"{fact} is " + ", ".join(f"{value} in {' and '.join(names)}" for value, names in by_value.items())
        for fact, by_value in values.items()
        if len(by_value) > 1
    ]
