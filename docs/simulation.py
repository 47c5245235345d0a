"""A surrogate as the chemistry of a simulation, against SciPy's solvers: ``python docs/simulation.py``.

Robertson's three species react in a row of cells and diffuse between them. Each time step is split (Strang 1968): half
of the diffusion, the reaction in every cell by itself, the other half. Only who computes the reaction changes: SciPy
cell by cell, SciPy for all cells at once, or a surrogate that was trained on reactions of the length of one time step.

A few minutes on one core, into ``outputs/simulation``; a second call takes the surrogate that is there.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from scipy.sparse import block_diag

import codes
from codes.data import split_trajectories, write_dataset
from codes.data.systems.robertson import K1, K2, K3, ROBERTSON
from codes.training import Predictor

Array = NDArray[np.float64]
React = Callable[[Array], Array]  # states [cells, 3] now, to those one time step later

ROOT = Path(__file__).parents[1]
STEP = 10.0  # time units
DIFFUSION = 0.2  # D dt / dx^2, below the limit of 1/2
TIGHT, USUAL = {"rtol": 1e-9, "atol": 1e-14}, {"rtol": 1e-4, "atol": 1e-9}


def main() -> None:
    """Train what is missing, simulate with each, print time and error."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "outputs/simulation")
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--trajectories", type=int, default=20_000, help="to train on")
    parser.add_argument("--epochs", type=int, default=400)
    given = parser.parse_args()
    folder = given.folder.resolve()
    model = folder / "trained"
    if not (model / "config.yaml").exists():
        train(write_reactions(folder / "reactions.h5", given.trajectories), model, given.epochs)
    torch.set_num_threads(1)
    start = initial(given.cells)
    exact, _ = simulate(start, given.steps, cell_by_cell(TIGHT))
    reactions = {
        "SciPy, LSODA cell by cell": cell_by_cell(USUAL),
        "SciPy, BDF for all cells at once": all_at_once(given.cells),
        "surrogate": by_surrogate(codes.load(model)),
    }
    sys.stdout.write(f"{given.cells} cells, {given.steps} steps\n{'':34}{'ms per step':>12}{'error [%]':>12}\n")
    for name, react in reactions.items():
        end, seconds = simulate(start, given.steps, react)
        error = 100 * np.abs(end / exact - 1).max()
        sys.stdout.write(f"{name:34}{1e3 * seconds:12.3g}{error:12.2g}\n")


def write_reactions(path: Path, n: int) -> Path:
    """Reactions of one time step from all mixtures of the three species, as trajectories to learn from."""
    generator = np.random.default_rng(0)
    y1 = generator.uniform(0.05, 1, n)
    y2 = np.exp(generator.uniform(np.log(1e-8), np.log(1e-4), n))
    states = np.stack([y1, y2, (1 - y1 - y2).clip(1e-6)], axis=1)
    times = np.array([0, STEP])
    made = np.stack([solved(state, TIGHT, times) for state in states])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_dataset(path, **split_trajectories(made), timesteps=times, labels=ROBERTSON.labels)
    return path


def train(data: Path, folder: Path, epochs: int) -> None:
    """What a user would type."""
    command = [
        sys.executable,
        "train.py",
        "surrogate=FullyConnected",
        "dataset=hdf5",
        f"dataset.path={data}",
        "dataset.log10_transform=true",
    ]
    command += [f"trainer.epochs={epochs}", f"hydra.run.dir={folder}", "device=cpu", "trainer.evaluate_every=50"]
    subprocess.run(command, cwd=ROOT, check=True)


def initial(cells: int) -> Array:
    """Fresh material on the left, burnt on the right."""
    y1 = 0.55 + 0.4 * np.cos(np.linspace(0, np.pi, cells))
    y2 = np.full(cells, 1e-5)
    return np.stack([y1, y2, 1 - y1 - y2], axis=1)


def simulate(state: Array, steps: int, react: React) -> tuple[Array, float]:
    """The state after ``steps`` time steps, and the CPU time of a reaction: the median, in seconds."""
    react(state)  # what is done once
    spent = []
    for _ in range(steps):
        state = diffuse(state)
        begun = time.process_time()
        state = react(state)
        spent.append(time.process_time() - begun)
        state = diffuse(state)
    return state, float(np.median(spent))


def diffuse(state: Array) -> Array:
    """Half a time step, explicit; nothing leaves at the ends."""
    flux = DIFFUSION / 2 * np.diff(state, axis=0)
    return state + np.pad(flux, ((0, 1), (0, 0))) - np.pad(flux, ((1, 0), (0, 0)))


def by_surrogate(surrogate: Predictor) -> React:
    """All cells in one call; what it loses or gains of the mass is given back."""

    def react(state: Array) -> Array:
        later = surrogate.predict(state, [STEP])[:, 0]
        return later * (state.sum(1) / later.sum(1))[:, None]

    return react


def cell_by_cell(tolerances: dict[str, float]) -> React:
    """LSODA, which most codes have in one form or another."""
    return lambda state: np.stack([solved(cell, tolerances, np.array([STEP]))[0] for cell in state])


def solved(state: Array, tolerances: dict[str, float], times: Array) -> Array:
    """One cell's states [T, 3]."""
    return solve_ivp(lambda t, y: ROBERTSON.rhs(y, None), (0, times[-1]), state, "LSODA", times, **tolerances).y.T


def all_at_once(cells: int) -> React:
    """BDF on one large system, whose Jacobian is known to have a block for each cell."""
    sparsity = block_diag([np.ones((3, 3))] * cells)

    def derivative(t: float, y: Array) -> Array:
        y1, y2, y3 = y.reshape(-1, 3).T
        first, second, third = K1 * y1, K2 * y2 * y2, K3 * y2 * y3
        return np.stack([third - first, first - third - second, second], axis=1).ravel()

    def react(state: Array) -> Array:
        found = solve_ivp(derivative, (0, STEP), state.ravel(), "BDF", [STEP], jac_sparsity=sparsity, **USUAL)
        return found.y.reshape(-1, 3)

    return react


if __name__ == "__main__":
    main()
