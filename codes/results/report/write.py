"""What is written where: pages, a table of all trials, and the config of the trial to go on with."""

import copy
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import optuna
from omegaconf import DictConfig

from codes import storage
from codes.files import write_atomically
from codes.results.opening import Kept, keep, study_names
from codes.results.replay import config_text
from codes.results.report.comparison import comparison_page
from codes.results.report.findings import Findings, read
from codes.results.report.study import study_page
from codes.tuning.changes import kept_config, kept_name
from codes.tuning.summary import write_trials

log = logging.getLogger(__name__)

NAME, TABLE, BEST = "report.html", "trials.csv", "best.yaml"
BESIDE = "comparison.html"  # where a study's own page has the other name


def write_report(kept: Kept, comparison: Path | None = None) -> Path:
    """Write ``report.html``, ``trials.csv`` and ``best.yaml`` of one study into its folder; the page's path."""
    return _write(read(kept), comparison)


def write_reports(composed: DictConfig, database: storage.Database) -> list[Path]:
    """Write those of all studies of ``composed.tuning_id``, and one that compares them where there are several."""
    found = [read(kept) for kept in _studies(composed, database)]
    if len(found) < 2:
        return [_write(findings) for findings in found]
    parent = Path(composed.output_dir).parent
    taken = any(findings.kept.folder.resolve() == parent.resolve() for findings in found)
    together = parent / (BESIDE if taken else NAME)
    pages = [_write(findings, together) for findings in found]
    addresses = [os.path.relpath(path, together.parent) for path in pages]
    text = comparison_page(composed.tuning_id, list(zip(found, addresses, strict=True)))
    return [*pages, write_atomically(together, text)]


def _write(findings: Findings, comparison: Path | None = None) -> Path:
    kept, folder, chosen = findings.kept, findings.kept.folder, findings.chosen
    write_trials(folder / TABLE, findings.trials, kept.objective)
    if chosen is None:
        (folder / BEST).unlink(missing_ok=True)  # of another study that was here
    else:
        write_atomically(folder / BEST, config_text(kept, chosen))
    address = None if comparison is None else os.path.relpath(comparison, folder)
    return write_atomically(folder / NAME, study_page(findings, address))


def _studies(composed: DictConfig, database: storage.Database) -> Iterator[Kept]:
    """The studies whose configuration has the same ``tuning_id``, each with its own folder."""
    for name in study_names(database):
        config = kept_config(optuna.load_study(study_name=name, storage=database.storage), Path(composed.output_dir))
        if config is None or config.get("tuning_id") != composed.tuning_id:
            continue
        folder = _folder(name, config, composed)
        owner = kept_name(folder)
        if owner not in (name, None):
            log.warning(f"study {name} is left out, for {folder} is the folder of study {owner}")
            continue
        there = copy.deepcopy(composed)
        there.output_dir = str(folder)
        yield keep(name, there, database)


def _folder(name: str, config: DictConfig, composed: DictConfig) -> Path:
    """Folder of the study ``name``: as it was started, or where ``composed`` leads since it was moved."""
    given, stored = Path(composed.output_dir), Path(config.output_dir)
    moved = [given] if name == composed.study_name else []
    moved.append(given.parent / stored.name)
    return next((folder for folder in moved if kept_name(folder) == name), stored)
