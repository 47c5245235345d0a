"""The fine stage: ranges, their centre, and what is kept of both."""

import math
import multiprocessing
import shutil
from dataclasses import fields
from pathlib import Path

import optuna
import pytest
import yaml
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler

from codes import resolvers, schema
from codes.bounds import around, leaves, refine
from codes.errors import UserError
from codes.limits import COUNT, POSITIVE, SEED, Limit
from codes.storage.sqlite import open_file
from codes.tuning.entries import read_space
from codes.tuning.stages import keep_summary, narrow
from codes.tuning.study import run_study
from tests.command import SMALL, run
from tests.tuning.studies import ROOT, RUNNERS, composed, study_in

BELOW_ONE = Limit(0, 1, below=True)
NUMBERS = [  # type and legal range of everything that a search space can tune
    (item.type, item.metadata["limit"])
    for part in (*schema.SURROGATE_SCHEMAS.values(), schema.TrainerConfig)
    for item in fields(part)
    if "limit" in item.metadata and item.type in (int, float)
]


@pytest.mark.parametrize(
    ("value", "factor", "limit", "bounds"),
    [
        (1e-3, 10, POSITIVE, (1e-4, 1e-2)),
        (100, 3, COUNT, (33, 300)),
        (1, 3, COUNT, (1, 3)),
        (1, 1.01, COUNT, (1, 2)),
        (2, 1.1, None, (1, 3)),
        (0.75, 3, BELOW_ONE, (0.25, math.nextafter(1, 0))),
        (0.75, 3, Limit(0, 1), (0.25, 1)),
        (90.0, 3, Limit(0, 100, above=True), (30, 100)),
        (2**31, 4, SEED, (2**29, 2**32 - 1)),
        (2.0**-200, 2, Limit(0), (2.0**-201, 2.0**-199)),
        (1.0, 2, Limit(1, 1), None),
        (0.0, 3, Limit(0), None),
        (0, 3, Limit(0), None),
        (-1.0, 3, None, None),
    ],
)
def test_bounds(value, factor, limit, bounds):
    assert around(value, factor, limit) == bounds


def legal(number):
    """Positive legal values of a number, with its type and limit."""
    kind, limit = number
    if kind is int:
        values = st.integers(max(1, math.ceil(limit.low)), int(min(limit.high, 10**6)))
    else:
        ends = {"exclude_min": limit.above, "exclude_max": limit.below}
        values = st.floats(max(limit.low, 1e-12), min(limit.high, 1e9), **ends)
    return st.tuples(st.just(kind), st.just(limit), values)


@given(st.sampled_from(NUMBERS).flatmap(legal), st.floats(1.001, 1e3), st.integers(0, 1000))
def test_ranges_are_legal_and_as_wide_as_the_factor_and_the_limit_let_them(number, factor, seed):
    kind, limit, value = number
    low, high = around(value, factor, limit)
    assert limit.holds(low) and limit.holds(high) and low < high
    assert 0 < low <= value <= high
    assert low <= max(value / factor, limit.low if kind is float else 1)
    assert high >= min(value * factor, math.nextafter(limit.high, 0))
    distribution = (IntDistribution if kind is int else FloatDistribution)(low, high, log=True)
    sample = RandomSampler(seed).sample_independent(None, None, "x", distribution)
    assert limit.holds(sample) and low <= sample <= high


def test_a_name_that_the_config_does_not_have_is_refused():
    known = {"surrogate": {"name": "MultiONet", "learning_rate": 1e-3}}
    with pytest.raises(UserError, match=r"explore\.learning_rat: surrogate\.learning_rat is not a key of the config"):
        refine(known, {"learning_rat": {"low": 1e-5, "high": 1e-2}}, 3.0, None)


def explored(folder, *overrides):
    """The explore study of the whole search space, and its best trial."""
    config = composed(folder, "pruner=none", "sampler=random", "trials=8", *overrides, whole_space=True)
    run_study(config, RUNNERS + "quadratic")
    return study_in(folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Folder of an explore study."""
    folder = tmp_path_factory.mktemp("explored")
    explored(folder)
    return folder


@pytest.fixture
def study(finished, tmp_path):
    """That study, in the test's own folder."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return study_in(tmp_path)


def narrowed(folder, *overrides):
    """Config of a fine study."""
    places = [f"output_dir={folder}/${{surrogate.name}}_fine", f"fine.summary={folder}/fine_summary.yaml"]
    config = composed(folder, "search_space=fine", "pruner=none", *places, *overrides, whole_space=True)
    with narrow(config, lambda config: None, overrides):
        return config


def ranges(config):
    return {name: (entry["low"], entry["high"]) for name, entry in leaves(OmegaConf.to_container(config.search_space))}


def summary(folder):
    return yaml.safe_load((folder / "fine_summary.yaml").read_text())


def fine_study(folder):
    return optuna.load_study(study_name="robertson_MultiONet_fine", storage=open_file(folder / "study.db"))


@pytest.mark.parametrize("surrogate", list(schema.SURROGATE_SCHEMAS))
def test_composed_ranges_need_no_database(surrogate, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    schema.register()
    resolvers.register()
    with initialize_config_dir(str(ROOT / "conf")):
        config = compose("tune", [f"surrogate={surrogate}", "search_space=fine", "dataset=robertson"])
    space = read_space(config)
    assert config.trials == 10 * len(space) >= 50
    for parameter in space:
        value = OmegaConf.select(config, parameter.key)
        assert parameter.log and parameter.low < value < parameter.high
    names = {parameter.name for parameter in space}
    assert "learning_rate" in names and not names & {"activation", "momentum", "poly_power"}
    assert config.study_name == f"robertson_{surrogate}_fine"
    assert config.output_dir == f"outputs/tuned/robertson/{surrogate}_fine"
    assert list(tmp_path.iterdir()) == []


def test_a_fine_study_searches_around_the_best_trial(tmp_path, study, capsys):
    best = study.best_trial
    config = narrowed(tmp_path, "trials=4")
    numbers = {name: value for name, value in best.params.items() if type(value) in (int, float)}
    assert set(ranges(config)) == set(numbers)
    assert ranges(config)["learning_rate"] == (best.params["learning_rate"] / 3, best.params["learning_rate"] * 3)
    assert all(config.surrogate[name] == value for name, value in best.params.items())
    run_study(config, RUNNERS + "quadratic")
    for trial in fine_study(tmp_path).trials:
        assert all(low <= trial.params[name] <= high for name, (low, high) in ranges(config).items())
    printed = capsys.readouterr().out
    assert f"fine stage around trial {best.number} of robertson_MultiONet, lae99 {best.value:.4g}" in printed
    assert f"activation={best.params['activation']}" in printed
    entry = summary(tmp_path)["MultiONet"]
    assert entry["source"] == {"study": "robertson_MultiONet", "trial": best.number, "values": {"lae99": best.value}}
    assert entry["known"] == best.params
    assert {name: tuple(bounds) for name, bounds in entry["ranges"].items()} == ranges(config)
    assert (entry["study"], entry["trials"]) == ("robertson_MultiONet_fine", 4)


def test_a_resumed_fine_study_keeps_its_centre(tmp_path, study, capsys):
    first = narrowed(tmp_path, "trials=1")
    run_study(first, RUNNERS + "quadratic")
    study.enqueue_trial({**study.best_params, "learning_rate": 1e-3, "activation": "Tanh"})
    better = explored(tmp_path, "trials=9").best_trial
    assert better.number == 8
    capsys.readouterr()
    again = narrowed(tmp_path, "trials=2")
    assert "by now the best of robertson_MultiONet is trial 8" in capsys.readouterr().out
    assert (ranges(again), again.surrogate, again.known) == (ranges(first), first.surrogate, first.known)
    run_study(again, RUNNERS + "quadratic")
    assert len(fine_study(tmp_path).trials) == 2
    assert summary(tmp_path)["MultiONet"]["trials"] == 2
    narrowed(tmp_path, "trials=3", "fine.factor=2")  # the user has not agreed to other ranges yet
    assert (summary(tmp_path)["MultiONet"]["factor"], summary(tmp_path)["MultiONet"]["trials"]) == (3, 2)
    other = narrowed(tmp_path, "fine.name=finer")
    assert other.study_name == "robertson_MultiONet_finer" and other.known.trial == 8


def test_until_its_first_trial_a_fine_study_follows_the_best(tmp_path, study):
    assert narrowed(tmp_path, f"storage.path={tmp_path}/empty.db").known.study is None
    assert summary(tmp_path)["MultiONet"]["source"].startswith("composed configuration")
    storage = open_file(tmp_path / "study.db")
    optuna.create_study(study_name="robertson_MultiONet_fine", storage=storage).enqueue_trial({"learning_rate": 1.0})
    assert narrowed(tmp_path).known.trial == study.best_trial.number


def test_the_centre_of_several_objectives_is_the_knee(tmp_path):
    explored(tmp_path, "objective=dual", "sampler=random")  # its front: time is the inverse of the error
    study = study_in(tmp_path)
    front = sorted(study.best_trials, key=lambda trial: trial.values)
    config = narrowed(tmp_path, "objective=dual")
    assert len(front) > 2 and config.known.trial == front[0].number  # a straight line in logarithms
    assert list(config.known["values"]) == ["lae99", "inference_time"]
    with pytest.raises(UserError, match=r"fine.study: robertson_MultiONet .* objective.metrics=\['lae99'\]"):
        narrowed(tmp_path)


def test_other_keys_are_refined_where_the_study_tuned_them(tmp_path):
    tuned = [
        "+search_space.trainer.batch_size={low: 64, high: 512}",
        "+search_space.trainer.evaluate_every.choices=[5]",
    ]
    best = explored(tmp_path, *tuned, "~search_space.hidden_size").best_trial
    config = narrowed(tmp_path, "fine.factor=2")
    size = best.params["trainer.batch_size"]
    assert ranges(config)["trainer.batch_size"] == (math.floor(size / 2), 2 * size)
    assert (config.trainer.batch_size, config.trainer.evaluate_every) == (size, 5)
    assert not set(ranges(config)) & {"trainer.evaluate_every", "hidden_size"}


def test_what_the_study_had_fixed_comes_along(tmp_path):
    explored(tmp_path, "~search_space.optimizer", "surrogate.optimizer=sgd", "surrogate.momentum=0.6")
    config = narrowed(tmp_path)
    assert config.surrogate.optimizer == "sgd" and "momentum" in ranges(config)
    with pytest.raises(UserError, match="robertson_MultiONet tunes MultiONet, but surrogate=LatentPoly"):
        narrowed(tmp_path, "surrogate=LatentPoly", "fine.study=robertson_MultiONet")


def test_what_cannot_be_refined_is_said_and_stays(tmp_path, capsys):
    overrides = ["optimal=off", "surrogate.regularization_factor=0", "surrogate.eta_min=1"]
    config = narrowed(tmp_path, *overrides)
    assert "not refined: regularization_factor, no range of factors around 0.0" in capsys.readouterr().out
    assert "regularization_factor" not in ranges(config) and ranges(config)["eta_min"][1] == 1
    chosen = narrowed(tmp_path, *overrides, "fine.parameters=[hidden_size,learning_rate]")
    assert set(ranges(chosen)) == {"hidden_size", "learning_rate"}


REFUSED = {
    "fine.parameters: momentum cannot be refined.*tuned and active.*choose from learning_rate": [
        "fine.parameters=[momentum]"
    ],
    "fine.parameters: eta_minimum cannot be refined": ["fine.parameters=[eta_min,eta_minimum]"],
    "nothing scalar to refine .fine.parameters is empty": ["fine.parameters=[]"],
    "nothing scalar to refine .learning_rate: no range of factors around 0.0": [
        "search_space@explore=primordial",
        "~explore.hidden_size",
        "~explore.output_factor",
        "surrogate.learning_rate=0",
    ],
    "fine.factor: must be greater than 1 and at most 1000000.0 but got 1.0": ["fine.factor=1"],
    "fine.factor: must be .* but got 1e\\+300": ["fine.factor=1e300"],
    "trials: must be at least 1": ["trials=0"],
    "search_space.foo": ["+explore.foo.low=1"],
    "draws its ranges itself; remove .search_space.learning_rate={low": [
        "+search_space.learning_rate={low: 1e-4, high: 1e-3}"
    ],
    "draws its ranges itself; remove ~search_space.learning_rate, see fine.factor": ["~search_space.learning_rate"],
    "draws its ranges itself; remove .search_space,": ["search_space={}"],
}


@pytest.mark.parametrize("rule", REFUSED)
def test_refused(rule, tmp_path):
    with pytest.raises(UserError, match=rule):
        narrowed(tmp_path, *REFUSED[rule])
    assert not (tmp_path / "fine_summary.yaml").exists()


def write_entries(path, names):
    for name in names:
        keep_summary(path, name, {"study": name})


def test_no_entry_of_the_summary_is_lost_to_another_process(tmp_path):
    path = tmp_path / "fine_summary.yaml"
    names = [[f"{process}_{entry}" for entry in range(12)] for process in range(4)]
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=write_entries, args=(path, own)) for own in names]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert set(yaml.safe_load(path.read_text())) == {name for own in names for name in own}


def test_a_spoilt_summary_is_named(tmp_path):
    (tmp_path / "fine_summary.yaml").write_text("MultiONet: [")
    with pytest.raises(UserError, match="not valid YAML"):
        keep_summary(tmp_path / "fine_summary.yaml", "LatentPoly", {})


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that can hold no file")
def test_a_summary_in_a_place_without_files_is_named():
    with pytest.raises(UserError, match=r"fine.summary /proc/x.yaml cannot be written .*; choose another place"):
        keep_summary(Path("/proc/x.yaml"), "LatentPoly", {})


@pytest.mark.slow
def test_one_command_refines_several_surrogates(tmp_path):
    outputs = tmp_path / "outputs/tuned/robertson"
    best = explored(outputs, "trials=2").best_trial
    several = ["-m", "surrogate=MultiONet,FullyConnected", "search_space=fine", "trials=1", "pruner=none"]
    result = run("tune.py", *several, *SMALL, folder=tmp_path, CODES_DATA_DIR=str(tmp_path))
    assert result.returncode == 0, result.stderr
    entries = summary(outputs)
    assert entries["MultiONet"]["source"]["trial"] == best.number
    assert entries["FullyConnected"]["source"].startswith("composed configuration")
    assert (outputs / "MultiONet_fine/trials.csv").exists() and (outputs / "FullyConnected_fine/trials.csv").exists()
