"""What the screen says to what cannot be meant."""

import os
import re
import subprocess
import sys

import h5py
import numpy as np
import pytest

from codes import groups
from codes.errors import UserError
from codes.schema import SURROGATE_SCHEMAS
from tests.command import ROOT, SMALL, module, run

CHOICES = sorted(SURROGATE_SCHEMAS)
BAD_INPUT = [
    (
        "train.py",
        ["surrogate=MultiOnet"],
        [f"error: surrogate: there is no MultiOnet; did you mean MultiONet? choose from {', '.join(CHOICES)}\n"],
    ),
    ("tune.py", ["sampler=tpe2"], ["error: sampler: there is no tpe2; did you mean tpe? choose from accuracy, "]),
    ("train.py", ["hydra/sweeper=random"], ["error: hydra/sweeper: there is no random; choose from basic, optuna\n"]),
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
    (
        "train.py",
        ["epochs=4"],
        ["'epochs'.\nKey 'epochs' not in 'TrainRunConfig'\ndid you mean trainer.epochs?\nkeys here: hydra, "],
    ),
    ("train.py", ["path=my.h5"], ["did you mean dataset.path?\n"]),
    ("tune.py", ["path=my.h5"], ["did you mean dataset.path or storage.path?\n"]),
    ("tune.py", ["devices=[gpu0]"], ["error: devices: 'gpu0' is not on this machine; choose from auto, cores, cpu"]),
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
    ("tune.py", ["tuning_id=größe"], ["""needs quotes of its own, inside those of the shell: 'tuning_id="größe"'\n"""]),
    ("train.py", ["surrogate.hidden_size=0"], ["surrogate.hidden_size", "0"]),
    ("train.py", ["surrogate.activation=Relu"], ["Relu", "ReLU", "GELU"]),
    ("train.py", ["surrogate.learning_rate=-1"], ["surrogate.learning_rate", "-1"]),
    ("train.py", ["trainer.epochs=0"], ["trainer.epochs", "0"]),
    ("train.py", ["objective.metrics=[lae98]"], ["lae98", "lae99"]),
    ("train.py", ["dataset=hdf5"], ["dataset.path"]),
    ("train.py", ["dataset=hdf5", "dataset.path=nowhere.h5"], ["dataset.path", "nowhere.h5"]),
    ("train.py", ["device=cuda:99"], ["cuda:99"]),
    ("train.py", ["device=gpu"], ["gpu"]),
    ("train.py", [f"dataset.generate.n_train={10**15}"], ["error: out of memory: Unable to allocate"]),
    ("tune.py", ["surrogate=MultiOnet"], ["MultiOnet", *SURROGATE_SCHEMAS]),
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
    ("tune.py", ["optimal=of"], ["error: optimal: there is no of; did you mean off?"]),
    ("train.py", ["-m", "optimal=off,osu2008/MultiOnet"], ["no osu2008/MultiOnet; did you mean osu2008/MultiONet?"]),
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


@pytest.mark.parametrize(
    ("command", "typed", "said"),
    [
        (
            "certify",
            "sed=[1]",
            "sed: there is no such key; did you mean seeds? this command has k, seeds, rounds, device",
        ),
        ("promote", "pik=knee", "pik: there is no such key; did you mean pick? this command has pick, "),
        ("report", "trails=3", "trails: there is no such key; did you mean trials? this command takes what tune.py "),
    ],
)
def test_a_key_that_a_command_does_not_have(command, typed, said, tmp_path):
    told = module(f"codes.{command}", "tuning_id=mine", typed, folder=tmp_path)
    assert told.returncode == 1 and f"error: {said}" in told.stderr, told.stderr


@pytest.mark.parametrize("argument", ["{}=null", "+{}=null", "{}@x=[]", "{}=x,null", "{}=0", "{}=[1]", "~{}", "~{}=x"])
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
    groups.refuse_none(
        ["search_space={hidden_size: {low: 1, high: 2}}", "surrogate=MultiONet,'LatentPoly'", "storage=["]
    )


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
