"""Studies in Optuna's journal."""

import optuna
import pytest

from codes.errors import UserError
from codes.schema import FileStorageConfig
from codes.storage import opened


@pytest.mark.parametrize("text", ["learning_rate: 1e-3\n", '{"learning_rate": 1e-3}\n', "[1]\n1\n"])
def test_of_something_else_stays_as_it_is(tmp_path, text):
    path = tmp_path / "study.journal"
    path.write_text(text)
    config = FileStorageConfig("journal", str(path))
    with pytest.raises(UserError, match=r"storage.path .*study.journal: is not a journal"), opened(config):
        pass
    assert path.read_text() == text


def test_a_line_that_a_kill_left_unfinished_is_dropped(tmp_path):
    """Without that, whatever comes after it would be unreadable."""
    path = tmp_path / "study.journal"
    config = FileStorageConfig("journal", str(path))
    with opened(config) as database:
        optuna.create_study(study_name="s", storage=database.storage).enqueue_trial({"x": 1.0})
    path.write_bytes(path.read_bytes() + b'{"op_code":4,"worker_')
    with opened(config) as database:
        study = optuna.load_study(study_name="s", storage=database.storage)
        study.tell(study.ask(), 2.0)
    with opened(config) as database:
        assert [t.value for t in optuna.load_study(study_name="s", storage=database.storage).trials] == [2.0]


@pytest.mark.parametrize("line", [b"nonsense", b"[1]", b'{"op_code":4}'])
def test_one_that_is_damaged_is_named(tmp_path, line):
    path = tmp_path / "study.journal"
    config = FileStorageConfig("journal", str(path))
    with opened(config) as database:
        optuna.create_study(study_name="s", storage=database.storage).enqueue_trial({"x": 1.0})
    first, *rest = path.read_bytes().splitlines()
    damaged = b"\n".join([first, line, *rest, b""])
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=r"storage.path .*study.journal: is damaged \("), opened(config):
        pass
    assert path.read_bytes() == damaged
