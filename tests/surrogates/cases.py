"""Configs composed from ``conf/``, and a system with a known solution."""

from dataclasses import fields, replace
from functools import cache
from itertools import product
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from codes import resolvers, schema
from codes.schema import SURROGATE_SCHEMAS, DataSpec
from codes.surrogates import build

CONF = Path(__file__).parents[2] / "conf"
FAMILIES = sorted(path.stem for path in (CONF / "surrogate").glob("*.yaml"))


def config(family, **changes):
    """The defaults of ``conf/surrogate/<family>.yaml`` with a few keys changed."""
    return replace(_defaults(family), **changes)


@cache
def _defaults(family):
    schema.register()
    resolvers.register()
    with initialize_config_dir(str(CONF)):
        return OmegaConf.to_object(compose(f"surrogate/{family}").surrogate)


def switches(family):
    """All combinations of a family's true-or-false hyperparameters."""
    names = [field.name for field in fields(SURROGATE_SCHEMAS[family]) if field.type is bool]
    return [dict(zip(names, values, strict=True)) for values in product([False, True], repeat=len(names))]


def surrogate(family, n_parameters=0, *, n_quantities=3, n_timesteps=11, seed=0, **changes):
    torch.manual_seed(seed)
    return build(config(family, **changes), DataSpec(n_quantities, n_parameters, n_timesteps))


def inputs(n, n_times, n_parameters=0, *, n_quantities=3, seed=1):
    """Random states in [-1, 1], ascending times and parameters in [-1, 1], or None."""
    generator = torch.Generator().manual_seed(seed)
    x0 = torch.rand(n, n_quantities, generator=generator) * 2 - 1
    t = torch.rand(n_times, generator=generator).sort().values
    p = torch.rand(n, n_parameters, generator=generator) * 2 - 1 if n_parameters else None
    return x0, t, p


def damped_oscillators(n=10, n_times=21):
    """States [n, n_times, 2] of x'' = -2 g x' - (w² + g²) x at equally spaced times in [0, 1], with w = 5 and g = 1."""
    t = torch.linspace(0, 1, n_times)
    amplitude, phase = torch.linspace(0.4, 1, n)[:, None], torch.linspace(0, 6, n)[:, None]
    decay = amplitude * torch.exp(-t)
    return torch.stack([decay * torch.cos(5 * t + phase), decay * torch.sin(5 * t + phase)], dim=-1), t
