"""What is written where: pages, a table of all trials, and the config of the trial to go on with."""

import os
from pathlib import Path

from omegaconf import DictConfig

from codes import storage
from codes.files import write_atomically
from codes.results.opening import Kept, studies
from codes.results.replay import config_text
from codes.results.report.comparison import comparison_page
from codes.results.report.findings import Findings, read
from codes.results.report.study import study_page
from codes.tuning.changes import kept_name
from codes.tuning.summary import write_trials

NAME, TABLE, BEST = "report.html", "trials.csv", "best.yaml"
BESIDE = "comparison.html"  # where a study's own page has the other name


def write_report(kept: Kept) -> Path:
    """Write ``report.html``, ``trials.csv`` and ``best.yaml`` of one study into its folder; the page's path."""
    together = _together(kept.folder.parent)
    return _write(read(kept), together if together.exists() else None)


def write_reports(composed: DictConfig, database: storage.Database) -> list[Path]:
    """Write those of all studies of ``composed.tuning_id``, and one that compares them where there are several."""
    found = [read(kept) for kept in studies(composed, database)]
    if len(found) < 2:
        return [_write(findings) for findings in found]
    together = _together(Path(composed.output_dir).parent)
    pages = [_write(findings, together) for findings in found]
    addresses = [os.path.relpath(path, together.parent) for path in pages]
    text = comparison_page(composed.tuning_id, list(zip(found, addresses, strict=True)))
    return [*pages, write_atomically(together, text)]


def _together(parent: Path) -> Path:
    """The page that compares the studies whose folders lie in ``parent``, which may be that of a study itself."""
    return parent / (NAME if kept_name(parent) is None else BESIDE)


def _write(findings: Findings, comparison: Path | None = None) -> Path:
    kept, folder, chosen = findings.kept, findings.kept.folder, findings.chosen
    write_trials(folder / TABLE, findings.trials, kept.objective)
    if chosen is None:
        (folder / BEST).unlink(missing_ok=True)  # of another study that was here
    else:
        write_atomically(folder / BEST, config_text(kept, chosen))
    address = None if comparison is None else os.path.relpath(comparison, folder)
    return write_atomically(folder / NAME, study_page(findings, address))
