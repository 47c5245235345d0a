"""Reports, looked at in a real browser."""

import datetime
import json
import re
import shutil
import subprocess
from dataclasses import replace
from types import SimpleNamespace

import optuna
import pytest
from omegaconf import OmegaConf

from codes.results.opening import compose_tune, opened_study
from codes.results.report import write_report, write_reports
from codes.results.report.findings import read
from codes.results.report.history import busy_seconds, history
from codes.results.report.parameters import importances, slices
from codes.results.report.study import in_words, study_page
from codes.results.report.style import axis
from codes.results.report.timeline import timeline
from codes.results.report.tradeoff import trade_offs
from codes.results.scores import MEAN, VAL
from codes.results.select import knee_stability
from codes.storage import existing
from codes.tuning.changes import STORED
from codes.tuning.study import run_study
from codes.versions import version_of
from tests.results.test_select import POINTS, trials
from tests.tuning.studies import RUNNERS, composed

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
QUIET += ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic"]
# What a visitor would see or miss: errors, a page wider than the window, pictures that are empty, reach out of their
# frame, have labels over each other or a legend under the buttons. Written where --dump-dom finds it.
PROBE = """<script>
window.problems = [];
window.addEventListener("error", event => window.problems.push(String(event.message)));
const boxes = (root, what) => [...root.querySelectorAll(what)].map(node => node.getBoundingClientRect());
const apart = (one, other) => one.right <= other.left || other.right <= one.left
  || one.bottom <= other.top || other.bottom <= one.top;
function looked(picture) {
  const frame = picture.closest("figure").getBoundingClientRect(), found = [];
  if (boxes(picture, ".point, .points path, .js-line").length == 0) found.push("is empty");
  if (boxes(picture, "svg, text").some(box => box.width > 0 && (box.left < frame.left || box.right > frame.right)))
    found.push("reaches out of its frame");
  for (const axis of [".xtick text", ".ytick text"]) {
    const turned = node => /rotate\\((?!0)/.test(node.getAttribute("transform"));
    const labels = [...picture.querySelectorAll(axis)].filter(node => !turned(node));
    const taken = labels.map(node => node.getBoundingClientRect());
    if (taken.some((one, index) => taken.slice(index + 1).some(other => !apart(one, other))))
      found.push("has labels over each other: " + labels.map(node => node.textContent));
  }
  const buttons = boxes(picture, ".modebar-btn");
  if (boxes(picture, ".legendtext").some(text => !buttons.every(button => apart(text, button))))
    found.push("has its legend under the buttons");
  return found.map(problem => picture.id + " " + problem);
}
window.addEventListener("load", () => setTimeout(() => {
  const pictures = [...document.querySelectorAll(".plotly-graph-div")];
  const note = document.createElement("output"), width = document.documentElement.scrollWidth;
  const problems = [...window.problems, ...pictures.flatMap(looked)];
  note.textContent = JSON.stringify({width, problems, pictures: pictures.length});
  document.body.append(note);
}, 500));
</script>"""


def seen_by_a_browser(page, folder):
    """The page as it is once its scripts have run, with what ``PROBE`` found, in a window 1,200 pixels wide."""
    if BROWSER is None:
        pytest.skip("there is no Chromium here")
    probed = folder / "probed.html"
    probed.write_text(page.read_text().replace("<head>", f"<head>{PROBE}", 1))
    command = [BROWSER, *QUIET, f"--user-data-dir={folder}/browser", "--window-size=1200,900"]
    command += ["--virtual-time-budget=15000", "--dump-dom", probed.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def test_what_was_found_in_words(studies):
    with opened_study([f"storage.path={studies}/study.db", f"output_dir={studies}/MultiONet"]) as kept:
        findings = read(kept)
    best = min(trial.values[0] for trial in findings.complete)
    assert re.match(
        rf"MultiONet reaches lae99 {best:.3g} dex on test \(not scored on val\) at inference_time 1 s "
        r"for the test split: best trial \d+, 14 of 14 valid trials\. No score on val: .*config\.yaml .*\.$",
        in_words(findings),
    )


@pytest.mark.parametrize(
    ("own", "mean", "told"),
    [
        (0.2, 1.5, " The mean training trajectory has 1.5 dex on val."),
        (2.0, 1.5, " The mean training trajectory has 1.5 dex on val, so that this one is of no use."),
        (0.2, None, ""),  # scored by an earlier version
    ],
)
def test_what_was_found_is_held_against_the_mean_trajectory(own, mean, told, tmp_path):
    where = [f"storage.path={tmp_path}/study.db", f"output_dir={tmp_path}/out"]
    run_study(composed(tmp_path, *where, "trials=1", "pruner=none"), RUNNERS + "equally_fast")
    with opened_study(where) as kept:
        kept.study.set_user_attr(f"{VAL}0", {"lae99": own})
        if mean is not None:
            kept.study.set_user_attr(MEAN, {"lae99": mean})
        findings = read(kept)
        assert in_words(findings).endswith(f"1 of 1 valid trials.{told}")
        assert (">mean training trajectory on val</th>" in study_page(findings)) == (mean is not None)


def test_a_knee_is_named_as_a_trial(dual):
    assert f": trial {dual.chosen.number}, the knee of the front, 40 of 40 valid trials." in in_words(dual)


def test_the_stability_of_a_knee_is_told_of_each_trial_by_itself(dual):
    told = [
        f"trial {number} in {share:.0%}" for number, share in knee_stability(dual.trials, dual.kept.objective).items()
    ]
    assert f"is the knee: {', '.join(told[:3])}. Each share is of the draws that have this trial" in study_page(dual)


@pytest.mark.parametrize(("seconds", "unit"), [(40, "seconds"), (100, "minutes"), (9000, "hours")])
def test_the_unit_of_time_is_chosen_by_its_span(seconds, unit, dual):
    made = trials(*POINTS)
    for number, trial in enumerate(made, 1):
        trial.datetime_start = dual.read
        trial.datetime_complete = dual.read + datetime.timedelta(seconds=seconds * number / len(made))
    _, over_time = history(replace(dual, trials=tuple(made)))
    assert over_time.figure.layout.xaxis.title.text == f"{unit} in which a trial ran"
    length = {"seconds": 1, "minutes": 60, "hours": 3600}[unit]
    assert max(over_time.figure.data[0].x) == pytest.approx(seconds / length)


@pytest.mark.parametrize(
    ("values", "ticks"), [([1.2, 2.4], None), ([1.2, 4.2], "D1"), ([1.9, 30], "D2"), ([1e-5, 1e3], 2)]
)
def test_a_logarithmic_axis_has_several_ticks_and_few(values, ticks):
    assert axis(values) == {"type": "log", "tickformat": "~g", "dtick": ticks}


def test_slices_show_a_conditional_parameter_where_it_was_active(dual):
    pictures = {picture.title: picture for picture in slices(dual)["lae99"]}
    active = [trial for trial in dual.complete if trial.params["loss"] == "smooth_l1"]
    assert 10 <= len(active) < len(dual.complete) == 40
    points = pictures["beta"].figure.data[0]
    assert sorted(zip(points.x, points.y, strict=True)) == sorted((t.params["beta"], t.values[0]) for t in active)
    assert pictures["beta"].text.startswith(f"{len(active)} of 40 complete trials where eq(loss,smooth_l1)")
    shown = pictures["loss"].figure.layout
    assert set(shown.xaxis.ticktext) == {"mse", "smooth_l1"} and shown.yaxis.range == (
        pictures["beta"].figure.layout.yaxis.range
    )


def test_importances_find_what_matters_and_judge_nothing_by_a_few_trials(dual):
    picture = importances(dual)
    shares = {bars.name: dict(zip(bars.y, bars.x, strict=True)) for bars in picture.figure.data}
    assert max(shares["lae99"], key=shares["lae99"].get) == "beta"
    assert max(shares["inference_time"], key=shares["inference_time"].get) == "coder_width"
    few = [trial for trial in dual.complete if "beta" in trial.params][:3]
    rare = [trial for trial in dual.complete if "beta" not in trial.params]
    picture = importances(replace(dual, trials=(*few, *rare)))
    assert "beta" not in picture.figure.data[0].y
    assert re.search(r"Not judged, active in fewer than 10 complete trials: .*beta", picture.text)


def test_what_ran_out_of_time_is_never_on_a_front(dual):
    late = trials((1e-9, 1e-9), outcome="time_pruned", first=len(POINTS))  # COMPLETE for Optuna, and far better
    (picture,) = trade_offs(replace(dual, trials=(*trials(*POINTS), *late)))
    drawn = {trace.name: list(trace.x or ()) for trace in picture.figure.data if trace.name}
    assert sorted(drawn["Pareto front"]) == [0.1, 0.2, 0.4] and "knee: trial 1" in drawn
    (strip,) = [trace for trace in picture.figure.data if trace.yaxis == "y2"]
    assert (list(strip.x), list(strip.y)) == ([1e-9], ["time_pruned"])


@pytest.mark.slow
def test_pages_in_a_browser(studies, tmp_path):
    config = compose_tune([f"storage.path={studies}/study.db", f"output_dir={studies}/MultiONet"])
    with existing(OmegaConf.to_object(config.storage)) as database:
        pages = write_reports(config, database)
    assert [page.parent.name for page in pages] == ["LatentPoly", "MultiONet", studies.name]
    for page in pages:
        shown = seen_by_a_browser(page, tmp_path)
        (note,) = re.findall(r"<output>(.*)</output>", shown)
        found = json.loads(note)
        assert found["problems"] == [] and found["width"] <= 1200
        assert "<title>hacked</title>" not in shown
        asked = len(re.findall(r'<div id="picture-\d+"', page.read_text()))
        assert len(re.findall(r'class="plot-container', shown)) == found["pictures"] == asked > 0
    text = pages[1].read_text()
    assert "&lt;script&gt;document.title" in text and "<script>document.title" not in text
    assert "src=" not in text.partition("</script>")[2], "nothing comes from elsewhere"


@pytest.mark.slow
def test_a_study_without_a_result_has_a_page(tmp_path):
    run = composed(tmp_path, "trials=2", "pruner=none", "max_invalid=0", f"output_dir={tmp_path}/MultiONet")
    with pytest.raises(Exception, match="nowhere"):
        run_study(run, RUNNERS + "misconfigured")
    with opened_study([f"storage.path={tmp_path}/study.db", f"output_dir={tmp_path}/MultiONet"]) as kept:
        text = write_report(kept).read_text()
    assert "No result yet: 0 of 2 valid trials, 1 failed." in text and "nowhere.h5 does not exist" in text


def test_a_package_that_is_not_installed_has_no_version():
    """As this one, where a clone is run: the report of a study ended it with a traceback."""
    assert version_of("codes-of-nobody") == "not installed"
    assert version_of("optuna") == optuna.__version__


def test_each_study_is_reported_in_its_own_folder(tmp_path, monkeypatch, caplog):
    """The folder that it was started with, whatever lies beside it, or the one that it was moved to."""

    def run(name, place):
        run_study(composed(tmp_path, "trials=1", "pruner=none", f"surrogate={name}", place), RUNNERS + "equally_fast")

    def pages(*where):
        config = compose_tune([f"storage.path={tmp_path}/study.db", *where])
        with existing(OmegaConf.to_object(config.storage)) as database:
            return [str(page.relative_to(tmp_path)) for page in write_reports(config, database)]

    run("MultiONet", f"output_dir={tmp_path}/runs/${{surrogate.name}}/x")
    run("FullyConnected", f"output_dir={tmp_path}/runs/${{surrogate.name}}/x")
    monkeypatch.chdir(tmp_path)
    own = ["runs/FullyConnected/x/report.html", "runs/MultiONet/x/report.html"]
    there = f"output_dir={tmp_path}/runs/MultiONet/x"
    assert pages(there) == [*own, "runs/MultiONet/report.html"]
    assert "surrogate: FullyConnected" not in (tmp_path / "runs/MultiONet/x/best.yaml").read_text()
    assert pages(f"output_dir={tmp_path}/away/MultiONet")[:2] == own
    (tmp_path / "runs/FullyConnected/x").rename(tmp_path / "FullyConnected")
    moved = [f"output_dir={tmp_path}/FullyConnected", "surrogate=FullyConnected"]
    assert pages(*moved) == ["FullyConnected/report.html", "runs/MultiONet/x/report.html", "report.html"]
    run("FullyConnected", moved[0])
    assert pages(f"output_dir={tmp_path}/away/MultiONet")[0] == "FullyConnected/report.html"
    shutil.copy(tmp_path / "FullyConnected" / STORED, tmp_path / "runs/MultiONet/x")
    assert pages(*moved) == ["FullyConnected/report.html"]
    assert "study robertson_MultiONet is left out" in caplog.text


def test_a_study_beside_another_leaves_its_page_alone(tmp_path):
    for name, place in {"MultiONet": "all", "FullyConnected": "all/other"}.items():
        where = [f"surrogate={name}", f"output_dir={tmp_path}/{place}"]
        run_study(composed(tmp_path, "trials=1", "pruner=none", *where), RUNNERS + "equally_fast")
    config = compose_tune([f"storage.path={tmp_path}/study.db", *where])
    with existing(OmegaConf.to_object(config.storage)) as database:
        pages = write_reports(config, database)
    assert pages[-1] == tmp_path / "all/comparison.html"
    assert "Study robertson_MultiONet" in (tmp_path / "all/report.html").read_text()
    with opened_study([f"storage.path={tmp_path}/study.db", *where]) as kept:
        assert 'href="../comparison.html"' in write_report(kept).read_text()  # also when it is written alone


def test_time_does_not_run_back_where_the_clock_was_set_back():
    begin = datetime.datetime(2026, 1, 1, 10)
    minutes = [(0, 4), (5, -50), (-49, -40), (8, 10)]  # from begin, of the start and the end of each trial
    trials = []
    for pair in minutes:
        trial = optuna.trial.create_trial(value=1.0)
        trial.datetime_start, trial.datetime_complete = (begin + datetime.timedelta(minutes=number) for number in pair)
        trials.append(trial)
    clock = busy_seconds(trials, begin)
    assert [clock(begin + datetime.timedelta(minutes=number)) / 60 for number in (-40, 4, 6, 10)] == [9, 13, 13, 15]


def test_a_trial_that_was_closed_the_next_morning_has_not_run_all_night():
    begin = datetime.datetime(2026, 1, 1, 20)
    closed = {"outcome": "crashed", "record": {"duration": 0.0}}  # a night after its coordinator was killed
    spans = [(0, 10, {"outcome": "complete"}), (10, 720, closed), (720, 730, {"outcome": "complete"})]
    trials = []
    for number, (*minutes, attributes) in enumerate(spans):
        state = optuna.trial.TrialState.COMPLETE if attributes is not closed else optuna.trial.TrialState.FAIL
        value = None if attributes is closed else 1.0
        trial = optuna.trial.create_trial(state=state, value=value, user_attrs=attributes)
        trial.number = number
        trial.datetime_start, trial.datetime_complete = (begin + datetime.timedelta(minutes=one) for one in minutes)
        trials.append(trial)
    assert busy_seconds(trials, begin)(begin + datetime.timedelta(minutes=730)) / 60 == 20
    bars = timeline(SimpleNamespace(trials=trials, read=begin)).figure.data
    longest = max(length for bar in bars for length in bar.x)
    assert longest == 10 * 60 * 1000
