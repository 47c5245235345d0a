"""Saved surrogates: the same predictions elsewhere, and nothing but what belongs there."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

import codes
from codes import surrogates
from codes.errors import UserError
from codes.surrogates import SURROGATES
from codes.training import load, save_artifact
from tests.training import example

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings("ignore::codes.errors.OutOfRange")  # test_predictor.py looks at them


def saved(folder, surrogate="MultiONet", log10=False, parameters=False, data=None):
    """An untrained surrogate in ``folder``, and what it was made of."""
    config, data = example.config(surrogate), data or example.data(log10=log10, parameters=parameters)
    torch.manual_seed(0)
    model = surrogates.build(config.surrogate, data.spec)
    save_artifact(folder, model, config, data)
    return model.eval(), data


def physical(data, split="val"):
    """Initial states and parameters of a split, in physical units."""
    part = getattr(data, split)
    x0 = data.transform.inverse(part.x[:, 0].double()).numpy()
    return x0, None if part.p is None else data.transform.parameters.inverse(part.p.double()).numpy()


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize(("log10", "parameters"), [(True, False), (False, True)])
def test_a_loaded_surrogate_predicts_what_the_saved_one_does(surrogate, log10, parameters, tmp_path):
    model, data = saved(tmp_path, surrogate, log10, parameters)
    x0, params = physical(data)
    with torch.no_grad():
        expected = data.transform.inverse(model(data.val.x[:, 0], data.t, data.val.p).double()).numpy()
    predicted = codes.load(tmp_path).predict(x0, data.timesteps, params)
    np.testing.assert_allclose(predicted, expected, rtol=1e-4, atol=1e-6)
    assert predicted.shape == (8, 21, 3)


def test_a_polynomial_from_before_there_was_a_choice_is_one_of_chebyshev(tmp_path):
    model, data = saved(tmp_path, "LatentPoly")
    path = tmp_path / "config.yaml"
    described = yaml.safe_load(path.read_text())
    assert described["surrogate"].pop("basis") == "chebyshev" and described.pop("parameter_labels") == []
    path.write_text(yaml.safe_dump({**described, "format": 2}))
    x0, _ = physical(data)
    with torch.no_grad():
        expected = data.transform.inverse(model(data.val.x[:, 0], data.t).double()).numpy()
    np.testing.assert_allclose(codes.load(tmp_path).predict(x0, data.timesteps), expected, rtol=1e-4, atol=1e-6)


def test_parameters_have_names_and_none_before_names_were_kept(tmp_path):
    saved(tmp_path, parameters=True)
    assert load(tmp_path).parameter_labels == ("k_a", "k_b", "k_c")
    path = tmp_path / "config.yaml"
    described = yaml.safe_load(path.read_text())
    del described["parameter_labels"]
    path.write_text(yaml.safe_dump({**described, "format": 3}))
    assert load(tmp_path).parameter_labels == ("p0", "p1", "p2")


def test_it_loads_in_a_fresh_process_that_knows_nothing_else(tmp_path):
    _, data = saved(tmp_path)
    x0, _ = physical(data)
    program = (
        "import sys, json, codes; folder, x0, t = sys.argv[1], *map(json.loads, sys.argv[2:]);"
        "print(codes.load(folder).predict(x0, t).tolist())"
    )
    arguments = [str(tmp_path), str(x0[0].tolist()), "[0.0, 0.3]"]
    said = subprocess.run([sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, check=True).stdout
    np.testing.assert_allclose(yaml.safe_load(said), load(tmp_path).predict(x0[0], [0.0, 0.3]), rtol=1e-5)


def test_the_folder_holds_two_files_and_no_pickle(tmp_path):
    saved(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "model.safetensors"]
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads((tmp_path / "model.safetensors").read_bytes())
    described = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert described["labels"] == ["a", "b", "c"]
    assert described["unit"] == "data units"
    assert set(described["versions"]) == {"codes", "torch", "python"}


def test_numpy_gives_numpy_and_tensors_give_tensors(tmp_path):
    _, data = saved(tmp_path)
    predictor, (x0, _) = load(tmp_path), physical(data)
    for dtype in (np.float32, np.float64):
        array = predictor.predict(x0.astype(dtype), data.timesteps)
        assert isinstance(array, np.ndarray) and array.dtype == dtype
        tensor = predictor.predict(torch.from_numpy(x0.astype(dtype)), torch.from_numpy(data.timesteps))
        assert isinstance(tensor, torch.Tensor) and not tensor.requires_grad
        np.testing.assert_array_equal(tensor.numpy(), array)


def test_one_state_gives_one_trajectory_and_times_may_be_anywhere(tmp_path):
    _, data = saved(tmp_path)
    predictor, (x0, _) = load(tmp_path), physical(data)
    times = [0.97, 0.0, 0.123]
    np.testing.assert_allclose(predictor.predict(x0[0], times), predictor.predict(x0, times)[0], rtol=1e-5)
    assert predictor.predict(x0[0].tolist(), times).shape == (3, 3)


def test_one_set_of_parameters_serves_all_trajectories(tmp_path):
    _, data = saved(tmp_path, parameters=True)
    predictor, (x0, params) = load(tmp_path), physical(data)
    repeated = np.repeat(params[:1], len(x0), axis=0)
    np.testing.assert_array_equal(predictor.predict(x0, [0.5], params[0]), predictor.predict(x0, [0.5], repeated))


def test_slices_give_what_the_whole_gives(tmp_path, monkeypatch):
    _, data = saved(tmp_path)
    predictor, (x0, _) = load(tmp_path), physical(data)
    whole = predictor.predict(x0, data.timesteps)
    monkeypatch.setattr("codes.training.batches.EVALUATION_ROWS", 60)
    np.testing.assert_allclose(predictor.predict(x0, data.timesteps), whole, rtol=1e-5)


@pytest.mark.parametrize(
    ("x0", "t", "params", "message"),
    [
        ([[1.0, 2.0]], [0.5], None, r"x0: must have shape \[B, 3\] or \[3\] but has \[1, 2\]"),
        (np.ones((1, 1, 3)), [0.5], None, "x0: must have shape"),
        (np.ones((0, 2)), [0.5], None, r"x0: must have shape \[B, 3\] or \[3\] but has \[0, 2\]"),
        ([], [0.5], None, r"x0: must have shape \[B, 3\] or \[3\] but has \[0\]"),
        ([1.0, np.nan, 1.0], [0.5], None, r"x0: must be finite but is nan at index \[1\]"),
        (["a", "b", "c"], [0.5], None, "x0: must be an array of numbers"),
        ([1.0, 1.0, -2.0], [0.5], None, r"x0: must be positive.* is -2 at index \[0, 2\]"),
        ([1.0, 1.0, 1.0], 0.5, None, r"t: must have shape \[T\]"),
        ([1.0, 1.0, 1.0], [], None, r"t: must have shape \[T\]"),
        ([1.0, 1.0, 1.0], [0.5, 1.5], None, r"1\.5 is outside"),
        ([1.0, 1.0, 1.0], [0.5], [1.0], "params: the surrogate takes 0 parameters"),
    ],
)
def test_wrong_arguments_are_named(x0, t, params, message, tmp_path):
    saved(tmp_path, log10=True)
    with pytest.raises(UserError, match=message):
        load(tmp_path).predict(x0, t, params)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (None, "params: the surrogate takes 3 parameters"),
        ([1.0, 2.0], r"params: must have shape \[8, 3\] or \[3\] but has \[2\]"),
        (np.ones((2, 3)), r"params: must have shape \[8, 3\] or \[3\] but has \[2, 3\]"),
        (np.ones((0, 3)), r"params: must have shape \[8, 3\] or \[3\] but has \[0, 3\]"),
    ],
)
def test_wrong_parameters_are_named(params, message, tmp_path):
    _, data = saved(tmp_path, parameters=True)
    with pytest.raises(UserError, match=message):
        load(tmp_path).predict(physical(data)[0], [0.5], params)


def edited(folder, **changes):
    path = folder / "config.yaml"
    described = yaml.safe_load(path.read_text())
    for key, value in changes.items():
        group, _, name = key.rpartition("__")
        (described[group] if group else described)[name] = value
    path.write_text(yaml.safe_dump(described))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"extra": 1}, "keys must be"),
        ({"format": 5}, "format must be one of 1, 2, 3, 4 for this version but got 5"),
        ({"format": 1, "new": None}, r"keys must be format, .*sha256 but are"),
        ({"format": None}, "format must be one of 1, 2, 3, 4"),
        ({"surrogate__name": "os.system"}, r"surrogate 'os\.system' is unknown; choose from MultiONet"),
        ({"surrogate__evil": 1}, r"keys must be.*surrogate\.hidden_size.* but are .*evil"),
        ({"surrogate__hidden_size": "${oc.env:HOME}"}, r"surrogate\.hidden_size: must be an integer"),
        ({"surrogate__hidden_size": 17}, "does not fit the surrogate"),
        ({"spec__n_quantities": "three"}, r"spec\.n_quantities must be an integer of at least 1 but is 'three'"),
        ({"spec__n_quantities": 10**9}, "spec, transform or seen"),
        ({"surrogate__hidden_size": 10**6}, "does not fit the surrogate"),  # no memory is taken for it
        ({"surrogate__activation": "os.system"}, r"surrogate\.activation: must be one of"),
        ({"labels": [1, 2, 3]}, "labels must be 3 names"),
        ({"labels": None}, "labels must be 3 names"),
        ({"parameter_labels": ["k"]}, r"parameter_labels must be 0 names but are \['k'\]"),
        ({"seen": {"initial_states": {"low": [0, 0], "high": [1, 1]}, "parameters": None}}, "spec, transform or seen"),
        ({"seen__initial_states": "all"}, "spec, transform or seen"),
        ({"transform__time_scale": "sundial"}, "transform has values"),
        ({"transform__timesteps": [0.0, 1.0]}, "transform has values"),
        ({"transform__parameters": {"offset": [0.0], "scale": [1.0], "log10": False, "floor": None}}, "transform has"),
        ({"spec": None}, r"keys must be spec\."),
        ({"transform__extra": 1}, "transform has values that do not belong"),
        ({"transform": {}}, "spec, transform or seen"),
        ({"sha256": "0"}, "checksum differs"),
    ],
)
def test_anything_that_does_not_belong_is_refused(changes, message, tmp_path):
    saved(tmp_path)
    edited(tmp_path, **changes)
    with pytest.raises(UserError, match=message):
        load(tmp_path)


def test_code_in_the_config_is_not_executed(tmp_path):
    saved(tmp_path)
    (tmp_path / "config.yaml").write_text(f"format: !!python/object/apply:os.mkdir ['{tmp_path}/made']")
    with pytest.raises(UserError, match="not a YAML file"):
        load(tmp_path)
    assert not (tmp_path / "made").exists()


def test_truncated_files_are_named(tmp_path):
    saved(tmp_path)
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.yaml"
    for path, message in ((weights, "checksum differs"), (config, "not a YAML file|keys must be")):
        whole = path.read_bytes()
        for size in (0, 10, len(whole) // 2, len(whole) - 1 if path == weights else len(whole) - 80):
            path.write_bytes(whole[:size])
            with pytest.raises(UserError, match=message):
                load(tmp_path)
        path.write_bytes(whole)


def test_loading_draws_no_random_numbers(tmp_path):
    saved(tmp_path)
    before = torch.get_rng_state()
    load(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_missing_and_foreign_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"config\.yaml does not exist"):
        load(tmp_path / "nowhere")
    saved(tmp_path)
    save_file({"weight": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="checksum differs"):
        load(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors does not exist"):
        load(tmp_path)


def test_importing_codes_does_not_import_torch():
    program = "import sys, codes; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    with pytest.raises(AttributeError, match="codes"):
        _ = codes.nothing
