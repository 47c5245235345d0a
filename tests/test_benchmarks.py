"""Benchmarks reach into the product by names: those exist."""

import importlib
from pkgutil import iter_modules

import benchmarks
from benchmarks import profile


def test_every_benchmark_can_be_imported():
    for module in iter_modules(benchmarks.__path__, "benchmarks."):
        importlib.import_module(module.name)


def test_what_the_profile_times_is_there():
    for owner, name, _ in profile.functions():
        assert callable(getattr(owner, name))
