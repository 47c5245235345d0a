"""A password appears nowhere, in whatever way it is given and however the run ends."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from codes import secrets
from codes.errors import UserError
from tests.command import ROOT, SMALL, run
from tests.storage.conftest import remote_config

PARALLEL = ["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "surrogate=FullyConnected,LatentPoly"]
EXPERIMENT = "# @package _global_\nstorage:\n  password: {secret}\n"


def children(process):
    """Command lines and environments of the processes that ``process`` has started, and they in turn."""
    found, parents = [], {str(process)}
    for path in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            parent = (path / "stat").read_text().rpartition(")")[2].split()[1]
            if parent in parents:
                parents.add(path.name)
                shown = [(path / "environ").read_bytes(), (path / "cmdline").read_bytes()]
                if b"tune.py" not in shown[1]:  # else it has not begun its own program yet
                    found += shown
        except OSError:  # it has ended
            continue
    return found


@pytest.fixture(scope="module", autouse=True)
def data_dir(tmp_path_factory):
    """One generated dataset for all studies here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CODES_DATA_DIR", str(tmp_path_factory.mktemp("datasets")))
        yield


def tune(folder, *arguments, **environment):
    """Run tune.py; its exit code, what it printed, and all that it left or its children showed, as one text."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    settings |= {"OMP_NUM_THREADS": "1", "PGPASSFILE": str(folder / "none"), **environment}
    command = [sys.executable, str(ROOT / "tune.py"), "--config-dir", str(folder / "mine"), *arguments]
    seen = set()
    with (folder / "printed").open("wb") as printed:
        process = subprocess.Popen(command, cwd=folder, env=settings, stdout=printed, stderr=subprocess.STDOUT)
        while process.poll() is None:
            seen |= set(children(process.pid))
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.1)  # looking all the time would take one of two cores
    text = (folder / "printed").read_text()
    left = [path.read_bytes() for path in folder.rglob("*") if path.is_file() and "mine" not in path.parts]
    return process.returncode, text, b"\n".join([*left, *seen])


@pytest.fixture
def remote(foreign, tmp_path):
    """Overrides for a study on somebody else's server, and its password."""
    config, secret = remote_config(foreign), foreign.connection()["password"]
    (tmp_path / "mine/experiment").mkdir(parents=True)
    (tmp_path / "mine/experiment/secret.yaml").write_text(EXPERIMENT.format(secret=secret))
    (tmp_path / "mine/pgpass").write_text(f"127.0.0.1:*:*:*:{secret}\n")
    (tmp_path / "mine/pgpass").chmod(0o600)
    where = [f"storage.{key}={getattr(config, key)}" for key in ("host", "port", "user")]
    study = [*SMALL, "surrogate=FullyConnected", "trials=1", "pruner=none", "devices=[cpu]"]
    return [*study, "storage=postgres", "storage.mode=remote", *where], secret


def ways(secret, folder=Path()):
    return {
        "environment": ([], {"PGPASSWORD": secret}),
        "pgpass": ([], {"PGPASSFILE": str(folder / "mine/pgpass")}),
        "command line": ([f"storage.password={secret}"], {}),
        "config file": (["+experiment=secret"], {}),
        "multirun": (["-m", "seed=1", "+experiment=secret"], {}),
        "command line of parallel jobs": ([*PARALLEL, f"storage.password={secret}"], {}),
    }


STUDIES = [way for way in ways("") if way != "command line"]  # parallel jobs have it from there too


@pytest.mark.slow
@pytest.mark.parametrize("way", STUDIES)
def test_it_is_nowhere(way, remote, tmp_path):
    arguments, secret = remote
    given, environment = ways(secret, tmp_path)[way]
    tuning_id = f"tuning_id={way.replace(' ', '_')}"
    code, text, everything = tune(tmp_path, *arguments, *given, tuning_id, **environment)
    assert code == 0, text
    assert "best trials" in text
    assert ("shown by the process list" in text) == way.startswith("command line")
    assert secret.encode() not in everything
    assert b"spawn_main" in everything, "the worker was seen"


FAILING = {
    "a key beside it that is not there": ["storage.hosst=x"],
    "no such server": ["storage.port=1", "storage.retry_for=0", "storage.connect_timeout=2"],
    "a bad value": ["trials=0"],
}


@pytest.mark.parametrize("way", ["command line", "config file"])
@pytest.mark.parametrize("failure", FAILING)
def test_it_is_nowhere_when_the_run_fails(failure, way, remote, tmp_path):
    arguments, secret = remote
    given, _ = ways(secret)[way]
    code, text, everything = tune(tmp_path, *arguments, *given, *FAILING[failure], HYDRA_FULL_ERROR="1")
    assert code == 1, text
    assert secret.encode() not in everything


@pytest.mark.parametrize(("way", "flags"), [("command line", ["--cfg", "job"]), ("config file", ["-cjob"])])
def test_it_is_not_in_the_config_that_hydra_shows(way, flags, remote, tmp_path):
    arguments, secret = remote
    given, _ = ways(secret)[way]
    code, text, _ = tune(tmp_path, *arguments, *given, *flags, "--resolve")
    assert code == 0 and "mode: remote" in text
    assert secret not in text


UNREADABLE = [
    ("in${sesame}side", []),
    ("in${sesame:me}", ["-m", "seed=1"]),
    ("in${sesame", []),
    ("[in, sesame]", ["--cfg", "job", "--resolve"]),
]


@pytest.mark.parametrize(("password", "flags"), UNREADABLE)
def test_what_cannot_be_read_of_it_is_not_shown(password, flags, tmp_path):
    chosen = tmp_path / "mine/experiment/secret.yaml"
    chosen.parent.mkdir(parents=True)
    quoted = password if password.startswith("[") else f"'{password}'"
    chosen.write_text(EXPERIMENT.format(secret=quoted))
    where = ["--config-dir", "mine", "+experiment=secret", "storage=postgres", "storage.mode=remote"]
    result = run("tune.py", *where, *flags, folder=tmp_path)
    assert result.returncode == 1 and "sesame" not in result.stdout + result.stderr
    assert result.stderr.startswith(
        "error: storage.password: is no text; put it in single quotes, with \\${ for its ${, "
    )


def test_one_that_looks_like_an_interpolation_is_taken_as_the_message_says(monkeypatch):
    monkeypatch.setattr(secrets, "_given", [])
    config = OmegaConf.create("storage:\n  password: 'in\\${sesame}'\n")
    secrets.take_from_config(config)
    assert secrets.given() == "in${sesame}" and config.storage.password is None


def test_all_spellings_are_taken_from_the_command_line(capsys, monkeypatch):
    monkeypatch.setattr(secrets, "_given", [])
    for spelling in ("storage.password=a b", "+storage.password='a b'", '++storage.password="a b"'):
        assert secrets.take(["trials=2", spelling]) == ["trials=2"]
        assert secrets.given() == "a b"
    secrets.take([r"storage.password='it\'s'"])
    assert secrets.given() == "it's"
    several = {r"a\,b\=c\\\ d\e": r"a,b=c\ d\e", r"'a,b=c\ d\e'": r"a,b=c\ d\e", r"'it\\\'s \\'": "it\\'s \\"}
    for spelling, password in several.items():
        secrets.take([f"storage.password={spelling}"])
        assert OverridesParser.create().parse_override(f"storage.password={spelling}").value() == password
        assert secrets.given() == password
    for spelling, password in (("sesames", "sesames"), ("'", "'"), ("''", "")):  # only two quotes are quotes
        secrets.take([f"storage.password={spelling}"])
        assert secrets.given() == password
    assert "PGPASSWORD" in capsys.readouterr().err


@pytest.mark.parametrize("plus", ["", "+", "++"])
def test_a_mistyped_one_ends_the_launch_and_is_not_shown(plus):
    with pytest.raises(
        UserError, match=r"^storage\.pasword: .* did you mean password\? choose from backend, "
    ) as error:
        secrets.take([f"{plus}storage.pasword=sesame"])
    assert "sesame" not in str(error.value)


INSIDE = [
    "+storage={password: sesame}",
    "+storage={'password' : sesame}",
    "~storage.password=sesame",
    "+postgres_config.password=sesame",
    "+postgres_config={db_user: me, PASSWORD: sesame}",
    "+hydra.job.env_set.PGPASSWORD=sesame",
    "hydra.sweeper.storage=postgresql://me:sesame@localhost/db",
    "postgresql://me:sesame@localhost/db",
]


@pytest.mark.parametrize("argument", INSIDE)
def test_it_is_refused_where_it_cannot_be_taken_from(argument):
    with pytest.raises(UserError, match=r"storage\.password=") as refused:
        secrets.take([argument])
    assert "sesame" not in str(refused.value)


ELSEWHERE = {
    "an address": "storage: postgresql+psycopg2://me:sesame@localhost:1/db",
    "of an address": "storage: postgresql+psycopg2://localhost:1/db?user=me&password=sesame",
    "an address of the environment": "storage: ${oc.env:DATABASE}",
    "an object": "storage: {_target_: optuna.storages.RDBStorage, url: 'postgresql+psycopg2://me:sesame@localhost:1/db'}",
}


@pytest.mark.parametrize("case", ELSEWHERE)
def test_it_is_refused_in_what_a_sweeper_is_composed_of(case, tmp_path):
    """Before the sweeper shows its address, and before anything is written."""
    chosen = tmp_path / "mine/hydra/sweeper/own.yaml"
    chosen.parent.mkdir(parents=True)
    chosen.write_text(f"defaults: [optuna]\n{ELSEWHERE[case]}\n")
    arguments = ["-m", "--config-dir", "mine", "hydra/sweeper=own", "surrogate.hidden_size=8,16"]
    result = run("train.py", *arguments, folder=tmp_path, DATABASE="postgresql+psycopg2://me:sesame@localhost:1/db")
    assert result.returncode == 1
    assert result.stderr.startswith("error: give a password in PGPASSWORD or ~/.pgpass")
    assert "not inside of hydra.sweeper.storage" in result.stderr
    assert "sesame" not in result.stdout + result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


LONG = ["sesame " * 30, "sesame\n\nsesame\n", " sesame\n  sesame", "sesame ü\x07 " * 20, "sesame" * 30]


@pytest.mark.parametrize("password", LONG)
def test_a_password_of_several_lines_is_masked_to_its_end(password):
    text = OmegaConf.to_yaml(OmegaConf.create({"storage": {"password": password, "user": "me"}, "note": "x"}))
    assert OmegaConf.create(secrets.masked(text)) == {"storage": {"password": "***", "user": "me"}, "note": "x"}
    top = OmegaConf.to_yaml(OmegaConf.create({"password": password, "note": "x"}))  # --cfg job -p storage
    assert OmegaConf.create(secrets.masked(top)) == {"password": "***", "note": "x"}


def test_it_is_refused_in_the_environment_that_a_config_file_sets(tmp_path):
    (tmp_path / "mine/experiment").mkdir(parents=True)
    (tmp_path / "mine/experiment/secret.yaml").write_text(
        "# @package _global_\nhydra: {job: {env_set: {PGPASSWORD: sesame}}}\n"
    )
    arguments = ["--config-dir", "mine", "+experiment=secret"]
    result = run("tune.py", *arguments, folder=tmp_path)
    assert "not inside of hydra.job.env_set.PGPASSWORD" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    shown = run("tune.py", *arguments, "--cfg", "hydra", folder=tmp_path)
    assert "PGPASSWORD: '***'" in shown.stdout
    assert "sesame" not in result.stdout + result.stderr + shown.stdout


def test_files_that_have_one_are_masked_and_others_stay(tmp_path):
    told, plain = tmp_path / "config.yaml", tmp_path / "hydra.yaml"
    told.write_text("storage:\n  password: sesame\n")
    plain.write_text("trials: 2\n")
    before = plain.stat().st_ino
    secrets.mask_files(tmp_path)
    assert told.read_text() == "storage:\n  password: '***'\n"
    assert (plain.read_text(), plain.stat().st_ino) == ("trials: 2\n", before)


def test_masked_yaml_reads_as_before():
    text = OmegaConf.to_yaml(OmegaConf.create({"storage": {"password": "a: b", "user": "me"}, "note": None}))
    assert "a: b" not in secrets.masked(text)
    assert OmegaConf.create(secrets.masked(text)).storage.user == "me"
    assert secrets.masked("password: null\n") == "password: null\n"
    assert secrets.masked("storage: postgresql://me:sesame@db/x") == "storage: postgresql://me:***@db/x"
