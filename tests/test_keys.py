"""docs/keys.md names every key, with the default that is composed and an example that composes."""

import re
from functools import cache

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from codes import resolvers, schema
from tests.command import ROOT

PAGE = (ROOT / "docs/keys.md").read_text()
OPEN = ("search_space", "sampler", "pruner", "known", "explore")  # mappings of their own, and what tune.py fills in
COMPOSED = [f"surrogate={name}" for name in schema.SURROGATE_SCHEMAS] + ["storage=postgres", "search_space=fine"]


def rows():
    """Script, base override, key, default and example of every row."""
    script, base = "tune", ""
    for line in PAGE.splitlines():
        if line.startswith("#"):
            script, base = "tune", ""
        elif line.startswith("Of `train.py` only"):
            script = "train"
        elif match := re.match(r"Composed with `(.+?)`", line):
            base = match[1]
        elif match := re.match(r"\| `([\w.]+)` \| `(.*?)` \| .* \| `(.*)` \|$", line):
            yield script, base, *match.groups()


ROWS = list(rows())


@pytest.fixture(scope="module", autouse=True)
def hydra():
    schema.register()
    resolvers.register()
    with initialize_config_dir(str(ROOT / "conf")):
        yield


@cache
def composed(script, *overrides):
    return compose(script, overrides=["optimal=off", *filter(None, overrides)])


def raw(config, key):
    *path, last = key.split(".")
    return OmegaConf.to_container(OmegaConf.select(config, ".".join(path)) if path else config, resolve=False)[last]


def leaves(config, path=""):
    for name in config:
        node = config._get_node(name)
        if OmegaConf.is_dict(node) and not node._is_none():
            if path + name not in OPEN:
                yield from leaves(node, f"{path}{name}.")
        elif path + name not in OPEN:
            yield path + name


def same(text, value):
    """Whether a cell says ``value``; YAML reads 1e-3 as text."""
    said = yaml.safe_load(text) if text.startswith(("[", "null", "true", "false")) else text
    return said == value or str(said) == str(value) or float(said) == float(value)


@pytest.mark.parametrize(("script", "base"), sorted({row[:2] for row in ROWS}))
def test_defaults_and_examples(script, base):
    """All examples of the tables with the same base at once: to compose takes its time."""
    tables = [row[2:] for row in ROWS if row[:2] == (script, base)]
    before = composed(script, base)
    after = composed(script, base, *(example for _, _, example in tables))
    for key, default, example in tables:
        assert same(default, raw(before, key)), key
        name, _, value = example.partition("=")
        assert (name == key and same(value, raw(after, key))) or (name == "storage" and value != default), example


def test_no_key_is_missing():
    found = {key for overrides in [[], *([text] for text in COMPOSED)] for key in leaves(composed("tune", *overrides))}
    found |= set(leaves(composed("train")))
    assert found - {"fine", "storage.path"} == {key for _, _, key, *_ in ROWS} - {"storage.path"}


def test_every_group_has_its_choices():
    for group in ("dataset", "surrogate", "storage", "sampler", "pruner", "objective", "experiment"):
        (line,) = [text for text in PAGE.splitlines() if re.match(rf"\| `\+?{group}` ", text)]
        choices = {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")} - {"accuracy", "dual"}
        if group == "dataset":
            line += (ROOT / "docs/datasets.md").read_text()
        assert choices <= set(re.findall(r"`([\w.]+)`", line)), choices - set(re.findall(r"`([\w.]+)`", line))
