"""What someone new types, and what the screen then says."""

import itertools
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import codes
import train
from codes import arguments, cli, resolvers, schema
from codes.errors import UserError
from tests.command import ROOT, SMALL, run, start
from tests.data.files import arrays, store
from tests.tuning.studies import until

DATASETS = sorted(path.stem for path in (ROOT / "conf/dataset").glob("*.yaml"))
GENERATED = [name for name in DATASETS if "source: generate" in (ROOT / f"conf/dataset/{name}.yaml").read_text()]
SURROGATES = sorted(path.stem for path in (ROOT / "conf/surrogate").glob("*.yaml"))


@pytest.mark.parametrize("script", ["train.py", "tune.py"])
def test_help_shows_groups_choices_and_six_examples(script, tmp_path):
    result = run(script, "--help", folder=tmp_path)
    assert result.returncode == 0
    assert len(re.findall(rf"^  python {script}", result.stdout, re.M)) == 6
    words = set(re.split(r"[\s,]+", result.stdout))
    assert words >= {*DATASETS, *SURROGATES}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("script", ["train.py", "tune.py"])
@pytest.mark.parametrize("arguments", [["--cfg", "job", "--resolve"], ["--info", "defaults"], ["-sc", "query=bash"]])
def test_looking_imports_no_torch_and_writes_nothing(script, arguments, tmp_path):
    spy = tmp_path / "spy" / "torch.py"
    spy.parent.mkdir()
    spy.write_text("raise SystemExit('torch was imported')")
    line = f"python {script} surrogate=Multi"
    before = sorted(tmp_path.rglob("*"))
    result = run(
        script, *arguments, folder=tmp_path, PYTHONPATH=str(spy.parent), COMP_LINE=line, COMP_POINT=str(len(line))
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()
    assert [path for path in sorted(tmp_path.rglob("*")) if "__pycache__" not in str(path)] == before


def test_tab_completes_a_surrogate(tmp_path):
    line = "python train.py surrogate=Multi"
    result = run("train.py", "-sc", "query=bash", folder=tmp_path, COMP_LINE=line, COMP_POINT=str(len(line)))
    assert result.stdout.split() == ["surrogate=MultiONet"]


def test_what_was_typed_keeps_its_interpolations():
    overrides = ["surrogate.trunk_hidden_layers=${surrogate.branch_hidden_layers}", "seed=7"]
    schema.register()
    resolvers.register()
    with initialize_config_dir(str(ROOT / "conf")):
        config = compose("tune", overrides=overrides, return_hydra_config=True)
    assert arguments.typed(config.hydra) == overrides and config.surrogate.trunk_hidden_layers > 0


def test_a_study_may_look_at_its_job(tmp_path):
    typed = ['dataset.data_dir="${hydra:runtime.cwd}/data"', "trials=1", "pruner=none", *SMALL]
    result = run("tune.py", *typed, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert list(tmp_path.glob("data/robertson_*.h5"))
    again = run("tune.py", *typed, "trials=2", "on_config_change=abort", folder=tmp_path)
    assert again.returncode == 0, again.stderr


def test_a_terminal_without_greek_letters_and_none_at_all(tmp_path, data_dir):
    ascii_only = {"PYTHONIOENCODING": "ascii", "CODES_DATA_DIR": data_dir}
    result = run("train.py", *SMALL, folder=tmp_path, **ascii_only)
    assert result.returncode == 0, result.stderr
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    result = run("tune.py", *SMALL, "trials=1", "pruner=none", folder=tmp_path, prefix=closed, **ascii_only)
    assert result.returncode == 0 and (tmp_path / "outputs/tuned/robertson/MultiONet/report.html").exists()


def test_closed_streams_lead_nowhere_in_children_too():
    """Else the next file that a worker opens takes the number of its standard error.

    The first number that is free may be a library's by then (libffi's own file, on Debian 14): it keeps it.
    """
    numbers = (0, 1, 2) if sys.version_info < (3, 14) else (1, 2)
    main = f"lambda: sys.exit(not all(map(os.get_inheritable, {numbers})))"
    code = f"import os, sys; from codes import cli; cli.run({main})"
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code]
    assert subprocess.run(command, cwd=ROOT).returncode == 0


def test_the_worst_quantity_is_named_where_there_are_several(tmp_path, data_dir):
    result = run("train.py", *SMALL, folder=tmp_path, CODES_DATA_DIR=data_dir)
    assert result.returncode == 0, result.stderr
    (path,) = tmp_path.rglob("metrics.yaml")
    content = yaml.safe_load(path.read_text())
    errors = content["by_quantity"]["val"]["lae99"]
    worst = max(errors, key=errors.get)
    assert f"worst of 3 quantities on val: {worst}, lae99 {errors[worst]:.4g} dex\n" in result.stdout
    columns = (content[name]["lae99"] for name in ("test", "val", "mean_trajectory"))
    assert f"\nlae99           {''.join(f'{error:>12.4g}' for error in columns)}  dex\n" in result.stdout
    splits = (content[name] for name in ("test", "val", "mean_trajectory"))
    one = train.summary(*splits, {worst: 1.0}, "dex", path.parent)
    assert "lae99" in one and "worst of" not in one


def test_windows_is_told_before_anything_is_done(monkeypatch):
    monkeypatch.setattr("sys.platform", "win32")
    with pytest.raises(SystemExit, match="Windows"):
        cli.run(lambda: pytest.fail("it ran"))


def test_a_name_has_room_for_the_mark_of_a_backup():
    name = "x" * 120
    assert resolvers.folder_name(f"{name}.bak-20261128-101530-2") == f"{name}.bak-20261128-101530-2"
    with pytest.raises(UserError, match="has 121"):
        resolvers.folder_name(f"{name}x.bak-20261128-101530")


def test_multirun_trains_each_surrogate_with_each_seed(tmp_path, data_dir):
    arguments = ["-m", "surrogate=MultiONet,FullyConnected", "seed=1,2"]
    result = run("train.py", *arguments, *SMALL, folder=tmp_path, CODES_DATA_DIR=data_dir)
    assert result.returncode == 0, result.stderr
    scores = [yaml.safe_load(path.read_text())["val"]["lae99"] for path in tmp_path.rglob("metrics.yaml")]
    assert len(scores) == len(set(scores)) == 4


def test_the_optuna_sweeper_optimises_train(tmp_path, data_dir):
    arguments = ["-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "surrogate.hidden_size=int(interval(4,8))"]
    result = run("train.py", *arguments, *SMALL, folder=tmp_path, CODES_DATA_DIR=data_dir)
    assert result.returncode == 0, result.stderr
    best = yaml.safe_load(next(tmp_path.rglob("optimization_results.yaml")).read_text())
    scores = [yaml.safe_load(path.read_text())["test"]["lae99"] for path in tmp_path.rglob("metrics.yaml")]
    assert len(scores) == 3
    assert best["best_value"] == pytest.approx(min(scores))


def test_the_optuna_sweeper_optimises_each_metric_of_the_objective(tmp_path, data_dir):
    arguments = ["-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "surrogate.hidden_size=int(interval(4,8))"]
    result = run("train.py", *arguments, "objective=dual", *SMALL, folder=tmp_path, CODES_DATA_DIR=data_dir)
    assert result.returncode == 0, result.stderr
    best = yaml.safe_load(next(tmp_path.rglob("optimization_results.yaml")).read_text())
    assert {len(solution["values"]) for solution in best["solutions"]} == {2}


@pytest.mark.parametrize("typed", ["minimize", "[minimize]", "null", "[minimize,maximize]"])
def test_another_direction_than_that_of_the_objective_is_refused_before_anything_runs(typed, tmp_path):
    arguments = ["-m", "hydra/sweeper=optuna", "surrogate.hidden_size=int(interval(4,8))", "objective=dual"]
    result = run("train.py", *arguments, f"hydra.sweeper.direction={typed}", *SMALL, folder=tmp_path)
    assert result.returncode == 1 and not result.stdout and not list(tmp_path.rglob("*.*"))
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: hydra.sweeper.direction: must be ['minimize', 'minimize'], a direction for each of")


@pytest.mark.parametrize(
    "swept", ["objective=accuracy,dual", "+hydra.sweeper.params={objective: 'choice(accuracy,dual)'}"]
)
def test_an_objective_that_the_optuna_sweeper_changes_is_refused_before_anything_runs(swept, tmp_path):
    result = run("train.py", "-m", "hydra/sweeper=optuna", swept, *SMALL, folder=tmp_path)
    assert result.returncode == 1 and not result.stdout and not list(tmp_path.rglob("*.*"))
    assert result.stderr.startswith("error: objective: must be one for all jobs of hydra/sweeper=optuna,")


def test_a_sweeper_that_has_nothing_to_choose_is_refused_before_anything_runs(tmp_path):
    result = run("train.py", "-m", "hydra/sweeper=optuna", *SMALL, folder=tmp_path)
    assert result.returncode == 1 and not result.stdout and not list(tmp_path.rglob("*.*"))
    assert result.stderr.startswith("error: hydra/sweeper=optuna: must have something to choose,")


def test_a_sweeper_that_optimises_is_refused_over_studies_before_anything_runs(tmp_path):
    result = run("tune.py", "-m", "hydra/sweeper=optuna", "surrogate.hidden_size=int(interval(4,8))", folder=tmp_path)
    assert result.returncode == 1 and not result.stdout and not list(tmp_path.rglob("*.*"))
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: hydra/sweeper: must be basic,") and line.endswith("give it to train.py -m")


def test_a_second_training_keeps_the_first(tmp_path, data_dir):
    exported = tmp_path / "outputs/trained/robertson/MultiONet/model.pt2"
    for seed in (1, 2):
        run("train.py", *SMALL, f"seed={seed}", folder=tmp_path, CODES_DATA_DIR=data_dir)
        if seed == 1:
            exported.write_text("of the first")
    assert [path.read_text() for path in exported.parent.glob("backup-*/model.pt2")] == ["of the first"]
    assert not exported.exists()
    scores = {yaml.safe_load(path.read_text())["val"]["lae99"] for path in tmp_path.rglob("metrics.yaml")}
    assert len(scores) == 2


def test_a_training_without_a_score_is_kept(tmp_path):
    given = arrays()
    given["val"][0] = 1e38  # what a network makes of it does not fit float32
    store(tmp_path / "my.h5", given)
    result = run("train.py", "dataset=hdf5", "dataset.path=my.h5", *SMALL[3:], folder=tmp_path)
    assert result.returncode == 1
    folder = tmp_path / "outputs/trained/hdf5/MultiONet"
    assert f", on val, which has no score; the trained surrogate is in {folder}\n" in result.stderr
    x0, t = given["train"][:, 0], given["timesteps"]
    assert np.isfinite(codes.load(folder).predict(x0, t, given["train_params"])).all()


def test_a_killed_training_goes_on(tmp_path, data_dir):
    settings = [*SMALL[:3], "trainer.epochs=100000", "trainer.checkpoint_every=5"]
    checkpoint = tmp_path / "outputs/trained/robertson/MultiONet/checkpoint.safetensors"
    with start(str(ROOT / "train.py"), *settings, folder=tmp_path, CODES_DATA_DIR=data_dir) as process:
        until(lambda: checkpoint.exists() or process.poll() is not None)
        assert process.poll() is None
        process.kill()
    kept = checkpoint.read_bytes()
    refused = run("train.py", *SMALL, "trainer.resume=true", folder=tmp_path, CODES_DATA_DIR=data_dir)
    assert refused.returncode == 1
    assert "trainer.epochs" in refused.stderr
    assert checkpoint.read_bytes() == kept
    assert run("train.py", *SMALL, folder=tmp_path, CODES_DATA_DIR=data_dir).returncode == 0
    assert [path.read_bytes() for path in checkpoint.parent.glob("backup-*/checkpoint.safetensors")] == [kept]


@pytest.mark.parametrize("flags", [["-m"], ["trainer.resume=false", "hydra.run.dir=outputs/trained/own"]])
def test_an_interrupted_training_says_how_to_go_on(flags, tmp_path, data_dir):
    settings = [*SMALL[:3], "trainer.epochs=500", "trainer.checkpoint_every=5"]
    with start(str(ROOT / "train.py"), *flags, *settings, folder=tmp_path, CODES_DATA_DIR=data_dir) as process:
        until(lambda: list(tmp_path.rglob("checkpoint.safetensors")) or process.poll() is not None)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        shown = process.communicate()[0]
    (kept,) = tmp_path.rglob("checkpoint.safetensors")
    assert process.returncode == 130 and shown.count("trainer.resume=") == 1
    typed = re.search(r"go on from the last checkpoint with\n  python (.*)", shown.replace("\\\n", ""))[1]
    result = run(*shlex.split(typed), folder=tmp_path, CODES_DATA_DIR=data_dir)
    assert result.returncode == 0, result.stderr
    assert (kept.parent / "metrics.yaml").exists()
    assert "from scratch" not in (kept.parent / "train.log").read_text()


ALL, ONE_OF = list(SURROGATES), itertools.cycle(SURROGATES)
PAIRS = [("own.h5", ALL), *((name, ALL if name == "lv_parametric" else [next(ONE_OF)]) for name in GENERATED)]


@pytest.mark.slow
@pytest.mark.parametrize(("dataset", "families"), PAIRS)
def test_datasets_with_surrogates(dataset, families, tmp_path, data_dir):
    arguments = [f"dataset={dataset}", *SMALL]
    if dataset == "own.h5":
        run("train.py", *SMALL, folder=tmp_path, CODES_DATA_DIR=data_dir)
        own = next(Path(data_dir).glob("robertson*.h5"))
        arguments = ["dataset=hdf5", f"dataset.path={own}", *SMALL[3:]]
    each = f"surrogate={','.join(families)}"
    result = run("train.py", "-m", *arguments, each, folder=tmp_path, CODES_DATA_DIR=data_dir)
    assert result.returncode == 0, result.stderr
    scores = {path.parent.name: yaml.safe_load(path.read_text())["val"]["lae99"] for path in trained_in(tmp_path)}
    assert len(scores) == len(families) and all(score > 0 for score in scores.values())


def trained_in(folder):
    return (folder / "outputs/trained").glob("sweep_*/*/metrics.yaml")


def in_namespace(script: str) -> tuple[str, ...]:
    """Prefix that runs a command after ``script`` in a mount namespace of its own."""
    as_root = ("--map-root-user",) if os.geteuid() != 0 else ()
    prefix = ("unshare", *as_root, "--mount", "sh", "-c", f'{script} && exec "$@"', "sh")
    if subprocess.run([*prefix, "true"], capture_output=True, cwd="/").returncode != 0:
        pytest.skip("this machine allows no mount namespaces")
    return prefix


@pytest.mark.parametrize(
    ("script", "there"), [("train.py", ""), ("tune.py", ""), ("tune.py", "tuned/robertson/MultiONet")]
)
def test_read_only_outputs(script, there, tmp_path, data_dir):
    """There is nothing yet, or the log of an earlier launch."""
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    before = f"mkdir -p {outputs}/{there} && touch {outputs}/{there}/tune.log"
    prefix = in_namespace(f"mount -t tmpfs tmpfs {outputs} && {before} && mount -o remount,ro {outputs}")
    result = run(script, *SMALL, folder=tmp_path, prefix=prefix, CODES_DATA_DIR=data_dir)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "Read-only file system" in result.stderr and "outputs" in result.stderr


@pytest.mark.parametrize("script", ["train.py", "tune.py"])
@pytest.mark.parametrize("kilobytes", [4, 100])
def test_full_disk(script, kilobytes, tmp_path, data_dir):
    (tmp_path / "outputs").mkdir()
    prefix = in_namespace(f"mount -t tmpfs -o size={kilobytes}k tmpfs {tmp_path}/outputs")
    result = run(script, *SMALL, folder=tmp_path, prefix=prefix, CODES_DATA_DIR=data_dir)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "No space left on device" in result.stderr or "disk is full" in result.stderr
    assert f"{tmp_path}/outputs" in result.stderr


def test_memory_that_python_does_not_find_is_told_without_an_amount():
    told = "out of memory; a smaller network, trainer.batch_size or dataset takes less"
    assert cli.explain(MemoryError()) == told


def test_a_failure_of_a_file_that_has_no_number_is_told_in_its_own_words():
    """As of HDF5."""
    assert cli.explain(OSError("Unable to open file")) == "Unable to open file"
    assert cli.explain(FileNotFoundError(2, "No such file or directory", "a.h5")) == "No such file or directory: a.h5"


def test_a_network_that_cannot_be_allocated_is_one_error(tmp_path, data_dir):
    """A layer of 40 GB where 16 GB of addresses are left, as a container or a cluster limits them."""
    limited = ("sh", "-c", 'ulimit -v 16000000 && exec "$@"', "sh")
    large = ["surrogate=FullyConnected", "surrogate.hidden_size=100000", "trainer.check_memory=false"]
    result = run("train.py", *SMALL, *large, folder=tmp_path, prefix=limited, CODES_DATA_DIR=data_dir)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "\nerror: out of memory: can't allocate memory: you tried to allocate 40000000000 bytes" in result.stderr
    assert "; a smaller network, trainer.batch_size or dataset takes less\n" in result.stderr


def test_a_suggested_command_is_broken_where_a_shell_joins_it_again(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/some where/train.py"])
    words = [f"surrogate.hidden_size={size}" for size in range(20)] + ["note=a b"]
    told = arguments.command_line("tune.py", words)
    assert shlex.split(told.replace("\\\n", "")) == ["python", "/some where/tune.py", *words]
    *broken, last = told.splitlines()
    assert max(map(len, [*broken, last])) <= arguments.WIDTH + 3 and len(broken) > 2
    assert all(line.endswith(" \\") for line in broken) and not last.endswith("\\")


@pytest.mark.parametrize(("name", "flags"), [("tune", []), ("own", ["--config-name=own"])])
def test_a_suggested_command_has_the_config_that_was_chosen(name, flags, tmp_path):
    sources = [{"path": f"{tmp_path}/mine", "provider": "command-line"}, {"path": "conf", "provider": "main"}]
    hydra = {"runtime": {"cwd": str(tmp_path), "config_sources": sources}, "overrides": {"task": ["trials=3"]}}
    config = OmegaConf.create({**hydra, "job": {"name": "tune", "config_name": name}})
    assert arguments.repeated(config) == ["--config-dir=mine", *flags, "trials=3"]


def test_a_suggested_command_names_the_script_where_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", [str(ROOT / "codes/promote.py")])
    for folder, named in ((ROOT, "train.py"), (tmp_path, str(ROOT / "train.py"))):
        monkeypatch.chdir(folder)
        assert arguments.script("train.py") == named
    assert arguments.script("gone.py") == "gone.py"  # as where the package is installed without the scripts
