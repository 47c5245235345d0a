"""Whole studies, as a user types them, on each storage."""

import re

import pytest

from codes.status import main as status
from tests.command import SMALL, run
from tests.results.test_dashboard import served
from tests.storage.conftest import local_config, postmaster

OLDER = "# @package _global_\npostgres_config: {host: localhost, user: me, password: sesame}\n"


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["journal", "postgres"])  # sqlite is what all other studies use
def test_a_study_is_there_again_where_it_is_kept(storage, tmp_path, open_folder, request, monkeypatch):
    arguments = [*SMALL, "surrogate=FullyConnected", f"storage={storage}", "devices=[cpu]", "pruner=none"]
    if storage == "postgres":
        request.getfixturevalue("binaries")
        arguments.append(f"storage.data_dir={open_folder}/study")
    first = run("tune.py", *arguments, "trials=1", folder=tmp_path)
    assert first.returncode == 0, first.stderr
    report = tmp_path / "outputs/tuned/robertson/FullyConnected/report.html"
    report.unlink()  # as by a kill before it was written
    again = run("tune.py", *arguments, "trials=1", folder=tmp_path)
    assert again.returncode == 0, again.stderr
    assert report.exists()
    assert "is finished, it has 1 valid trials of 1" in again.stdout
    where = [text for text in arguments if text.startswith("storage")]
    monkeypatch.chdir(tmp_path)
    assert re.search(r"robertson_FullyConnected +1/1 ", status({}, where))
    if storage == "postgres":
        secret = (open_folder / "study/password").read_text()
        studies, printed = served(*where)
        assert "robertson_FullyConnected" in studies and secret not in printed
        assert postmaster(local_config(open_folder / "study")) is None
        written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
        assert secret not in first.stdout + first.stderr and not any(secret.encode() in text for text in written)


@pytest.mark.parametrize("arguments", [["+postgres_config.host=localhost"], ["--config-dir", ".", "+experiment=older"]])
def test_an_older_kind_of_config_says_what_to_type(arguments, tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/older.yaml").write_text(OLDER)
    result = run("tune.py", *arguments, folder=tmp_path)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert re.search(r"postgres_config: .* storage=postgres storage.mode=remote storage.host=", result.stderr)
    assert "sesame" not in result.stderr


def test_keys_of_another_storage_are_refused(tmp_path):
    result = run("tune.py", "storage=sqlite", "storage.host=localhost", folder=tmp_path)
    assert result.returncode == 1
    assert "keys here: backend, path" in result.stderr


def test_what_is_shown_has_no_password_of_the_environment(tmp_path):
    result = run(
        "tune.py",
        "storage=postgres",
        "storage.mode=remote",
        "--cfg",
        "job",
        "--resolve",
        folder=tmp_path,
        PGPASSWORD="sesame",
    )
    assert result.returncode == 0
    assert "mode: remote" in result.stdout and "sesame" not in result.stdout
