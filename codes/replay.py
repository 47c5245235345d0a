"""Write the config of one trial of a study, from which train.py repeats it: the same value, bit for bit on the CPU.

    python -m codes.replay tuning_id=robertson surrogate=MultiONet trial=17
    python -m codes.replay tuning_id=robertson surrogate=MultiONet            # its best trial, or its knee
    python -m codes.replay tuning_id=robertson surrogate=MultiONet pick=fastest_within=0.05

pick= chooses as that of codes.promote does. The rest is what tune.py takes to find the study: tuning_id, surrogate,
search_space=fine, storage ...
The file is trial_<number>.yaml in the study's folder; the command that trains from it is printed.
"""

from collections.abc import Sequence
from typing import Any

from codes.errors import UserError


def main(values: dict[str, Any], overrides: Sequence[str]) -> str:
    """Write the file; the command that uses it."""
    from codes.results.opening import opened_study
    from codes.results.replay import write_config
    from codes.results.select import AUTO, select

    with opened_study(overrides) as kept:
        trials = kept.trials()
        if values["trial"] == AUTO:
            trial = select(kept.study, values["pick"])
        elif values["pick"] != AUTO:
            raise UserError(f"trial={values['trial']} and pick={values['pick']} both choose; give one of them")
        else:
            numbered = {str(trial.number): trial for trial in trials}
            if values["trial"] not in numbered:
                raise UserError(f"trial must be one of 0 to {len(trials) - 1} of {kept.name}, but is {values['trial']}")
            trial = numbered[values["trial"]]
        path, command = write_config(kept, trial)
    return f"{path}\n{command}"


if __name__ == "__main__":
    from codes.results.command import run

    run(__doc__, {"trial": "auto", "pick": "auto"}, main)
