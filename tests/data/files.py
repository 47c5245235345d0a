"""Small dataset files, valid ones and others."""

import h5py
import numpy as np

N_TIMESTEPS, N_QUANTITIES = 5, 3


def arrays(dtype="float32"):
    """A valid dataset of 4, 3 and 2 trajectories with two parameters, by array name."""
    rng = np.random.default_rng(0)
    sizes = {"train": 4, "test": 3, "val": 2}
    given = {split: rng.uniform(1, 2, (n, N_TIMESTEPS, N_QUANTITIES)).astype(dtype) for split, n in sizes.items()}
    given |= {f"{split}_params": rng.uniform(1, 2, (n, 2)).astype(dtype) for split, n in sizes.items()}
    return given | {"timesteps": np.array([0, 0.5, 1, 10, 100])}


def store(path, given, **attributes):
    """A file as any program may write it: no rule is checked."""
    with h5py.File(path, "w") as file:
        for key, array in given.items():
            file[key] = array
        file.attrs.update(attributes)
    return path
