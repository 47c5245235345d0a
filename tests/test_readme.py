"""The README and the pages of docs/ say what is there."""

import re
import shlex

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from codes import resolvers, schema
from tests.command import ROOT

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
TRANSLATED = re.findall(r"^\| .* \| `([^`]+=[^`]+)` \|$", (ROOT / "docs/from_yaml.md").read_text(), re.M)
TOY = ("decay_chain", "Linear")  # of docs/extending.md, which has a test of its own
COMMANDS = [
    (script, text)
    for page in PAGES
    for script, text in re.findall(r"python (train|tune)\.py ([^#\n`…<]*)", page.read_text().replace("\\\n", " "))
    if not any(name in text for name in TOY) and not text.endswith("=")  # dataset=<name> is a template
]


@pytest.fixture(scope="module", autouse=True)
def hydra():
    schema.register()
    resolvers.register()
    with initialize_config_dir(str(ROOT / "conf")):
        yield


def overrides(text: str) -> list[str]:
    """Overrides of one job: the first of each sweep, without Hydra's own flags and keys."""
    words = [word for word in shlex.split(text) if "=" in word or word.startswith("~")]
    words = [word for word in words if "SLURM_" not in word]  # which a job knows
    swept = [re.sub(r"^(surrogate|seed)=([^,]+),.*", r"\1=\2", word) for word in words]
    return [re.sub(r"=int\(.*|=tag\(.*", "=16", word) for word in swept if not word.startswith("hydra")]


@pytest.mark.parametrize("text", TRANSLATED)
def test_translated_keys_compose(text):
    compose("tune", overrides=overrides(text))


@pytest.mark.parametrize(("script", "text"), COMMANDS)
def test_commands_compose(script, text):
    OmegaConf.to_container(compose(script, overrides=overrides(text)), resolve=True)


def test_there_is_something_to_check():
    assert len(TRANSLATED) >= 8
    assert len(COMMANDS) >= 15


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
