"""Search spaces: what is refused, in which order parameters are sampled, and which are not."""

import optuna
import pytest
from omegaconf import OmegaConf

from codes.errors import UserError
from codes.tuning.conditions import parents_of
from codes.tuning.entries import read_space
from codes.tuning.space import Parameter
from tests.tuning.studies import ROOT, composed, with_space

SGD = "${eq:${surrogate.optimizer},sgd}"


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
