"""Search spaces: what is refused, in which order parameters are sampled, and which are not."""

import copy
import math
import warnings
from functools import partial

import optuna
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from optuna.exceptions import ExperimentalWarning

import train
from codes.checks import check_config
from codes.errors import UserError
from codes.tuning.conditions import parents_of
from codes.tuning.entries import read_space
from codes.tuning.space import Parameter
from tests.tuning.studies import ROOT, composed

SGD = "${eq:${surrogate.optimizer},sgd}"


@pytest.fixture(scope="module")
def base():
    """A config without a search space."""
    config = composed("unused", "surrogate=MultiONet", "dataset=robertson", "optimal=off")
    OmegaConf.set_struct(config, False)
    return config


def with_space(base, space):
    config = copy.deepcopy(base)
    config.search_space = space
    return config


def sampled(config, seed=0):
    """Parameters and config of one random trial."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed)).ask()
    result = read_space(config).sample(trial, config)
    return trial.params, result


def test_ranges_and_choices_may_be_interpolations_conditions_are_those_of_each_trial(base):
    space = {
        "hidden_size": {"low": 8, "high": "${surrogate.output_factor}"},
        "activation": {"choices": ["ReLU", "${surrogate.activation}"]},
        "learning_rate": "${mine}",
        "momentum": {"low": 0.5, "high": 0.9, "when": "${eq:${surrogate.optimizer},sgd}"},
    }
    config = with_space(base, space)
    OmegaConf.update(config, "mine", {"low": 1e-4, "high": 1e-2, "log": True})
    config.surrogate.output_factor, config.surrogate.activation = 17, "GELU"
    found = {each.name: each for each in read_space(config)}
    assert (found["hidden_size"].high, found["activation"].choices) == (17, ("ReLU", "GELU"))
    assert (found["learning_rate"].low, found["learning_rate"].log) == (1e-4, True)
    assert found["momentum"].when == space["momentum"]["when"]


REFUSED = {
    "low below high": ({"learning_rate": {"low": 1.0, "high": 0.1}}, ["learning_rate.low", "below high", "0.1"]),
    "equal": ({"learning_rate": {"low": 0.1, "high": 0.1}}, ["learning_rate.low", "below high", "0.1"]),
    "log of zero": ({"beta": {"low": 0.0, "high": 1.0, "log": True}}, ["beta.low", "above 0", "log"]),
    "log and step": ({"beta": {"low": 0.1, "high": 1.1, "log": True, "step": 0.1}}, ["beta.step", "log"]),
    "step of zero": ({"beta": {"low": 0.1, "high": 1.0, "step": 0}}, ["beta.step", "above 0"]),
    "step that misses": ({"beta": {"low": 0.1, "high": 1.0, "step": 0.4}}, ["beta.step", "0.4", "high=0.9"]),
    "wide step": ({"hidden_size": {"low": 1, "high": 3, "step": 4}}, ["hidden_size.step", "4"]),
    "log that is no flag": ({"beta": {"low": 0.1, "high": 1.0, "log": "yes"}}, ["beta.log", "'yes'"]),
    "no high": ({"beta": {"low": 0.1}}, ["beta.high", "None"]),
    "text": ({"beta": {"low": "small", "high": 1.0}}, ["beta.low", "'small'"]),
    "infinite": ({"beta": {"low": 0.1, "high": float("inf")}}, ["beta.high", "inf"]),
    "float for an integer": ({"hidden_size": {"low": 1.5, "high": 8}}, ["hidden_size.low", "integer", "1.5"]),
    "type for an integer": ({"hidden_size": {"type": "float", "low": 1, "high": 8}}, ["hidden_size", "Integer"]),
    "range of a choice": ({"optimizer": {"low": 1, "high": 8}}, ["optimizer.low", "adamw"]),
    "unknown type": ({"beta": {"type": "real", "low": 0.1, "high": 1.0}}, ["beta.type", "'real'", "categorical"]),
    "type without choices": ({"loss": {"type": "categorical", "low": 1, "high": 2}}, ["loss", "choices"]),
    "unknown choice": ({"activation": {"choices": ["ReLU", "Relu"]}}, ["activation", "'Relu'", "LeakyReLU"]),
    "bool choice": ({"params_branch": {"choices": [0, 1]}}, ["params_branch", "0", "False"]),
    "text as a number": ({"hidden_size": {"choices": [8, "16"]}}, ["hidden_size", "'16'"]),
    "list choice": ({"hidden_size": {"choices": [[8], 16]}}, ["hidden_size", "single values"]),
    "same choice": ({"loss": {"choices": ["mse", "mse"]}}, ["loss.choices", "'mse'", "twice"]),
    "no choice": ({"loss": {"choices": []}}, ["loss.choices", "[]"]),
    "both": ({"beta": {"low": 0.1, "high": 1.0, "choices": [1.0]}}, ["beta", "either"]),
    "neither": ({"beta": {}}, ["beta", "either", "nothing"]),
    "unknown field": ({"beta": {"low": 0.1, "hihg": 1.0}}, ["beta.hihg", "high"]),
    "not a mapping": ({"beta": 0.1}, ["beta", "0.1", "low and high"]),
    "what is measured": (
        {"trainer": {"target_percentile": {"choices": [1, 99]}}},
        ["trainer.target_percentile cannot be tuned, it says what is learned or how that is measured"],
    ),
    "what is learned": ({"dataset": {"generate": {"n_train": {"low": 1, "high": 9}}}}, ["generate.n_train cannot be"]),
    "where it is kept": ({"dataset": {"data_dir": {"choices": ["a", "b"]}}}, ["dataset.data_dir cannot be tuned"]),
    "unknown attribute": ({"hiden_size": {"low": 1, "high": 2}}, ["hiden_size", "did you mean hidden_size?"]),
    "unknown section": ({"train": {"epochs": {"low": 1, "high": 2}}}, ["train.epochs", "trainer", "dataset"]),
    "a section": ({"dataset": {"generate": {"low": 1, "high": 2}}}, ["dataset.generate"]),
    "the name": ({"name": {"choices": ["MultiONet"]}}, ["surrogate.name"]),
    "twice": (
        {"beta": {"low": 0.1, "high": 1.0}, "surrogate": {"beta": {"low": 0.1, "high": 1.0}}},
        ["search_space.beta", "search_space.surrogate.beta"],
    ),
    "illegal value": ({"momentum": {"low": 0.5, "high": 1.0}}, ["momentum.high", "less than 1"]),
    "illegal choice": ({"trainer": {"batch_size": {"choices": [0, 8]}}}, ["batch_size", "at least 1", "0"]),
    "unknown parent": (
        {"momentum": {"low": 0.5, "high": 0.9, "when": "${eq:${surrogate.optimiser},sgd}"}},
        ["momentum.when", "surrogate.optimiser", "did you mean optimizer?"],
    ),
    "parent without its section": (
        {"momentum": {"low": 0.5, "high": 0.9, "when": "${eq:${optimizer},sgd}"}},
        ["momentum.when", "optimizer", "not a key"],
    ),
    "relative parent": (
        {"momentum": {"low": 0.5, "high": 0.9, "when": "${eq:${..optimizer},sgd}"}},
        ["momentum.when", "full dotted name"],
    ),
    "unknown resolver": (
        {"momentum": {"low": 0.5, "high": 0.9, "when": "${equals:${surrogate.optimizer},sgd}"}},
        ["momentum.when", "equals", "operators: ${eq:a,b} "],
    ),
    "too few arguments": (
        {"momentum": {"low": 0.5, "high": 0.9, "when": "${eq:${surrogate.optimizer}}"}},
        ["momentum.when", "cannot be resolved: missing 1 required positional argument", "operators: ${eq:a,b} "],
    ),
    "value that the parent never has": (
        {"momentum": {"low": 0.5, "high": 0.9, "when": "${and:true,${ne:${surrogate.optimizer},sdg}}"}},
        ["momentum.when: surrogate.optimizer is never 'sdg'; its values are adamw, sgd"],
    ),
    "values one of which the parent never has": (
        {"eta_min": {"low": 0.1, "high": 0.9, "when": "${in:${surrogate.scheduler},[poly, 'cosin']}"}},
        ["eta_min.when: surrogate.scheduler is never 'cosin'; its values are schedulefree, cosine, poly"],
    ),
    "condition that is a value": (
        {"momentum": {"low": 0.5, "high": 0.9, "when": "${surrogate.optimizer}"}},
        ["momentum.when", "true or false", "adamw"],
    ),
    "number as a condition": ({"beta": {"low": 0.5, "high": 0.9, "when": 1}}, ["beta.when", "1"]),
    "cycle": (
        {
            "momentum": {"low": 0.5, "high": 0.9, "when": "${gt:${surrogate.beta},0.2}"},
            "beta": {"low": 0.5, "high": 0.9, "when": "${gt:${surrogate.momentum},0.2}"},
        },
        ["cycle", "momentum", "beta"],
    ),
    "its own parent": (
        {"momentum": {"low": 0.5, "high": 0.9, "when": "${gt:${surrogate.momentum},0.2}"}},
        ["cycle", "momentum"],
    ),
    "empty": ({}, ["search_space is empty", "'+search_space.learning_rate={low: 1e-4, high: 1e-2}'"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_key_rule_and_value(case, base):
    space, expected = REFUSED[case]
    with pytest.raises(UserError) as caught:
        read_space(with_space(base, space))
    assert "search_space" in str(caught.value)
    assert all(word in str(caught.value) for word in expected), str(caught.value)


def test_a_parent_may_be_compared_with_a_choice_that_is_left_out(base):
    space = {"optimizer": {"choices": ["adamw"]}, "momentum": {"low": 0.5, "high": 0.9, "when": SGD}}
    space["poly_power"] = {"low": 0.5, "high": 4.0, "when": "${in:${surrogate.scheduler},['poly',cosine]}"}
    assert len(read_space(with_space(base, space))) == 3


def test_children_are_sampled_after_their_parents_wherever_they_stand(base):
    space = {
        "poly_power": {"low": 0.5, "high": 4.0, "when": "${gt:${surrogate.momentum},0.7}"},
        "momentum": {"low": 0.5, "high": 0.9, "when": SGD},
        "learning_rate": {"low": 1e-5, "high": 1e-2, "log": True},
        "optimizer": {"choices": ["adamw", "sgd"]},
    }
    names = [parameter.name for parameter in read_space(with_space(base, space))]
    assert names == ["learning_rate", "optimizer", "momentum", "poly_power"]


def test_a_condition_sees_parents_through_other_keys(base):
    config = with_space(
        base,
        {
            "beta": {"low": 0.5, "high": 0.9, "when": "${gt:${trainer.batch_times},4}"},
            "hidden_size": {"low": 1, "high": 8},
        },
    )
    config.trainer.batch_times = "${surrogate.hidden_size}"
    assert [parameter.name for parameter in read_space(config)] == ["hidden_size", "beta"]
    for seed in range(20):
        params, _ = sampled(config, seed)
        assert ("beta" in params) == (params["hidden_size"] > 4)


@pytest.mark.parametrize(("optimizer", "asked"), [("sgd", True), ("adamw", False)])
def test_a_switch_fixed_on_the_command_line_decides_for_its_children(optimizer, asked, base):
    config = with_space(base, {"momentum": {"low": 0.5, "high": 0.9, "when": SGD}})
    config.surrogate.optimizer = optimizer
    params, result = sampled(config)
    assert ("momentum" in params) == asked
    assert result.surrogate.momentum == (params["momentum"] if asked else base.surrogate.momentum)


def test_conditions_look_at_the_data(base):
    config = with_space(base, {"params_branch": {"choices": [True, False], "when": "${gt:${dataset.n_parameters},0}"}})
    for number, asked in ((None, False), (0, False), (3, True)):
        config.dataset.n_parameters = number
        assert ("params_branch" in sampled(config)[0]) == asked


def test_types_follow_the_schema_and_dotted_names_reach_other_sections(base):
    space = {
        "hidden_size": {"low": 16, "high": 48, "step": 16},
        "beta": {"low": 0, "high": 1, "step": 0.25},
        "trainer": {"batch_size": {"choices": [256, 1024]}, "batch_times": {"choices": [None, 16]}},
    }
    space["beta"]["low"] = 0.25
    config = with_space(base, space)
    kinds = {parameter.name: parameter.kind for parameter in read_space(config)}
    assert kinds == {
        "hidden_size": "int", "beta": "float", "trainer.batch_size": "categorical", "trainer.batch_times": "categorical"
    }  # fmt: skip
    for seed in range(20):
        params, result = sampled(config, seed)
        assert result.surrogate.hidden_size in (16, 32, 48) and result.surrogate.beta in (0.25, 0.5, 0.75, 1.0)
        assert result.trainer.batch_size == params["trainer.batch_size"]


@pytest.mark.parametrize("surrogate", [path.stem for path in (ROOT / "conf/surrogate").glob("*.yaml")])
@pytest.mark.parametrize("n_parameters", [0, 2])
def test_shipped_spaces_give_legal_configs_for_all_families(surrogate, n_parameters, tmp_path):
    config = composed(tmp_path, f"surrogate={surrogate}", whole_space=True)
    config.dataset.n_parameters = n_parameters
    for seed in range(30):
        params, result = sampled(config, seed)
        assert {"learning_rate", "optimizer", "activation"} <= set(params)
        assert ("momentum" in params) == (result.surrogate.optimizer == "sgd")
        assert ("poly_power" in params) == (result.surrogate.scheduler == "poly")
        assert ("eta_min" in params) == (result.surrogate.scheduler == "cosine")
        assert ("beta" in params) == (result.surrogate.loss == "smooth_l1")
        assert ("coeff_width" in params) == bool(result.surrogate.get("coeff_network"))
        assert n_parameters or not {"params_branch", "coeff_network", "encode_params"} & set(params)


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


def test_a_range_is_shown_as_the_command_line_writes_it():
    choices = Parameter("x", "surrogate.x", "categorical", choices=(None, True, "GELU", 0.5))
    steps = Parameter("x", "surrogate.x", "int", 2, 8, step=2)
    decades = Parameter("x", "surrogate.x", "float", 1e-5, 1e-2, log=True)
    assert [each.range for each in (choices, steps, decades)] == [
        "null | true | GELU | 0.5",
        "2 .. 8, step 2",
        "1e-05 .. 0.01, log",
    ]


def test_a_condition_on_a_section_looks_at_what_is_tuned_there_and_one_inside_of_it_at_the_section():
    config = OmegaConf.create({"surrogate": {"layers": {"depth": 2}}, "trainer": {"epochs": 1}})
    epochs = Parameter("trainer.epochs", "trainer.epochs", "int", 1, 9)
    layers = Parameter("layers", "surrogate.layers", "categorical", choices=(1, 2))
    for when, parent in (("${f:${trainer}}", epochs), ("${eq:${surrogate.layers.depth},2}", layers)):
        child = Parameter("x", "surrogate.x", "float", 0, 1, when=when)
        assert parents_of(child, [child, epochs, layers], config) == {parent.key}
