"""Exported files give what the original gives; what does not is never left behind."""

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from torch.torch_version import TorchVersion

from codes.data import prepare
from codes.errors import UserError
from codes.export import main
from codes.surrogates import SURROGATES, FullyConnected
from codes.training import load
from codes.training.export import DESCRIPTION, check, export
from tests.training import example
from tests.training.test_artifact import physical, saved

pytestmark = pytest.mark.filterwarnings("ignore::codes.errors.OutOfRange")  # states of val


def files(folder):
    return {path.name for path in folder.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("parameters", [False, True])
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_a_file_predicts_what_the_original_does(surrogate, parameters, tmp_path):
    """Logarithmic data without parameters, linear data with them; a batch of a size that no check has seen."""
    _, data = saved(tmp_path, surrogate, log10=not parameters, parameters=parameters)
    x0, params = physical(data)
    inputs = {"x0": x0, "t": data.timesteps[::2] + 0.0, **({} if params is None else {"params": params})}
    predictor = load(tmp_path)
    wanted = predictor.transform.forward(torch.from_numpy(predictor.predict(*inputs.values()))).numpy()

    def agrees(found):
        normalised = predictor.transform.forward(torch.from_numpy(found)).numpy()
        np.testing.assert_allclose(normalised, wanted, rtol=0, atol=1e-5 * abs(wanted).max())

    kept = {DESCRIPTION: ""}
    written = export(tmp_path, "torch_export")
    program = torch.export.load(written.path, extra_files=kept).module()
    agrees(program(*map(torch.from_numpy, inputs.values())).numpy())
    described = yaml.safe_load(kept[DESCRIPTION])
    assert (described["surrogate"], described["labels"]) == (surrogate, ["a", "b", "c"])
    assert described["parameter_labels"] == (["k_a", "k_b", "k_c"] if parameters else [])
    if surrogate == "LatentNeuralODE":
        return
    session = onnxruntime.InferenceSession(export(tmp_path, "onnx").path)
    assert {value.name: value.shape[0] for value in session.get_inputs()} == {
        name: "T" if name == "t" else "B" for name in inputs
    }
    agrees(session.run(None, inputs)[0])
    assert session.get_modelmeta().custom_metadata_map[DESCRIPTION].startswith(f"surrogate: {surrogate}")


def test_nothing_is_replaced_or_begun(tmp_path):
    saved(tmp_path)
    (tmp_path / "model.pt2").write_text("mine")
    refused = {
        "model.pt2 exists already": {},
        "format must be torch_export or onnx, but is 'tflite'": {"format": "tflite"},
        "file: must end in .pt2 for format=torch_export, but is p.foo": {"file": "p.foo"},
        "file: must end in .onnx for format=onnx, but is p.pt2": {"file": "p.pt2", "format": "onnx"},
        "none/config.yaml does not exist": {"model": f"{tmp_path}/none"},
        "give the folder of a saved surrogate": {"model": ""},
    }
    for message, changes in refused.items():
        with pytest.raises(UserError, match=message):
            main({"model": str(tmp_path), "format": "torch_export", "file": "", **changes}, [])
    with pytest.raises(UserError, match="surrogate=MultiONet is not understood"):
        main({"model": str(tmp_path), "format": "onnx", "file": ""}, ["surrogate=MultiONet"])
    assert files(tmp_path) == {"config.yaml", "model.safetensors", "model.pt2"}
    assert (tmp_path / "model.pt2").read_text() == "mine"


class Stubborn(FullyConnected):
    """Does what no program for any input can."""

    def forward(self, x0, t, p=None):
        return super().forward(x0, t, p) if x0.sum() > 0 else super().forward(-x0, t, p)


class Different(FullyConnected):
    """Is a little different once exported."""

    def forward(self, x0, t, p=None):
        return super().forward(x0, t, p) * (1 + 1e-4 * torch.compiler.is_exporting())


REFUSED = {
    "differs from the original by 0.0001 in [abc], more than 1e-05": ("FullyConnected", Different, "torch_export"),
    "Stubborn cannot be exported: .*; nothing was written": ("FullyConnected", Stubborn, "torch_export"),
    "depend on how an error is rounded.* take format=torch_export": ("LatentNeuralODE", None, "onnx"),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_does_not_hold_leaves_no_file(message, tmp_path, monkeypatch):
    name, family, kind = REFUSED[message]
    saved(tmp_path, name)
    if family is not None:
        monkeypatch.setitem(SURROGATES, name, family)
    with pytest.raises(UserError, match=message):
        export(tmp_path, kind)
    assert files(tmp_path) == {"config.yaml", "model.safetensors"}


def test_an_older_pytorch_is_named_where_it_fails(tmp_path, monkeypatch):
    saved(tmp_path, "FullyConnected")
    monkeypatch.setitem(SURROGATES, "FullyConnected", Stubborn)
    monkeypatch.setattr("torch.__version__", TorchVersion("2.7.0+cpu"))
    with pytest.raises(UserError, match=r"nothing was written; this is PyTorch 2\.7\.0\+cpu, take 2\.12 or newer"):
        export(tmp_path, "torch_export")


def test_noise_around_a_constant_is_no_difference(tmp_path):
    raw = example.dataset()
    for _, split in raw.splits():
        split.trajectories[..., 1] = 1e-9
    saved(tmp_path, "FullyConnected", data=prepare(raw, example.config().dataset))
    predictor = load(tmp_path)
    for weight in predictor.model.net.rest[-1].parameters():  # as a training leaves them
        weight[1] *= 1e-6
    noise = np.array([0, 1e-9 * 1e-7, 0])
    assert check(predictor, lambda inputs: predictor.predict(*inputs.values()) + noise) < 1e-6


def test_a_missing_value_is_a_difference(tmp_path):
    saved(tmp_path)
    predictor = load(tmp_path)
    assert check(predictor, lambda inputs: predictor.predict(*inputs.values())) == 0
    with pytest.raises(UserError, match="differs from the original by nan"):
        check(predictor, lambda inputs: predictor.predict(*inputs.values()) * np.nan)
