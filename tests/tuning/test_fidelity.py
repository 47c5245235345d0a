"""A study keeps its configuration: how differences are told, classed and settled, on real SQLite files."""

from io import StringIO

import optuna
import pytest
from omegaconf import OmegaConf

from codes import storage
from codes.tuning.changes import Class, changes, kept_config, with_stored
from codes.tuning.fidelity import ConfigChanged, _ask
from codes.tuning.plan import plan_study
from codes.tuning.presence import Presence
from tests.tuning.settling import SPACE, begin, everything_in, facts, resumed_as, settle, way_back
from tests.tuning.studies import composed, study_in

CLASSES = {
    Class.HARMLESS: ["trials=99", "devices=[cpu,cpu]", "dataset.data_dir=/elsewhere", "time_pruning=false",
                     "surrogate.hidden_size=77",  # every trial samples its hidden size
                     "surrogate.momentum=0.8"],  # every trial that reads its momentum
    Class.COMPATIBLE: ["search_space.learning_rate.high=1.0", "search_space.learning_rate.log=false",
                       "search_space.activation.choices=[ReLU]", "search_space.momentum.when=true",
                       "~search_space.optimizer", "surrogate.optimizer=sgd",
                       "+search_space.trainer.batch_size.choices=[256,1024]", "sampler.n_startup_trials=3"],
    Class.BREAKING: ["surrogate.params_branch=false",  # trials without parameters have it
                     "trainer.epochs=50", "trainer.threads=2", "dataset.tolerance=1e-9", "objective.metrics=[mlae]",
                     "loss_cap=7.0", "seed=1", "+pruner.interval_steps=2", "sampler.n_startup_trials=3"],
}  # fmt: skip


@pytest.mark.parametrize("kind", CLASSES)
def test_every_difference_has_its_class(kind, tmp_path):
    stored = composed(tmp_path, whole_space=True)
    found = changes(stored, composed(tmp_path, *CLASSES[kind], whole_space=True))
    keys = [override.lstrip("~+").partition("=")[0] for override in CLASSES[kind]]
    assert {change.kind for change in found} == {kind}
    assert all(any(change.key.startswith(key) for change in found) for key in keys)
    assert all(any(change.key.startswith(key) for key in keys) for change in found)


@pytest.mark.parametrize(("then", "now", "kind"), [("7c", "7c", Class.HARMLESS), ("7c", "9a", Class.BREAKING),
                                                   ("null", "null", Class.BREAKING)])  # fmt: skip
def test_a_data_file_may_move_as_long_as_its_content_stays(then, now, kind, tmp_path):
    stored = composed(tmp_path, "dataset.path=a.h5", f"dataset.content={then}")
    new = composed(tmp_path, "dataset.path=there/b.h5", f"dataset.content={now}")
    assert {change.kind for change in changes(stored, new)} == {kind}


def test_a_file_with_another_content_is_told_in_words(tmp_path):
    then, now = 8 * "0123abcd", 8 * "4567cdef"
    begin(tmp_path, "dataset=hdf5", "dataset.path=a.h5", f"dataset.content='{then}'")
    changed = composed(tmp_path, "dataset=hdf5", "dataset.path=a.h5", f"dataset.content='{now}'", whole_space=True)
    with pytest.raises(ConfigChanged) as raised:
        settle(changed)
    told = str(raised.value)
    assert "the data file has another content than the one that the study was started with" in told
    assert then not in told and now not in told and all(f"SHA-256 {each[:12]}... " in told for each in (then, now))


def test_a_study_whose_data_file_has_moved_goes_on_and_keeps_the_new_place(tmp_path):
    begin(tmp_path, "dataset.path=a.h5", "dataset.content=7c")
    settle(composed(tmp_path, "dataset.path=b.h5", "dataset.content=7c", whole_space=True))
    assert kept_config(study_in(tmp_path), tmp_path).dataset.path == "b.h5", "reports and promotions look there"


POLY = "search_space.poly_power"


@pytest.mark.parametrize(
    ("both", "stored", "new", "kind"),
    [
        ([f"~{POLY}"], [], [], Class.BREAKING),  # trials with the scheduler poly have it
        ([f"~{POLY}", "~search_space.scheduler"], [], [], Class.HARMLESS),  # the scheduler is another one
        ([f"~{POLY}", "~search_space.scheduler", "surrogate.scheduler=poly"], [], [], Class.BREAKING),
        ([f"{POLY}.when='${{gt:${{surrogate.learning_rate}},1e-3}}'"], [], [], Class.BREAKING),
        ([], [f"~{POLY}"], [], Class.BREAKING),
        ([], [], [f"~{POLY}"], Class.COMPATIBLE),
    ],
)
def test_what_no_trial_reads_makes_no_difference(both, stored, new, kind, tmp_path):
    before = composed(tmp_path, *both, *stored, whole_space=True)
    after = composed(tmp_path, *both, *new, "surrogate.poly_power=1.7", whole_space=True)
    assert {change.kind for change in changes(before, after) if change.key == "surrogate.poly_power"} == {kind}


def test_a_pruner_that_follows_a_harmless_key_is_another_one(tmp_path):
    """Every trial samples its epochs, yet those of the config say when trials are pruned."""
    space = "+search_space.trainer.epochs={low: 9, high: 100}"
    before = composed(tmp_path, space, whole_space=True)
    after = composed(tmp_path, space, "trainer.epochs=20", whole_space=True)
    found = {change.key: change for change in changes(before, after)}
    assert found.pop("trainer.epochs").kind is Class.HARMLESS
    assert {change.kind for change in found.values()} == {Class.BREAKING}
    assert (found["pruner.max_resource"].stored, found["pruner.max_resource"].new) == (100, 20)
    back = with_stored(after, changes(before, after))
    assert back.pruner.max_resource == 100 and back.trainer.epochs == 20


def test_what_means_the_same_is_the_same(tmp_path):
    stored = composed(tmp_path, whole_space=True)
    assert changes(stored, composed(tmp_path, whole_space=True)) == []
    assert changes(stored, composed(tmp_path, "sampler.seed=42", "search_space.learning_rate.high=1e-2",
                                    "seed=42", whole_space=True)) == []  # fmt: skip


def test_an_objective_takes_its_sampler_along(tmp_path):
    stored = composed(tmp_path, whole_space=True)
    new = composed(tmp_path, "objective=dual", "sampler=nsgaii", "trainer.epochs=7", "trials=7", whole_space=True)
    back = with_stored(new, changes(stored, new))
    assert {change.key for change in changes(stored, back)} == {"trials"} and back.trials == 7
    assert plan_study(back).sampler(0).__class__.__name__ == "TPESampler"


def test_stored_values_come_back_into_a_typed_config(tmp_path):
    stored = composed(tmp_path, "dataset=hdf5", "dataset.path=a.h5", "tuning_id=same")
    new = composed(tmp_path, "dataset=robertson", "tuning_id=same")
    for here, there in ((stored, new), (new, stored)):
        back = with_stored(there, changes(here, there))
        assert changes(here, back) == []
        assert OmegaConf.get_type(back.dataset) is OmegaConf.get_type(there.dataset)
        assert OmegaConf.get_type(back.surrogate).__name__ == "MultiONetConfig"


def test_the_config_is_kept_in_the_study_and_its_copy_comes_back(tmp_path, capsys):
    begin(tmp_path)
    path = tmp_path / "out/optuna_config.yaml"
    text = path.read_text()
    assert text == study_in(tmp_path).user_attrs["config"] and "storage:" not in text
    path.unlink()
    capsys.readouterr()
    settle(composed(tmp_path, "trials=9", "time_pruning=false", whole_space=True))
    assert path.read_text() == text.replace("trials: 5\n", "trials: 9\n")  # what it was started with, its target now
    assert capsys.readouterr().out.startswith("changed, without an effect on trials: ")


def test_a_study_of_an_earlier_version_has_the_file_only(tmp_path):
    begin(tmp_path)
    path = tmp_path / "out/optuna_config.yaml"
    study = study_in(tmp_path)
    trials = study.get_trials()
    optuna.delete_study(study_name=study.study_name, storage=study._storage)
    old = optuna.create_study(study_name=study.study_name, storage=study._storage, direction="minimize")
    old.add_trials(trials)
    for mark in path.parent.glob(".study-*"):
        mark.unlink()
    settle(composed(tmp_path, whole_space=True))
    assert study_in(tmp_path).user_attrs["config"] == path.read_text()
    optuna.delete_study(study_name=study.study_name, storage=study._storage)
    optuna.create_study(study_name=study.study_name, storage=study._storage, direction="minimize").add_trials(trials)
    path.unlink()
    with pytest.raises(ConfigChanged, match="keeps no configuration"):
        settle(composed(tmp_path, whole_space=True))


def test_an_answer_that_is_none_is_told(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", StringIO("x\nr\n"))
    assert _ask() == "reuse"
    assert "'x' is none of reuse, overwrite, abort; their first letters do\n" in capsys.readouterr().err


@pytest.mark.parametrize("policy", ["ask", "abort"])
def test_abort_changes_nothing_and_names_the_ways(policy, tmp_path):
    begin(tmp_path)
    before = everything_in(tmp_path)
    new = composed(tmp_path, "trainer.epochs=50", f"on_config_change={policy}", f"{SPACE}.high=0.1", whole_space=True)
    with pytest.raises(ConfigChanged) as caught:
        settle(new)
    assert caught.value.exit_code == 2
    rows = [line.split() for line in str(caught.value).splitlines() if "trainer.epochs" in line or SPACE in line]
    assert rows == [["trainer.epochs", "100", "50", "breaking"], [f"{SPACE}.high", "0.01", "0.1", "compatible"]]
    assert all(way in str(caught.value) for way in ("=reuse", "=overwrite", "tuning_id="))
    assert everything_in(tmp_path) == before


def test_a_config_may_change_until_the_first_trial(tmp_path):
    begin(tmp_path, trials=0)
    study_in(tmp_path).enqueue_trial({"learning_rate": 1e-3})
    plan = settle(composed(tmp_path, "objective=dual", whole_space=True))
    assert len(study_in(tmp_path).directions) == 2 and study_in(tmp_path).trials == []
    assert changes(kept_config(study_in(tmp_path), tmp_path / "out"), plan.config) == []


def test_a_study_without_trials_that_another_coordinator_runs_keeps_its_config(tmp_path):
    begin(tmp_path, trials=0)
    Presence(study_in(tmp_path)).beat()  # this process, under another name
    with pytest.raises(ConfigChanged, match=r"trainer\.epochs"):
        settle(composed(tmp_path, "trainer.epochs=50", whole_space=True))


def test_others_stop_what_would_change_their_trials(tmp_path):
    begin(tmp_path)
    Presence(study_in(tmp_path)).beat()
    before = everything_in(tmp_path)
    for way in ([f"{SPACE}.high=0.1", "on_config_change=reuse"], ["seed=3", "on_config_change=overwrite"]):
        with pytest.raises(ConfigChanged, match="while it is run by others"):
            settle(composed(tmp_path, *way, whole_space=True))
    assert everything_in(tmp_path) == before
    plan = settle(composed(tmp_path, "seed=3", "on_config_change=reuse", whole_space=True))
    assert plan.config.seed == 42


def test_reuse_keeps_breaking_keys_and_says_so(tmp_path, capsys):
    begin(tmp_path)
    before = everything_in(tmp_path)[:2]
    new = ("trainer.epochs=50", "sampler.n_startup_trials=3", "trials=50", "on_config_change=reuse")
    plan = settle(composed(tmp_path, *new, whole_space=True))
    assert (plan.config.trainer.epochs, plan.config.sampler.n_startup_trials, plan.config.trials) == (100, 3, 50)
    assert "trainer.epochs stays 100" in capsys.readouterr().out
    after = everything_in(tmp_path)[:2]
    assert after[1] == before[1] and list(tmp_path.iterdir()) and set(after[0]) == set(before[0])
    settle(composed(tmp_path, "sampler.n_startup_trials=3", "on_config_change=abort", whole_space=True))


def test_data_that_has_been_replaced_cannot_be_reused(tmp_path):
    """Its number of parameters is written into the config by whoever reads the data."""

    def replan(config):
        config.dataset.n_parameters = 2
        return plan_study(config)

    begin(tmp_path, "dataset.n_parameters=0")
    before = everything_in(tmp_path)
    config = composed(tmp_path, "dataset.n_parameters=2", "on_config_change=reuse", whole_space=True)
    with pytest.raises(ConfigChanged, match=r"no longer to be had: dataset\.n_parameters 0 -> 2"):
        settle(config, replan=replan)
    assert everything_in(tmp_path) == before


def test_a_study_that_another_process_changes_while_a_user_decides_is_left_to_it(tmp_path):
    def replan(config):
        settle(composed(tmp_path, f"{SPACE}.high=0.5", "on_config_change=reuse", whole_space=True))
        return plan_study(config)

    begin(tmp_path)
    with pytest.raises(ConfigChanged, match="was changed by another process meanwhile"):
        settle(composed(tmp_path, f"{SPACE}.high=0.1", "on_config_change=reuse", whole_space=True), replan=replan)
    assert kept_config(study_in(tmp_path), tmp_path / "out").search_space.learning_rate.high == 0.5


def test_a_study_that_another_process_begins_anew_while_a_user_decides_keeps_its_queue(tmp_path):
    def replan(config):
        settle(composed(tmp_path, "trainer.epochs=50", "on_config_change=overwrite", whole_space=True))
        study_in(tmp_path).enqueue_trial({"learning_rate": 0.01})
        return plan_study(config)

    begin(tmp_path)
    with pytest.raises(ConfigChanged, match="was changed by another process meanwhile"):
        settle(composed(tmp_path, f"{SPACE}.high=0.1", "on_config_change=reuse", whole_space=True), replan=replan)
    assert len(study_in(tmp_path).trials) == 1


def test_a_study_that_is_deleted_while_a_user_decides_is_not_made_anew(tmp_path):
    def replan(config):
        optuna.delete_study(study_name=study_in(tmp_path).study_name, storage=study_in(tmp_path)._storage)
        return plan_study(config)

    begin(tmp_path)
    with pytest.raises(ConfigChanged, match="was changed by another process meanwhile"):
        settle(composed(tmp_path, f"{SPACE}.high=0.1", "on_config_change=reuse", whole_space=True), replan=replan)
    with pytest.raises(KeyError):
        study_in(tmp_path)


SPREAD = "storage.path={}/${{tuning_id}}/study.db", "output_dir={}/${{tuning_id}}/out"


@pytest.mark.parametrize("own_folders", [False, True], ids=["same_database", "own_database"])
def test_overwrite_leaves_a_way_back_that_works(own_folders, tmp_path, capsys):
    places = [text.format(tmp_path) for text in SPREAD] if own_folders else []
    old = begin(tmp_path, *places)
    with storage.opened(OmegaConf.to_object(old.config.storage)) as database:
        before = facts(optuna.load_study(study_name=old.name, storage=database.storage))
    typed = [*places, "trainer.epochs=50", "~search_space.momentum", "+search_space.trainer.batch_size.choices=[8,9]",
             "sampler=random", "search_space.optimizer.choices=[sgd]", "dataset=brusselator", "tuning_id=robertson",
             "on_config_change=overwrite"]  # fmt: skip
    capsys.readouterr()
    new = settle(composed(tmp_path, *typed, whole_space=True), typed)
    printed = capsys.readouterr().out
    with storage.opened(OmegaConf.to_object(new.config.storage)) as database:
        study = optuna.load_study(study_name=new.name, storage=database.storage)
        assert study.trials == [] and changes(kept_config(study, new.folder), new.config) == []
    assert not (new.folder / "models").exists()
    assert len(list(new.folder.glob("optuna_config.yaml.bak-*"))) == 1
    back = resumed_as(way_back(printed), tmp_path)
    again = plan_study(back)
    assert changes(old.config, again.config) and again.name.startswith("robertson.bak-") and again.folder != new.folder
    again = settle(back)  # without on_config_change: nothing has changed
    with storage.opened(OmegaConf.to_object(back.storage)) as database:
        assert facts(optuna.load_study(study_name=again.name, storage=database.storage)) == before
    assert {path.name for path in (again.folder / "models").iterdir()} == {"0", "1"}
    assert (again.folder / "models/1/model").read_text() == "model 1"
