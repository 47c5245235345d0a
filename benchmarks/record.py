"""What was measured, with where and when."""

import json
import os
import platform
from datetime import date
from pathlib import Path
from typing import Any

import torch

from codes.device import device_model

RESULTS = Path(__file__).parent / "results"


def circumstances() -> dict[str, Any]:
    """Today, this machine, and how much else it has to do."""
    machine = {"cpu": device_model("cpu"), "cores": os.cpu_count(), "torch": str(torch.__version__)}
    machine["python"] = platform.python_version()
    return {"date": date.today().isoformat(), "machine": machine, "load": os.getloadavg()}


def keep(name: str, **measured: Any) -> Path:
    """Write ``measured`` to ``results/<name>.json``; its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({**circumstances(), **measured}, indent=1) + "\n")
    return path
