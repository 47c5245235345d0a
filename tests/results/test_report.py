"""Reports, looked at in a real browser."""

import json
import re
import shutil
import subprocess

import pytest

from codes.results.opening import compose_tune, opened_study
from codes.results.report import write_report, write_reports
from codes.results.report.findings import read
from codes.results.report.study import in_words
from codes.storage import opened
from codes.tuning.study import run_study
from tests.tuning.studies import RUNNERS, composed

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
QUIET += ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic"]
# What a visitor cannot see: errors, and whether the page is wider than the window. Written where --dump-dom finds it.
PROBE = """<script>
window.problems = [];
window.addEventListener("error", event => window.problems.push(String(event.message)));
window.addEventListener("load", () => setTimeout(() => {
  const note = document.createElement("output");
  note.textContent = JSON.stringify({width: document.documentElement.scrollWidth, problems: window.problems});
  document.body.append(note);
}, 500));
</script>"""


def seen_by_a_browser(page, folder):
    """The page as it is once its scripts have run, with what ``PROBE`` found, in a window 1,280 pixels wide."""
    if BROWSER is None:
        pytest.skip("there is no Chromium here")
    probed = folder / "probed.html"
    probed.write_text(page.read_text().replace("<head>", f"<head>{PROBE}", 1))
    command = [BROWSER, *QUIET, f"--user-data-dir={folder}/browser", "--window-size=1280,900"]
    command += ["--virtual-time-budget=15000", "--dump-dom", probed.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Where two studies are, one of a single objective and with failures, one of two objectives."""
    folder = tmp_path_factory.mktemp("reports")
    fixed = [f"storage.path={folder}/study.db", "devices=[cpu,cpu]", "pruner=none", "sampler=random"]
    run_study(composed(folder, *fixed, f"output_dir={folder}/MultiONet", "trials=14"), RUNNERS + "hostile")
    other = [f"output_dir={folder}/LatentPoly", "surrogate=LatentPoly", "objective=dual", "trials=12"]
    run_study(composed(folder, *fixed, *other), RUNNERS + "quadratic")
    return folder


def test_what_was_found_in_words(studies):
    with opened_study([f"storage.path={studies}/study.db", f"output_dir={studies}/MultiONet"]) as kept:
        findings = read(kept)
    best = min(trial.values[0] for trial in findings.complete)
    assert re.match(
        rf"MultiONet reaches lae99 {best:.3g} dex at inference_time 1 s: best trial \d+, 14 of", in_words(findings)
    )


@pytest.mark.slow
def test_pages_in_a_browser(studies, tmp_path):
    config = compose_tune([f"storage.path={studies}/study.db", f"output_dir={studies}/MultiONet"])
    with opened(config.storage) as database:
        pages = write_reports(config, database)
    assert [page.parent.name for page in pages] == ["LatentPoly", "MultiONet", studies.name]
    for page in pages:
        shown = seen_by_a_browser(page, tmp_path)
        (found,) = re.findall(r"<output>(.*)</output>", shown)
        assert json.loads(found)["problems"] == [] and json.loads(found)["width"] <= 1280
        assert "<title>hacked</title>" not in shown
        asked = len(re.findall(r'<div id="picture-\d+"', page.read_text()))
        drawn = len(re.findall(r'class="plot-container', shown))
        assert drawn == asked > 0
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
    assert "No result yet: 0 of 2 valid trials." in text and "nowhere.h5 does not exist" in text
