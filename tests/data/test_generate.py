"""Generated datasets: same config, same file; whole or not at all; bad requests refused."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from codes.data import read_dataset
from codes.data.generate import generate
from codes.data.systems import SYSTEMS, base
from codes.errors import UserError
from codes.schema import GenerateConfig


def small(name, **changes):
    return GenerateConfig(**{"system": name, "n_train": 6, "n_test": 3, "n_val": 2, "seed": 42, **changes})


def arrays(path):
    dataset = read_dataset(path)
    for _, split in dataset.splits():
        yield split.trajectories
        if split.parameters is not None:
            yield split.parameters


@pytest.mark.parametrize("name", SYSTEMS)
def test_dataset_holds_what_was_asked_for(name, tmp_path):
    path = generate(small(name), tmp_path / "not" / "yet")
    dataset, system = read_dataset(path), SYSTEMS[name]
    assert path.name.startswith(f"{name}_") and path.suffix == ".h5"
    assert [len(split.trajectories) for _, split in dataset.splits()] == [6, 3, 2]
    assert (dataset.labels, dataset.parameter_labels) == (system.labels, system.parameter_labels or ())
    np.testing.assert_array_equal(dataset.timesteps, system.timesteps)
    assert dataset.spec.n_parameters == (3 if name == "lv_parametric" else 0)
    starts = np.concatenate([split.trajectories[:, 0] for _, split in dataset.splits()])
    assert len(np.unique(starts, axis=0)) == 11
    for again, first in zip(arrays(generate(small(name), tmp_path / "elsewhere")), arrays(path), strict=True):
        np.testing.assert_array_equal(again, first)


def test_parameters_belong_to_their_trajectories(tmp_path):
    dataset, system = read_dataset(generate(small("lv_parametric"), tmp_path)), SYSTEMS["lv_parametric"]
    for _, split in dataset.splits():
        for trajectory, parameters in zip(split.trajectories, split.parameters, strict=True):
            np.testing.assert_allclose(system.solve(trajectory[0], parameters).y.T, trajectory, rtol=1e-6)


def test_second_call_reads_the_cache(tmp_path):
    path = generate(small("brusselator"), tmp_path)
    before = path.stat().st_mtime_ns
    assert generate(small("brusselator"), tmp_path) == path
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("change", [{"seed": 1}, {"n_train": 7}, {"n_val": 3}, {"system": "coupled_oscillators"}])
def test_each_config_has_its_own_file(change, tmp_path):
    assert generate(small("brusselator"), tmp_path) != generate(small("brusselator", **change), tmp_path)


def test_seed_changes_the_trajectories(tmp_path):
    first, second = (read_dataset(generate(small("brusselator", seed=seed), tmp_path)).train for seed in (1, 2))
    assert not np.isin(first.trajectories[:, 0], second.trajectories[:, 0]).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"system": "lorenz"}, "dataset.generate.system: 'lorenz' is unknown; choose from robertson, lotka_volterra"),
        ({"n_train": 0}, "dataset.generate.n_train: must be at least 1 but got 0"),
        ({"n_test": -3}, "dataset.generate.n_test: must be at least 1 but got -3"),
        ({"seed": -1}, "dataset.generate.seed: must be at least 0 and less than 4294967296 but got -1"),
    ],
)
def test_bad_requests_are_refused_before_anything_is_made(change, message, tmp_path):
    with pytest.raises(UserError, match=message):
        generate(small("brusselator", **change), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_folder_that_cannot_be_made_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"dataset\.data_dir: .* cannot be made"):
        generate(small("brusselator"), tmp_path / "file")


def explosive(state, parameters):
    """y' = y^2 leaves every bound at t = 1 / y(0)."""
    return state**2


def overflowing(state, parameters):
    return [float(state[0]) ** 1e9, 0.0]


@pytest.mark.parametrize("rhs", [explosive, overflowing])
def test_failed_integration_names_system_index_and_start(rhs, tmp_path, monkeypatch):
    monkeypatch.setattr(base, "MAX_EVALUATIONS", 20_000)
    monkeypatch.setitem(SYSTEMS, "brusselator", replace(SYSTEMS["brusselator"], rhs=rhs))
    with pytest.raises(
        UserError,
        match=r"brusselator: LSODA cannot integrate trajectory \d+ from x = .*, y = .*: .*(no progress|range)",
    ):
        generate(small("brusselator"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_interruption_leaves_nothing(tmp_path, monkeypatch):
    calls = iter(range(500))

    def interrupted(state, parameters):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return SYSTEMS["lotka_volterra"].rhs(state[[0, 0, 0, 1, 1, 1]], None)[[0, 3]]

    monkeypatch.setitem(SYSTEMS, "brusselator", replace(SYSTEMS["brusselator"], rhs=interrupted))
    with pytest.raises(KeyboardInterrupt):
        generate(small("brusselator"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_two_processes_at_once_make_one_whole_file(tmp_path):
    program = (
        "import sys; from pathlib import Path; from codes.data.generate import generate;"
        "from codes.schema import GenerateConfig;"
        "sys.stdin.readline(); print(generate(GenerateConfig('robertson', 6, 3, 2, 42), Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    for process in processes:  # both wait for this line, then start
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    (path,) = tmp_path.iterdir()
    assert {out.strip() for out, _ in outputs} == {str(path)}
    assert len(read_dataset(path).train.trajectories) == 6
    assert all("it/s" not in err for _, err in outputs), "a bar on what is not a terminal"
