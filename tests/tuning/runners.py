"""Trainings that take no time, imported by real worker processes. A trial's number is its seed minus the study's."""

import math
import os
import signal
import sys
import time
from pathlib import Path

from omegaconf import OmegaConf
from tqdm import tqdm

from codes.errors import Diverged, StopTraining, TooLarge, UserError


def quadratic(config, report, folder):
    """Best at a learning rate of 1e-3, where the error is 1; the order of two trials shows from the first epoch on."""
    error = 1.0 + abs(math.log10(config.surrogate.learning_rate) + 3)
    for epoch in range(config.trainer.evaluate_every, config.trainer.epochs + 1, config.trainer.evaluate_every):
        report(epoch, {"lae99": error + 1 / epoch, "mlae": error})
    folder.mkdir(parents=True)
    (folder / "device").write_text(f"{config.device} {os.environ['OMP_NUM_THREADS']} {os.getpid()}")
    return {"lae99": error, "mlae": error, "inference_time": 1 / error, "n_parameters": 3}


def equally_fast(config, report, folder):
    """Best at a learning rate of 1e-3; all models are equally fast to use, and have two files."""
    error = 1.0 + abs(math.log10(config.surrogate.learning_rate) + 3)
    folder.mkdir(parents=True)
    for part in ("weights", "config"):
        (folder / part).write_text(str(error))
    return {"lae99": error, "mlae": error, "inference_time": 1.0, "n_parameters": round(1000 * error)}


def equally_fast_in_steps(config, report, folder):
    """Best at a learning rate of 1e-3; all models are equally fast to use, which is known from the first epoch on."""
    error = 1.0 + abs(math.log10(config.surrogate.learning_rate) + 3)
    for epoch in range(config.trainer.evaluate_every, config.trainer.epochs + 1, config.trainer.evaluate_every):
        report(epoch, {"lae99": error + 1 / epoch, "mlae": error, "inference_time": 1e-3})
    folder.mkdir(parents=True)
    return {"lae99": error, "mlae": error, "inference_time": 1e-3}


def in_turn(config, report, folder):
    """Every way to end, one trial after another."""
    number = config.seed - 42
    if number == 1:
        raise Diverged("diverged: the loss is nan in epoch 3")
    if number == 2:
        raise TooLarge("out of memory: the training would need about 9000 MiB")
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 4:
        raise ValueError("hidden_size does not fit")
    if number == 5:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory")
    if number == 6:
        return {"lae99": math.nan}
    if number == 7:
        return {"mse": 1.0}
    if number == 8:
        os._exit(3)
    return quadratic(config, report, folder)


def unwritable(config, report, folder):
    """The second trial fails with a path that is no text, and a sign that not every language has."""
    if config.seed - 42 == 1:
        raise FileNotFoundError(2, "not within 5 µs", os.fsdecode(b"data/\xff.h5"))
    return quadratic(config, report, folder)


def hostile(config, report, folder):
    """Every third trial fails with a reason that is HTML."""
    if (config.seed - 42) % 3 == 1:
        raise ValueError("<script>document.title = 'hacked'</script>")
    return equally_fast(config, report, folder)


def conditional(config, report, folder):
    """Accurate at a beta of 0.1, which only ``smooth_l1`` has; fast with narrow coders, whatever else is chosen."""
    surrogate = config.surrogate
    error = 1.0 + abs(math.log10(surrogate.beta) + 1) if surrogate.loss == "smooth_l1" else 3.0
    folder.mkdir(parents=True)
    return {"lae99": error, "mlae": error, "inference_time": 1e-5 * surrogate.coder_width, "n_parameters": 3}


def out_of_gpu_memory(config, report, folder):
    """What PyTorch raises."""
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def misconfigured(config, report, folder):
    """Fails for every trial."""
    raise UserError("dataset.path: nowhere.h5 does not exist")


def full_disk(config, report, folder):
    """Fails for every trial, and the cause is not its hyperparameters."""
    raise OSError(28, os.strerror(28), str(folder))


def replacing_the_data(config, report, folder):
    """Reads the data; the second trial puts another file, or none, in its place and ends: a new worker reads."""
    from codes.data import load_data_once

    load_data_once(OmegaConf.to_yaml(config.dataset), "cpu")
    if config.seed - 42 == 1:
        other = Path(config.output_dir, "other.h5")
        other.replace(config.dataset.path) if other.exists() else Path(config.dataset.path).unlink()
        os._exit(3)
    return quadratic(config, report, folder)


def mark(path, **ignored):
    """What a config from elsewhere would like to have called."""
    Path(path).touch()


def held(config, report, folder):
    """While the study's folder has a file ``hold``, say that a trial runs, and stay there for ever."""
    study = Path(config.output_dir)
    tqdm([], file=sys.stdout).close()
    if (study / "hold").exists():
        report(10, {"lae99": 2.0})
        say_held(study)
        while True:
            signal.pause()
    return quadratic(config, report, folder)


def meeting(config, report, folder):
    """As ``quadratic``, once another process has a trial of the study too."""
    met = Path(config.output_dir, "met")
    met.mkdir(exist_ok=True)
    (met / str(os.getpid())).touch()
    while len(list(met.iterdir())) < 2:
        time.sleep(0.01)
    return quadratic(config, report, folder)


def held_at_a_stage(config, report, folder):
    """Stay at the stage of a trial that the file ``hold`` names, until it names another one or none."""
    study = Path(config.output_dir)
    stage = (study / "hold").read_text()
    if stage == "train":
        report(10, {"lae99": 2.0})
    if stage == "save":
        folder.mkdir(parents=True)
        (folder / "half").touch()
    if stage:
        say_held(study)
    while stage and (study / "hold").read_text() == stage:
        time.sleep(0.01)
    return unreported(folder) if stage == "tell" else quadratic(config, report, folder)


def held_before_its_result(config, report, folder):
    """As ``held``, until the file ``hold`` goes; then the result is sent, without a report before."""
    study = Path(config.output_dir)
    if not (study / "hold").exists():
        return quadratic(config, report, folder)
    say_held(study)
    while (study / "hold").exists():
        time.sleep(0.01)
    return unreported(folder)


def unreported(folder):
    """A result without a report before."""
    folder.mkdir(parents=True)
    (folder / "device").touch()
    return {"lae99": 1.0, "mlae": 1.0, "inference_time": 1.0, "n_parameters": 3}


def say_held(study):
    """Tell, by a file with this process's number, that its trial is held."""
    beside = study / f".{os.getpid()}"
    beside.touch()
    beside.rename(study / f"held_{os.getpid()}")


def timed(config, report, folder):
    """Says that an epoch takes 10 ms, in every third trial after the first dozen 1 s."""
    number = config.seed - 42
    pace = 1.0 if number >= 12 and number % 3 == 0 else 0.01
    costs = {"n_parameters": 3, "inference_time": 1e-3}
    for epoch in range(config.trainer.evaluate_every, config.trainer.epochs + 1, config.trainer.evaluate_every):
        report(epoch, {"lae99": 1.0, "train_time": pace * epoch, "n_parameters": 3})
    return {"lae99": 1.0, "train_time": pace * config.trainer.epochs, **costs}


def stuck(config, report, folder):
    """As ``timed``, but the thirteenth trial comes to no evaluation."""
    while config.seed - 42 == 12:
        signal.pause()
    return timed(config, report, folder)


def slow(config, report, folder):
    """Computes for a second without a word."""
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        sum(range(1000))
    return quadratic(config, report, folder)


def broken_warm_up():
    """Cannot start."""
    raise ImportError("libcudart.so: cannot open shared object file")


def stopped_while_it_starts():
    """Is stopped, the first time."""
    file = Path(os.environ["STOPS"])
    if file.exists():
        file.unlink()
        os.kill(os.getpid(), signal.SIGSTOP)


def killed_while_it_starts():
    """Is killed as often as the file that the environment names says."""
    file = Path(os.environ["KILLS"])
    left = int(file.read_text())
    if left:
        file.write_text(str(left - 1))
        os.kill(os.getpid(), signal.SIGKILL)


def together(configs, report, folders):
    """Several of ``quadratic`` as one stack: each is stopped, or ends, for itself. Held as ``held``."""
    study = Path(configs[0].output_dir)
    errors = [1.0 + abs(math.log10(config.surrogate.learning_rate) + 3) for config in configs]
    running = list(range(len(configs)))
    trainer = configs[0].trainer
    for epoch in range(trainer.evaluate_every, trainer.epochs + 1, trainer.evaluate_every):
        for member in list(running):
            try:
                report(member, epoch, {"lae99": errors[member] + 1 / epoch, "mlae": errors[member]})
            except StopTraining as reason:
                running.remove(member)
                yield member, reason
        if (study / "hold").exists():
            say_held(study)
            while True:
                signal.pause()
    for member in running:
        folders[member].mkdir(parents=True)
        error = errors[member]
        yield member, {"lae99": error, "mlae": error, "inference_time": 1 / error, "n_parameters": 3}


def too_large_together(configs, report, folders):
    """The first has ended when the rest does not fit any more."""
    yield 0, Diverged("diverged: the loss is nan in epoch 1")
    report(1, 10, {"lae99": 5.0})
    raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory")


def failing_together(configs, report, folders):
    """Cannot be built."""
    raise ValueError("hidden_size does not fit")
    yield


def three_times_as_fast(config, trials):
    """What a speed-up may be."""
    return 3.0


def not_faster(config, trials):
    """What a speed-up may be."""
    return 1.1


def cannot_be_measured(config, trials):
    """What a family that cannot be stacked says."""
    raise UserError("its models cannot be stacked")
