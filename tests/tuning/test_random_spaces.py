"""Search spaces drawn at random: what is sampled of them is active and legal, and no invalid config is trained."""

import math
import warnings
from functools import partial

import optuna
from hypothesis import event, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from optuna.exceptions import ExperimentalWarning

import train
from codes.checks import check_config
from codes.errors import UserError
from codes.tuning.entries import read_space
from tests.tuning.studies import with_space

FLOATS = {"learning_rate": 1.0, "regularization_factor": 1.0, "momentum": 0.99, "poly_power": 5.0, "beta": 9.0}
COUNTS = ["hidden_size", "output_factor", "branch_hidden_layers", "trunk_hidden_layers"]
SWITCHES = {
    "optimizer": ["adamw", "sgd"],
    "scheduler": ["schedulefree", "cosine", "poly"],
    "loss": ["mse", "smooth_l1"],
    "params_branch": [True, False],
}
CONDITIONS = {
    "eq": lambda value, other: value == other,
    "ne": lambda value, other: value != other,
    "gt": lambda value, other: value > other,
    "lt": lambda value, other: value < other,
}


@st.composite
def spaces(draw):
    """Entries in any order, some with a condition on a name that is earlier in a hidden order; and those conditions."""
    names = draw(st.permutations([*FLOATS, *COUNTS, *SWITCHES]))
    tuned = draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    entries, conditions = {}, {}
    for name in tuned:
        if name in FLOATS:
            low, high = sorted(draw(st.tuples(st.floats(1e-6, 0.4), st.floats(0.5, FLOATS[name]))))
            entries[name] = {"type": "float", "low": low, "high": high, "log": draw(st.booleans())}
        elif name in COUNTS:
            low, steps, step = draw(st.integers(1, 20)), draw(st.integers(1, 9)), draw(st.integers(1, 4))
            entries[name] = {"type": "int", "low": low, "high": low + steps * step, "step": step}
        else:
            choices = st.lists(st.sampled_from(SWITCHES[name]), min_size=1, unique=True)
            entries[name] = {"type": "categorical", "choices": draw(choices)}
        earlier = names[: names.index(name)]
        if earlier and draw(st.booleans()):
            parent = draw(st.sampled_from(earlier))
            operator = draw(st.sampled_from(["eq", "ne"] if parent in SWITCHES else ["gt", "lt"]))
            value = draw(st.sampled_from(SWITCHES[parent])) if parent in SWITCHES else draw(st.sampled_from([0.1, 9]))
            text = str(value).lower() if isinstance(value, bool) else value
            entries[name]["when"] = f"${{{operator}:${{surrogate.{parent}}},{text}}}"
            conditions[name] = (operator, parent, value)
    return {name: entries[name] for name in draw(st.permutations(tuned))}, conditions


SAMPLERS = {
    "random": optuna.samplers.RandomSampler,
    "one by one": partial(optuna.samplers.TPESampler, n_startup_trials=2, multivariate=False),
    "jointly": partial(optuna.samplers.TPESampler, n_startup_trials=2, multivariate=True, group=True),
    "genetic": partial(optuna.samplers.NSGAIISampler, population_size=2),
    "quasi-random": partial(optuna.samplers.QMCSampler, warn_independent_sampling=False),
}


def trials_of(config, sampler, seed, number):
    """Parameters and config of ``number`` trials of one study, the later ones the better."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study = optuna.create_study(sampler=SAMPLERS[sampler](seed=seed))
    space = read_space(config)
    for value in range(number, 0, -1):
        trial = study.ask()
        yield trial, space.sample(trial, config)
        study.tell(trial, value)


@settings(max_examples=40)
@given(drawn=spaces(), sampler=st.sampled_from(list(SAMPLERS)), seed=st.integers(0, 2**31 - 1))
def test_over_random_spaces_only_active_legal_values_are_sampled(base, drawn, sampler, seed):
    space, conditions = drawn
    for trial, result in trials_of(with_space(base, space), sampler, seed, 5):
        typed = OmegaConf.to_object(result.surrogate)  # the schema takes it
        for name, entry in space.items():
            operator, parent, value = conditions.get(name, ("eq", "name", "MultiONet"))
            active = CONDITIONS[operator](getattr(typed, parent), value)
            assert (name in trial.params) == active
            final = getattr(typed, name)
            if not active:
                assert final == base.surrogate[name]
            elif "choices" in entry:
                assert final in entry["choices"] and type(final) is type(entry["choices"][0])
            else:
                assert entry["low"] <= final <= entry["high"] and isinstance(final, float if name in FLOATS else int)
                assert "step" not in entry or (final - entry["low"]) % entry["step"] == 0


WILD = st.sampled_from([-1, 0, 0.0, 1e-9, 0.25, 0.99, 1, 1.5, 2, 7, 2.5e9, math.nan, math.inf, None, True, "sgd", "7"])
WILD |= st.lists(WILD, max_size=2)
COMBINED = "surrogate.momentum: must be greater than 0 with surrogate.scheduler=schedulefree"


@settings(max_examples=60)
@given(drawn=spaces(), changes=st.lists(st.tuples(st.integers(0, 99), WILD), max_size=2), seed=st.integers(0, 99))
def test_whatever_a_space_says_no_invalid_config_is_trained(base, drawn, changes, seed):
    """With some fields set to anything it is refused, or all its trials pass the check that a training begins with."""
    space, _ = drawn
    fields = [(entry, field) for entry in space.values() for field in entry]
    for index, value in changes:
        entry, field = fields[index % len(fields)]
        entry[field] = value
    config = with_space(base, space)
    try:
        read_space(config)
    except UserError as error:
        event("refused")
        assert "search_space" in str(error)
        return
    event("sampled")
    for _, result in trials_of(config, "random", seed, 3):
        try:
            check_config(train.settings(result))
        except UserError as error:  # no single value shows it: the worker refuses the trial
            assert str(error).startswith(COMBINED)
