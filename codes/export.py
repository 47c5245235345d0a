"""Write a saved surrogate as one file for simulation codes: from physical units to physical units.

    python -m codes.export model=outputs/trained/robertson/MultiONet                  # model.pt2 in that folder
    python -m codes.export model=outputs/trained/robertson/MultiONet format=onnx      # model.onnx
    python -m codes.export model=outputs/tuned/robertson/MultiONet/models/17 file=chemistry.pt2

format=torch_export is for torch.export.load, format=onnx for any ONNX runtime (needs the extra `export`). The file
takes x0 [B, Q], t [T] and, where the data have them, params [B, P], in float64. It is run and compared with the
original before it appears; a file that is there is not replaced.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codes.errors import UserError


def main(values: dict[str, Any], overrides: Sequence[str]) -> str:
    """Write the file; where it is, what it takes, and how far it is from the original."""
    from codes.training.export import ALLOWED, export

    if overrides:
        raise UserError(f"{' '.join(overrides)} is not understood; the keys are model, format and file")
    if not values["model"]:
        raise UserError("model: give the folder of a saved surrogate, as model=outputs/trained/robertson/MultiONet")
    written = export(Path(values["model"]), values["format"], Path(values["file"]) if values["file"] else None)
    inputs = ", ".join(f"{name} {shape}" for name, shape in written.inputs.items())
    agrees = (
        "bit for bit the original"
        if written.difference == 0
        else f"differs from the original by {written.difference:.1g}"
    )
    return f"{written.path}\n  takes {inputs}, float64\n  {agrees} (relative; {ALLOWED:g} is allowed)"


if __name__ == "__main__":
    from codes.results.command import run

    run(__doc__, {"model": "", "format": "torch_export", "file": ""}, main, of_a_study=False)
