"""Composed studies that leave everything in one folder, run here or in a coordinator process of their own."""

import copy
import time
from pathlib import Path

import optuna
from hydra import compose, initialize_config_dir

from codes import resolvers, schema
from codes.files import write_atomically
from codes.storage.sqlite import open_file
from codes.tuning.ledger import counts
from codes.tuning.presence import Presence
from codes.tuning.study import run_study
from tests import command

ROOT = Path(__file__).parents[2]
RUNNERS = "tests.tuning.runners:"
ELSEWHERE = {"host": "elsewhere", "boot": "b", "processes": "b pid:[1]"}  # in a coordinator's entry


def composed(folder, *overrides, whole_space=False):
    """Config of a study in ``folder``: one slot on the CPU, five trials, by default only the learning rate tuned."""
    schema.register()
    resolvers.register()
    defaults = [f"output_dir={folder}/out", "devices=[cpu]", "trials=5"]
    if "storage=postgres" not in overrides:
        defaults.append(f"storage.path={folder}/study.db")
    with initialize_config_dir(str(ROOT / "conf")):
        config = compose("tune", overrides=[*defaults, *overrides])
    if not whole_space:
        config.search_space = {"learning_rate": config.search_space.learning_rate}
    return config


def with_space(base, space):
    """``base`` with the search space ``space``."""
    config = copy.deepcopy(base)
    config.search_space = space
    return config


def study_in(folder):
    """The study that a run left in ``folder``."""
    return optuna.load_study(study_name="robertson_MultiONet", storage=open_file(Path(folder, "study.db")))


def run(folder, runner, *overrides, **settings):
    """The study that a run of ``composed`` here leaves."""
    run_study(composed(folder, *overrides), RUNNERS + runner, **settings)
    return study_in(folder)


def entered(study, **changed):
    """Enter a coordinator whose entry differs from this process's in what is ``changed``."""
    other = Presence(study)
    other.own |= changed
    other.beat()
    return other


def outcomes(folder):
    """How many trials ended in each way."""
    return {outcome.value: number for outcome, number in counts(study_in(folder).trials).items()}


def launch(folder, runner, *overrides, stdin=None, **environment):
    """The study in a process of its own, which leads a process group like a shell's job."""
    words = ["-m", "tests.tuning", str(folder), RUNNERS + runner, *overrides]
    return command.start(*words, folder=ROOT, new_session=True, stdin=stdin, **environment)


def finish(process):
    """What a process printed, once it has ended."""
    out, err = process.communicate(timeout=60)
    assert "semaphore" not in err
    return out, err


def until(condition, seconds=60):
    """First true value of ``condition()``; fails after ``seconds``."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "this should have happened by now"
        time.sleep(0.02)
    return value


def is_gone(pid):
    """Whether a process has ended; one that waits to be reaped by init has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def held_workers(folder, number=1):
    """Process ids of the workers whose trials are held, once there are ``number``."""
    files = until(lambda: len(found := list(Path(folder, "out").glob("held_*"))) >= number and found)
    return [int(file.name.rpartition("_")[2]) for file in files]


def hold(folder, stage=""):
    """Have every trial of the study in ``folder`` stay where it is, or at a ``stage``, from now on."""
    Path(folder, "out").mkdir(exist_ok=True)
    for file in Path(folder, "out").glob("held_*"):
        file.unlink()
    write_atomically(Path(folder, "out", "hold"), stage)


def release(folder):
    """Let the trials that start from now on run through."""
    Path(folder, "out", "hold").unlink()
    for file in Path(folder, "out").glob("held_*"):
        file.unlink()
