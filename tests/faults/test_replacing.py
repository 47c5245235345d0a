"""Processes that are killed between two writes while they bring a study into another form, on real SQLite files."""

import itertools
import os
import shutil
import signal
import sys

import optuna
import pytest
import sqlalchemy

from codes.errors import UserError
from codes.storage.sqlite import open_file
from codes.tuning.stages import narrow
from tests.tuning.settling import SPACE, begin, facts, settle
from tests.tuning.studies import composed, study_in


def killed_at(step, config, after=""):
    """Whether a process that settles ``config`` is killed at its ``step``-th write, to the database or to a folder.

    With ``after`` writes count from the first statement on that begins so.
    """
    pid = os.fork()
    if pid == 0:
        writes, begun = itertools.count(1), []

        def write(*_):
            if (begun or not after) and next(writes) == step:
                os.kill(os.getpid(), signal.SIGKILL)

        def look(connection, cursor, statement, *_):
            begun.extend([statement] if statement.startswith(after) else [])

        sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", look)
        sqlalchemy.event.listen(sqlalchemy.Engine, "commit", write)
        watched = ("os.rename", "os.remove", "os.rmdir", "os.link", "os.mkdir", "shutil.rmtree", "shutil.copyfile")
        sys.addaudithook(lambda event, _: write() if event in watched else None)
        try:
            settle(config)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def test_a_study_between_its_old_and_its_new_form_is_not_taken_for_none(tmp_path):
    begin(tmp_path, trials=2, whole_space=False)
    config = composed(tmp_path, f"{SPACE}.high=1.0", "on_config_change=reuse")
    assert killed_at(2, config, after="DELETE FROM studies")
    assert "robertson_MultiONet" not in optuna.get_all_study_names(open_file(tmp_path / "study.db"))
    fine = composed(tmp_path, "search_space=fine", "pruner=none", whole_space=True)
    with pytest.raises(UserError, match="a kill came in between"), narrow(fine, lambda config: None):
        pass
    settle(config)
    assert len(study_in(tmp_path).trials) == 2


@pytest.mark.slow
@pytest.mark.parametrize("way", ["reuse", "overwrite"])
def test_a_kill_between_any_two_writes_loses_nothing(way, tmp_path):
    begin(tmp_path / "begun", trials=2, whole_space=False)
    before = facts(study_in(tmp_path / "begun"))
    step, stride, killed = 1, 11, True
    while killed:
        here = tmp_path / str(step)
        shutil.copytree(tmp_path / "begun", here)
        config = composed(here, f"{SPACE}.high=1.0", f"on_config_change={way}")
        killed = killed_at(step, config)
        settle(config)
        names = optuna.get_all_study_names(study_in(here)._storage)
        kept = [optuna.load_study(study_name=name, storage=study_in(here)._storage) for name in names]
        assert any(facts(study) == before for study in kept if ".bak-" in study.study_name)
        assert "robertson_MultiONet.prepared" not in names
        assert [trial.number for trial in study_in(here).trials] == ([0, 1] if way == "reuse" else [])
        folder = "out" if way == "reuse" else "out.bak-*"
        assert {path.parent.name for path in here.glob(f"{folder}/models/*/model")} == {"0", "1"}
        assert (here / "out/models").exists() is (way == "reuse")
        step += stride
    assert step > 5 * stride
