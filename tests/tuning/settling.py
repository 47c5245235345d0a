"""Studies with a few finished trials, settled as launches settle them: what several tests start from, and look at."""

import shlex
from pathlib import Path

from omegaconf import OmegaConf

from codes import storage
from codes.tuning.fidelity import settle_config
from codes.tuning.ledger import Ledger
from codes.tuning.outcomes import Outcome, Verdict
from codes.tuning.plan import plan_study
from tests.tuning.studies import composed, study_in

SPACE = "search_space.learning_rate"


def settle(config, overrides=(), replan=plan_study):
    """The plan that a launch with ``config`` goes on with; the launch ends at once."""
    with storage.opened(OmegaConf.to_object(config.storage)) as database:
        plan, presence = settle_config(plan_study(config), database, overrides, replan)
        presence.leave()
        return plan


def begin(folder, *overrides, trials=4, whole_space=True):
    """A study with ``trials`` finished trials: complete, pruned and failed ones, with a model of each complete one."""
    config = composed(folder, *overrides, whole_space=whole_space)
    with storage.opened(OmegaConf.to_object(config.storage)) as database:
        plan, presence = settle_config(plan_study(config), database, (), plan_study)
        ledger = Ledger(presence.study, trials + 9, presence, lambda: database.claiming(plan.name))
        presence.study.sampler = plan.sampler(0)
        for number in range(trials):
            trial = ledger.claim("cpu", "cpu", 42)
            plan.space.sample(trial, plan.config)
            outcome = (Outcome.COMPLETE, Outcome.COMPLETE, Outcome.PRUNED, Outcome.FAILED)[number % 4]
            values = [float(number), 1.0][: len(plan.objective.metrics)] if outcome is Outcome.COMPLETE else []
            if plan.objective.is_single:
                trial.report(number + 0.5, 10)
            ledger.settle(trial, Verdict(outcome, f"reason {number}"), values)
            if values:
                model = plan.folder / "models" / str(number)
                model.mkdir(parents=True)
                (model / "model").write_text(f"model {number}")
        presence.leave()
    return plan


def facts(study):
    """What makes up a trial, in an order."""
    return [
        (t.number, t.state, t.values, t.params, t.intermediate_values, t.user_attrs, t.datetime_complete)
        for t in study.get_trials()
    ]


def everything_in(folder):
    """Contents of all files but the database's, and all trials."""
    files = {str(path): path.read_bytes() for path in Path(folder, "out").rglob("*") if path.is_file()}
    return files, facts(study_in(folder)), study_in(folder).user_attrs.get("config")


def resumed_as(command, folder):
    """Config that a printed command composes, with the whole space."""
    return composed(folder, *shlex.split(command.replace("\\\n", " "))[2:], whole_space=True)


def way_back(printed):
    """The command that is printed under a backup."""
    return printed.split("go on with it by\n", 1)[1].split("\n\n")[0]
