"""Make a trial the default of its dataset and surrogate, from then on used by train.py and tune.py by themselves.

    python -m codes.promote tuning_id=robertson surrogate=MultiONet                    # the best, or the knee
    python -m codes.promote tuning_id=primordial surrogate=MultiONet pick=knee
    python -m codes.promote tuning_id=primordial surrogate=LatentPoly pick=fastest_within=0.05
    python -m codes.promote tuning_id=primordial surrogate=MultiONet search_space=fine pick=17

pick= is best, knee, fastest_within=<error>, most_accurate_within=<seconds>, or the number of a trial. The rest is what
tune.py takes to find the study. Writes conf/optimal/<dataset>/<Surrogate>.yaml, or that file below --config-dir, and
keeps the old one beside it. optimal=off switches such defaults off.
"""

from collections.abc import Sequence
from typing import Any


def main(values: dict[str, Any], overrides: Sequence[str]) -> str:
    """Write the file; what it changes and how it came about."""
    from codes.arguments import command_line
    from codes.bounds import key_of
    from codes.groups import CONF
    from codes.results.opening import opened_study, split_config_dir
    from codes.results.promote import promote
    from codes.results.scores import scores
    from codes.results.select import select
    from codes.tuning.tables import table

    folder, _ = split_config_dir(overrides)
    with opened_study(overrides) as kept:
        trial = select(kept.study, values["pick"])
        path, difference = promote(kept, trial, folder or CONF)
        both = scores(kept, trial)
        dataset, surrogate, trainer = kept.config.dataset.name, kept.config.surrogate.name, kept.config.trainer
    tuned = {key_of(name) for name in trial.params}
    place = [] if folder is None else [f"--config-dir={folder}"]
    settled = {f"trainer.{key}": trainer[key] for key in ("epochs", "batch_size")}  # tuned, the file has it
    length = [f"{key}={value}" for key, value in settled.items() if key not in tuned]
    train = command_line("train.py", [*place, f"dataset={dataset}", f"surrogate={surrogate}", *length])
    rows = [(name, f"{both['test'][name]:.4g}", f"{both['val'][name]:.4g}") for name in both["test"]]
    return "\n".join(
        [
            f"trial {trial.number} of {kept.name} is the default of {dataset} and {surrogate} now: {path}\n",
            difference,
            "",
            table(("", "test, chosen by it", "val, seen by no choice"), rows),
            "",
            f"{train}               # uses it",
            f"{train} optimal=off   # does not",
        ]
    )


if __name__ == "__main__":
    from codes.results.command import run

    run(__doc__, {"pick": "auto"}, main)
