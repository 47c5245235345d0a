"""Imports run one way, and what only looks at configs imports nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = {
    "schema": 0,
    "errors": 0,
    "files": 0,
    "locks": 0,
    "metrics": 0,
    "resolvers": 0,
    "cli": 0,
    "groups": 0,
    "arguments": 0,
    "secrets": 0,
    "console": 0,
    "device": 0,
    "memory": 0,
    "signals": 0,
    "versions": 0,
    "limits": 0,
    "bounds": 0,
    "checks": 0,
    "data": 1,
    "surrogates": 1,
    "training": 2,
    "storage": 2,
    "tuning": 3,
    "results": 4,
    "callbacks": 5,
    "certify": 5,
    "promote": 5,
    "replay": 5,
    "status": 5,
    "dashboard": 5,
    "export": 5,
    "report": 5,
}


def imported_modules(path: Path) -> set[str]:
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
            modules.update(f"{node.module}.{alias.name}" for alias in node.names)
    return modules


def part(module: str) -> str:
    """Second name of a module of ours: ``codes.data.hdf5`` is in ``data``."""
    return module.split(".")[1] if module.count(".") else ""


@pytest.mark.parametrize("path", sorted((ROOT / "codes").rglob("*.py")), ids=lambda path: path.stem)
def test_imports_run_one_way(path):
    own = path.relative_to(ROOT / "codes").with_suffix("").parts[0]
    if own == "__init__":  # the package itself hands out `load` on first use
        return
    modules = imported_modules(path)
    ours = {part(module) for module in modules if module.startswith("codes.")} & set(LAYERS)
    assert own in LAYERS, f"codes/{own} has no place in the layers yet"
    beside = {other for other in LAYERS if LAYERS[other] == 0} if LAYERS[own] == 0 else {own}
    above = {other for other in ours - beside if LAYERS[other] >= LAYERS[own]}
    assert not above, f"{path.name} of {own} imports {above}"
    assert not {"train", "tune"} & modules, "codes/ never imports a script"
    if own == "training":
        assert not {module.split(".")[0] for module in modules} & {"optuna", "hydra"}
    if own == "tuning":
        assert "training" not in ours, "the trainer comes in as an argument"
        assert "torch" not in {module.split(".")[0] for module in modules}, "the coordinator is to hold no GPU"


@pytest.mark.parametrize("module", ["codes", "codes.schema", "codes.resolvers", "codes.metrics", "train", "tune"])
def test_import_stays_light(module):
    code = f"import sys, {module}; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "optuna", "scipy", "h5py", "plotly"} & set(result.stdout.split())


def test_a_training_does_not_import_the_compiler_of_pytorch():
    """Which takes a second at the start of each worker."""
    program = """
import sys
from codes.surrogates import SURROGATES
from codes.training import train, warm_up
from tests.training import example
from tests.training.test_population import DIFFERENT
warm_up()
for name, change in zip(SURROGATES, DIFFERENT, strict=True):
    kind = [f"surrogate.{key}={change[key]}" for key in ("optimizer", "scheduler")]
    train(example.config(name, *kind), example.data(), "cpu", progress=False)
assert "torch._dynamo" not in sys.modules
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_a_dataset_that_is_there_is_loaded_without_scipy(tmp_path):
    """Whose integrators take half a second at the start of each training and worker."""
    program = """
import sys
from pathlib import Path
from codes.data.generate import GenerateConfig, generate
generate(GenerateConfig("robertson", 2, 1, 1, 42), Path(sys.argv[1]))
print(*sys.modules)
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    first, second = (
        subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split() for _ in range(2)
    )
    assert "scipy" in first
    assert "scipy" not in second
