"""What a training leaves to look at."""

import csv
import json
import os
import re
import stat
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest
import yaml

from codes.files import write_atomically
from codes.training import evaluate, evaluate_by_quantity, train, write_history, write_metrics
from codes.training.mean_trajectory import mean_errors
from codes.training.pictures import write_picture
from tests.training import example


@pytest.fixture(scope="module", params=[False, True], ids=["linear", "log10"])
def trained(request):
    data = example.data(log10=request.param)
    return train(example.config(), data, "cpu", progress=False), data


def by_quantity(result, data):
    return evaluate_by_quantity(result.model, data.val, data, 99)


def test_history_has_a_row_per_evaluation(trained, tmp_path):
    result, _ = trained
    with open(write_history(tmp_path / "history.csv", result.history)) as file:
        rows = list(csv.DictReader(file))
    assert [{name: float(value) for name, value in row.items()} for row in rows] == result.history


def test_metrics_name_their_splits_and_units(trained, tmp_path):
    result, data = trained
    val = evaluate(result.model, data.val, data.t, data.transform, 99)
    parts = {split: evaluate_by_quantity(result.model, getattr(data, split), data, 99) for split in ("test", "val")}
    mean = mean_errors(data, data.val, 99)
    path = write_metrics(tmp_path / "metrics.yaml", result, val, mean, parts, data.transform.unit)
    content = yaml.safe_load(path.read_text())
    assert content["unit"] == data.transform.unit
    assert content["val"] == val and content["mean_trajectory"] == mean
    assert content["test"] == {name: result.metrics[name] for name in val}
    assert set(content["costs"]) == {"inference_time", "inference_time_spread", "train_time", "n_parameters"}
    assert content["epoch"] == result.epoch
    assert content["by_quantity"] == parts and set(parts["val"]["lae99"]) == set(data.labels)
    for split, errors in parts.items():
        assert np.mean(list(errors["mlae"].values())) == pytest.approx(content[split]["mlae"])


def test_the_picture_needs_no_network_and_is_small(trained, tmp_path):
    result, data = trained
    errors = by_quantity(result, data)
    path = write_picture(tmp_path / "training.html", result, data, errors)
    text = path.read_text()
    worst_first = sorted(data.labels, key=errors["lae99"].get, reverse=True)
    (shown,) = re.findall(rf'"name":"val LAE99 \[{data.transform.unit}\], by quantity","x":(\[.*?\])', text)
    assert json.loads(shown) == worst_first
    assert path.stat().st_size < 5e6
    assert not re.search(r"<(script|link)[^>]*\s(src|href)=", text)
    for expected in ("training loss", f"test LAE99 [{data.transform.unit}]", "test trajectory 2"):
        assert expected in text


def test_no_error_has_the_colour_of_a_quantity(trained, tmp_path, monkeypatch):
    result, data = trained
    drawn = []
    monkeypatch.setattr(go.Figure, "to_html", lambda figure, **_: drawn.append(figure) or "")
    write_picture(tmp_path / "training.html", result, data, by_quantity(result, data))
    bars, lines = (list(drawn[0].select_traces({"type": kind})) for kind in ("bar", "scatter"))
    curves = {trace.name: trace.line.color for trace in lines if trace.legendgroup is None}
    quantities = {trace.line.color for trace in lines if trace.legendgroup is not None}
    assert len(quantities) == len(data.labels) and len(set(curves.values())) == len(curves) == 3
    assert None not in curves.values() and quantities.isdisjoint(curves.values())
    assert [bar.marker.color for bar in bars] == list(curves.values())[1:]


@pytest.mark.parametrize(("first", "kind"), [(0.0, ""), (1e-5, ',"type":"log"')])
def test_times_over_decades_have_a_logarithmic_axis(first, kind, trained, tmp_path):
    result, data = trained
    spread = replace(data, timesteps=np.array([first, *np.logspace(-4, 5, data.spec.n_timesteps - 1)]))
    text = write_picture(tmp_path / "training.html", result, spread, by_quantity(result, spread)).read_text()
    assert re.findall(r'"title":\{"text":"time"\}(,"type":"log")?', text) == [kind] * 3
    assert "test trajectory 2: solid the truth, dashed the prediction" in text


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "folder" / "file"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == ["file"]
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)
