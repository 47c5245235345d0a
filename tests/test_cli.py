"""What someone new types, and what the screen then says."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_dir

from codes import arguments, cli, groups, resolvers, schema
from codes.errors import UserError
from tests.command import ROOT, SMALL, run

DATASETS = sorted(path.stem for path in (ROOT / "conf/dataset").glob("*.yaml"))
GENERATED = [name for name in DATASETS if "source: generate" in (ROOT / f"conf/dataset/{name}.yaml").read_text()]
SURROGATES = sorted(path.stem for path in (ROOT / "conf/surrogate").glob("*.yaml"))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """One cache of generated datasets for all tests here."""
    return str(tmp_path_factory.mktemp("datasets"))


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


BAD_INPUT = [
    ("train.py", ["surrogate=MultiOnet"], ["MultiOnet", *SURROGATES]),
    ("train.py", ["surrogate.hidden_size=big"], ["surrogate.hidden_size", "big", "Integer"]),
    ("train.py", ["surrogate.hiden_size=8"], ["hiden_size", "hidden_size", "output_factor"]),
    (
        "train.py",
        ["+trainer.epoch=3"],
        ["error: trainer.epoch: there is no such key; did you mean epochs? trainer has"],
    ),
    ("tune.py", ["++surrogate.depth=3"], ["error: surrogate.depth: there is no such key; surrogate has name, "]),
    ("tune.py", ["+epochs=3"], ["error: epochs: there is no such key; the config has dataset, "]),
    ("tune.py", ["+dataset.generate.n_trian=3"], ["error: dataset.generate.n_trian: ", "did you mean n_train?"]),
    (
        "train.py",
        ["trainer.epoch=4"],
        ["'trainer.epoch'.\nKey 'epoch' not in 'TrainerConfig'. Did you mean: 'epochs'?"],
    ),
    ("train.py", ["epochs=4"], ["'epochs'.\nKey 'epochs' not in 'TrainRunConfig'\nkeys here: hydra, dataset, "]),
    ("tune.py", ["sampler.foo=4"], ["To append to your config use +sampler.foo=4\n", "keys here: _target_, seed, "]),
    ("tune.py", ["hydra.foo=4"], ["To append to your config use +hydra.foo=4\n"]),
    ("tune.py", ["fine.factor=2"], ["error: fine.factor: is of the fine stage only; add search_space=fine\n"]),
    ("tune.py", ["devices=cpu"], ["error: devices: must be a list but got cpu; type devices=[cpu]\n"]),
    ("train.py", ["objective.metrics=lae99"], ["error: objective.metrics: ", "type objective.metrics=[lae99]\n"]),
    ("train.py", ["--config-dir", "nowhere"], ["error: --config-dir: ", "/nowhere is not a folder; make it first\n"]),
    (
        "tune.py",
        ["search_space.beta.when=${and:${eq:${surrogate.optimizer},sgd},true}"],
        ["""inside those of the shell: 'search_space.beta.when="${and:${eq:${surrogate.optimizer},sgd},true}"'\n"""],
    ),
    ("train.py", ["surrogate.hidden_size=0"], ["surrogate.hidden_size", "0"]),
    ("train.py", ["surrogate.activation=Relu"], ["Relu", "ReLU", "GELU"]),
    ("train.py", ["surrogate.learning_rate=-1"], ["surrogate.learning_rate", "-1"]),
    ("train.py", ["trainer.epochs=0"], ["trainer.epochs", "0"]),
    ("train.py", ["objective.metrics=[lae98]"], ["lae98", "lae99"]),
    ("train.py", ["dataset=hdf5"], ["dataset.path"]),
    ("train.py", ["dataset=hdf5", "dataset.path=nowhere.h5"], ["dataset.path", "nowhere.h5"]),
    ("train.py", ["device=cuda:99"], ["cuda:99"]),
    ("train.py", ["device=gpu"], ["gpu"]),
    ("tune.py", ["surrogate=MultiOnet"], ["MultiOnet", *SURROGATES]),
    ("tune.py", ["search_space.learning_rate.low=1"], ["search_space.learning_rate", "low", "1"]),
    ("tune.py", ["search_space.learning_rate.lo=1"], ["lo", "low"]),
    ("tune.py", ["+search_space.hiden_size={type: int, low: 1, high: 2}"], ["hiden_size", "hidden_size"]),
    (
        "tune.py",
        ["search_space.momentum.when='${gt:${surrogate.activation},0}'"],
        ["error: search_space.momentum.when: ${gt:${surrogate.activation},0} cannot be resolved", "'str' and 'int'\n"],
    ),
    ("tune.py", ["dataset=hdf5", "dataset.path=nowhere.h5"], ["dataset.path", "nowhere.h5"]),
    ("tune.py", ["devices=[cuda:99]"], ["cuda:99"]),
    ("tune.py", ["devices=[]"], ["devices"]),
    ("tune.py", ["trials=0"], ["trials", "0"]),
    ("tune.py", ["surrogate.momentum=1.5"], ["error: surrogate.momentum", "less than 1", "1.5"]),
    ("tune.py", ["trainer.batch_size=0"], ["error: trainer.batch_size", "0"]),
    (
        "tune.py",
        ["pruner=null"],
        ["error: pruner: cannot be null; type pruner=none, or ", "(choices: accuracy, "],
    ),
    ("tune.py", ["~search_space"], ["error: search_space: cannot be taken out; ", "(choices: FullyConnected, "]),
    ("train.py", ["storage=null"], ["error: storage: cannot be null; leave it out, train.py has no storage\n"]),
    ("tune.py", ["storage=oracle"], ["oracle", "sqlite"]),
    ("tune.py", ["storage=postgres", "storage.pasword=x"], ["error: storage.pasword: is not", "mean password?"]),
    ("tune.py", ["tuning_id=../x"], ["error: tuning_id", "one folder", "'../x'"]),
    ("tune.py", ["tuning_id=/tmp/x", "storage=journal"], ["error: tuning_id", "'/tmp/x'"]),
    ("tune.py", ["tuning_id='a\nb'"], ["error: tuning_id", r"'a\nb'"]),
    ("tune.py", [f"tuning_id={'x' * 300}"], ["error: tuning_id", "120 bytes", "300"]),
    ("tune.py", ["tuning_id=''"], ["error: tuning_id"]),
    ("tune.py", ["search_space=fine", "fine.name=a/b"], ["error: tuning_id, training_id and fine.name", "'a/b'"]),
    ("tune.py", ["tuning_id=..", "search_space=fine"], ["error: tuning_id", "'..'"]),
    (
        "train.py",
        ["training_id=../../x"],
        ["error: tuning_id, training_id and fine.name", "'../../x'"],
    ),
]


@pytest.mark.parametrize(("script", "arguments", "expected"), BAD_INPUT, ids=lambda value: str(value)[:50])
def test_bad_input_is_one_clear_error(script, arguments, expected, tmp_path, data_dir):
    result = run(script, *SMALL[3:], *arguments, folder=tmp_path, CODES_DATA_DIR=data_dir)
    assert result.returncode != 0
    assert not re.search("Traceback|full_key|_type=", result.stderr)
    assert all(word in result.stderr for word in expected), result.stderr
    assert not list(tmp_path.rglob("*.safetensors")) + list(tmp_path.rglob("study.db"))


@pytest.mark.parametrize("argument", ["{}=null", "+{}=null", "{}@x=[]", "{}=x,null", "~{}", "~{}=x"])
@pytest.mark.parametrize("group", groups.INSTEAD)
def test_groups_need_a_choice(group, argument, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tune.py"])
    own = tmp_path / group / "own.yaml"
    own.parent.mkdir()
    own.touch()
    arguments = ["trials=3", argument.format(group), f"--config-dir={tmp_path}"]
    if argument.startswith("~") and group in groups.OPTIONAL:
        groups.refuse_none(arguments)
        return
    with pytest.raises(UserError, match=rf"^{group}: cannot be .*; .* \(choices: .*own"):
        groups.refuse_none(arguments)


@pytest.mark.parametrize("argument", ["hydra/sweeper=null", "experiment=null", "+experiment=[]"])
def test_groups_that_are_left_out_are_not_null(argument):
    with pytest.raises(UserError, match=r"cannot be .*; leave it out"):
        groups.refuse_none([argument])


def test_null_and_a_tilde_are_for_keys():
    groups.refuse_none(["trials=null", "+trainer.threads=null", "devices=[]", "~trials", "~search_space.beta"])


PACKAGE = "the first line of that file must be `# @package _global_`"
OWN_FILES = {
    "experiment/bare": ("trials: 3", f"error: experiment/bare: {PACKAGE}"),
    "experiment/groups": ("defaults: [override /dataset: robertson]", f"error: experiment/groups: {PACKAGE}"),
    "experiment/text": ("# @package _global_\ndevices: cpu", "error: devices: must be a list; put the value of 'ex"),
    "experiment/chosen": ("# @package _global_\ndefaults: [override /pruner: null]", "error: pruner: must be set, on"),
    "experiment/empty": ("# @package _global_\nsearch_space: null", "error: search_space is empty; add a parameter"),
    "dataset/own": ("{name: own, source: file, path: x.h5}", "error: dataset.data_dir: must be set; the file of a"),
}


@pytest.mark.parametrize("name", OWN_FILES)
def test_a_config_file_of_ones_own_that_lacks_something(name, tmp_path):
    text, expected = OWN_FILES[name]
    path = tmp_path / f"mine/{name}.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(f"{text}\n")
    choice = name.replace("/", "=").replace("experiment", "+experiment")
    result = run("tune.py", "--config-dir", "mine", choice, folder=tmp_path)
    assert result.returncode == 1 and not re.search("Traceback|full_key|_type=", result.stderr)
    assert expected in result.stderr, result.stderr


@pytest.mark.parametrize("text", ["@sesame", "[sesame", "'sesame", "a: sesame", "*sesame"])
@pytest.mark.parametrize("command", [[str(ROOT / "train.py")], ["-m", "codes.status"]], ids=["train", "status"])
def test_a_config_file_that_is_no_yaml(command, text, tmp_path):
    """Its place is told, not its text, which may be a password."""
    own = tmp_path / "mine/experiment/own.yaml"
    own.parent.mkdir(parents=True)
    own.write_text(f"# @package _global_\nstorage:\n  password: {text}\n")
    typed = [sys.executable, *command, "--config-dir", "mine", "+experiment=own"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(typed, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 1
    assert re.fullmatch(rf"error: {own}, line [34]: is no YAML; put text .* in quotes\n", result.stderr)
    assert "sesame" not in result.stdout


@pytest.mark.parametrize(("value", "log10", "said"), [(np.nan, "false", "nan"), (-1.0, "true", "log10_transform")])
def test_data_that_no_training_could_use_start_no_study(value, log10, said, tmp_path):
    x = np.ones((6, 4, 2))
    x[3, 2, 1] = value
    path = tmp_path / "own.h5"
    with h5py.File(path, "w") as file:
        for split in ("train", "test", "val"):
            file[split] = x if split == "train" else np.ones((2, 4, 2))
    typed = ["dataset=hdf5", f"dataset.path={path}", f"dataset.log10_transform={log10}", "dataset.tolerance=null"]
    result = run("tune.py", *typed, "trials=1", "pruner=none", folder=tmp_path)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert re.search(rf"error: .*own\.h5.*{said}", result.stderr), result.stderr
    assert not list(tmp_path.rglob("study.db"))


def test_what_was_typed_keeps_its_interpolations():
    overrides = ["surrogate.trunk_hidden_layers=${surrogate.branch_hidden_layers}", "seed=7"]
    schema.register()
    resolvers.register()
    with initialize_config_dir(str(ROOT / "conf")):
        config = compose("tune", overrides=overrides, return_hydra_config=True)
    assert arguments.typed(config.hydra) == overrides and config.surrogate.trunk_hidden_layers > 0


def test_a_terminal_without_greek_letters_and_none_at_all(tmp_path, data_dir):
    ascii_only = {"PYTHONIOENCODING": "ascii", "CODES_DATA_DIR": data_dir}
    result = run("train.py", *SMALL, folder=tmp_path, **ascii_only)
    assert result.returncode == 0, result.stderr
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    result = run("tune.py", *SMALL, "trials=1", "pruner=none", folder=tmp_path, prefix=closed, **ascii_only)
    assert result.returncode == 0 and (tmp_path / "outputs/tuned/robertson/MultiONet/report.html").exists()


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


def test_a_killed_training_goes_on(tmp_path, data_dir):
    settings = [*SMALL[:3], "trainer.epochs=100000", "trainer.checkpoint_every=5"]
    command = [sys.executable, str(ROOT / "train.py"), *settings]
    checkpoint = tmp_path / "outputs/trained/robertson/MultiONet/checkpoint.safetensors"
    with subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "CODES_DATA_DIR": data_dir}) as process:
        while not checkpoint.exists():
            assert process.poll() is None
        process.kill()
    kept = checkpoint.read_bytes()
    refused = run("train.py", *SMALL, "trainer.resume=true", folder=tmp_path, CODES_DATA_DIR=data_dir)
    assert refused.returncode == 1
    assert "trainer.epochs" in refused.stderr
    assert checkpoint.read_bytes() == kept
    assert run("train.py", *SMALL, folder=tmp_path, CODES_DATA_DIR=data_dir).returncode == 0
    assert [path.read_bytes() for path in checkpoint.parent.glob("backup-*/checkpoint.safetensors")] == [kept]


@pytest.mark.parametrize("flags", [["trainer.resume=false"], ["-m"], ["hydra.run.dir=outputs/trained/own"]])
def test_an_interrupted_training_says_how_to_go_on(flags, tmp_path, data_dir):
    settings = [*SMALL[:3], "trainer.epochs=1000", "trainer.checkpoint_every=5"]
    command = [sys.executable, str(ROOT / "train.py"), *flags, *settings]
    environment = {**os.environ, "CODES_DATA_DIR": data_dir, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
        while not (kept := list(tmp_path.rglob("checkpoint.safetensors"))):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        shown = process.communicate()[0]
    assert process.returncode == 130 and shown.count("trainer.resume=") == 1
    typed = re.search(r"go on from the last checkpoint with\n  python (.*)", shown.replace("\\\n", ""))[1]
    result = run(*shlex.split(typed), folder=tmp_path, CODES_DATA_DIR=data_dir)
    assert result.returncode == 0, result.stderr
    assert (kept[0].parent / "metrics.yaml").exists()
    assert "from scratch" not in (kept[0].parent / "train.log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["own.h5", *GENERATED])
def test_each_dataset_with_each_surrogate(dataset, tmp_path, data_dir):
    arguments = [f"dataset={dataset}", *SMALL]
    if dataset == "own.h5":
        run("train.py", *SMALL, folder=tmp_path, CODES_DATA_DIR=data_dir)
        own = next(Path(data_dir).glob("robertson*.h5"))
        arguments = ["dataset=hdf5", f"dataset.path={own}", *SMALL[3:]]
    families = f"surrogate={','.join(SURROGATES)}"
    result = run("train.py", "-m", *arguments, families, folder=tmp_path, CODES_DATA_DIR=data_dir)
    assert result.returncode == 0, result.stderr
    scores = {path.parent.name: yaml.safe_load(path.read_text())["val"]["lae99"] for path in trained_in(tmp_path)}
    assert len(scores) == len(SURROGATES) and all(score > 0 for score in scores.values())


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
