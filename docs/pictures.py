"""Pictures of the README and of docs/surrogates.md, from a real run: ``python docs/pictures.py`` (extra ``docs``).

Tunes all four families on Robertson's reaction for accuracy and inference time, ten minutes on two cores, into
``outputs/tuned/pictures``; a second call takes up what is there. Then draws the trials and their fronts, and what the
knee of each front predicts for a trajectory that neither training nor choice has seen.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from omegaconf import OmegaConf

from codes.data import locate, read_dataset
from codes.results.opening import Kept, opened_study
from codes.results.scores import held_out
from codes.results.select import select
from codes.schema import SURROGATE_SCHEMAS
from codes.training import load
from codes.tuning.front import pareto_front
from codes.tuning.ledger import outcome_of
from codes.tuning.models import kept_model
from codes.tuning.outcomes import Outcome

ROOT = Path(__file__).parents[1]
PICTURES = Path(__file__).parent / "pictures"
STUDY = ["tuning_id=pictures", "dataset=robertson"]
RUN = [*STUDY, "objective=dual", "trials=12", "trainer.epochs=30", "devices=[cpu,cpu]", "pruner=none"]
STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "codes"}
COLOURS = dict(zip(SURROGATE_SCHEMAS, ("#0072B2", "#D55E00", "#009E73", "#CC79A7"), strict=True))


def main() -> None:
    """Run what is missing, draw both pictures."""
    command = [sys.executable, "tune.py", "-m", f"surrogate={','.join(SURROGATE_SCHEMAS)}", *RUN]
    subprocess.run(command, cwd=ROOT, check=True)
    PICTURES.mkdir(exist_ok=True)
    plt.rcParams.update(STYLE)
    front, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    predicted, panels = plt.subplots(2, 2, figsize=(7.2, 4.6), sharex=True, sharey=True, layout="constrained")
    for name, panel in zip(SURROGATE_SCHEMAS, panels.flat, strict=True):
        with opened_study([*STUDY, f"surrogate={name}"]) as kept:
            draw_trials(axes, kept, name)
            draw_prediction(panel, kept, name)
    axes.set(xscale="log", yscale="log", xlabel="inference time of 100 trajectories [ms]", ylabel="LAE99 on test [dex]")
    axes.legend(frameon=False)
    for panel in panels[1]:
        panel.set_xlabel("time")
    for panel in panels[:, 0]:
        panel.set_ylabel("mass fraction")
    for figure, file in ((front, "fronts.svg"), (predicted, "predictions.svg")):
        figure.savefig(PICTURES / file, metadata={"Date": None})


def draw_trials(axes: Axes, kept: Kept, name: str) -> None:
    """All complete trials of a study as dots, its Pareto front as steps, its knee as a ring."""
    complete = [trial.values for trial in kept.trials() if outcome_of(trial) is Outcome.COMPLETE]
    errors, seconds = np.array(complete).T
    axes.plot(1e3 * seconds, errors, ".", color=COLOURS[name], alpha=0.4)
    front = np.array(
        sorted((trial.values for trial in pareto_front(kept.trials(), kept.objective)), key=lambda v: v[1])
    )
    axes.step(1e3 * front[:, 1], front[:, 0], ".-", where="post", color=COLOURS[name], label=name)
    error, time = select(kept.study, "knee").values
    axes.plot(1e3 * time, error, "o", markersize=11, markerfacecolor="none", color=COLOURS[name])


def draw_prediction(axes: Axes, kept: Kept, name: str) -> None:
    """The first trajectory of ``val``: truth as lines, the prediction of the knee as dots."""
    knee = select(kept.study, "knee")
    folder = kept_model(kept.folder, knee.number)
    assert folder is not None  # models of the front are kept
    settings: Any = OmegaConf.to_object(kept.config.dataset)
    data = read_dataset(locate(settings))
    x, t = data.val.trajectories[0], data.timesteps
    predicted = load(folder).predict(x[0], t)
    for quantity, label in enumerate(data.labels):
        (line,) = axes.plot(t[1:], x[1:, quantity], linewidth=1, label=label)
        axes.plot(t[1::6], predicted[1::6, quantity], ".", color=line.get_color())
    lae99 = held_out(kept, knee)["lae99"]
    axes.set(xscale="log", yscale="log", title=f"{name}: LAE99 on val {lae99:.2g} dex")


if __name__ == "__main__":
    main()
