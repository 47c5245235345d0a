"""Which initial states and parameters a surrogate has seen in training, and what to say of those that it has not."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from codes.data import PreparedData
from codes.data.scaling import Scaling
from codes.schema import DataSpec

ROUNDING = 1e-5  # of normalised values, generously: they went through float32


@dataclass(frozen=True, eq=False)
class Range:
    """Lowest and highest physical value of each column, ``[K]`` float64."""

    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, normalised: Tensor, scaling: Scaling) -> "Range":
        """Range of the rows of ``normalised`` ``[n, K]``."""
        low, high = (scaling.inverse(end.double()).cpu() for end in normalised.aminmax(dim=0))
        return cls(low, high)

    def limits(self, scaling: Scaling) -> tuple[Tensor, Tensor]:
        """``low`` and ``high`` as ``scaling`` normalises them, on its device, with room for rounding."""
        low, high = (scaling.forward(end.to(scaling.scale.device)) for end in (self.low, self.high))
        warped = scaling.offset.abs() + scaling.log10  # rounding is relative: of a logarithm the same, however small
        slack = ROUNDING * (1 + torch.maximum(low.abs(), high.abs()) + warped / scaling.scale)
        return low - slack, high + slack

    def to_dict(self) -> dict[str, list[float]]:
        """Plain numbers, exact."""
        return {"low": self.low.tolist(), "high": self.high.tolist()}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any], n_columns: int) -> "Range":
        """Inverse of ``to_dict``; a ValueError for anything but ``n_columns`` ranges."""
        low, high = (torch.tensor(state[end], dtype=torch.float64) for end in ("low", "high"))
        if low.shape != (n_columns,) or high.shape != (n_columns,) or not (low <= high).all():
            raise ValueError(f"a range of {n_columns} columns must have a low and a high for each")
        return cls(low, high)


@dataclass(frozen=True, eq=False)
class Seen:
    """Ranges of the training split's initial states, and of its parameters if the dataset has some."""

    initial_states: Range
    parameters: Range | None

    @classmethod
    def of(cls, data: PreparedData) -> "Seen":
        """What the training split of ``data`` shows."""
        train, transform = data.train, data.transform
        parameters = (
            None if train.p is None or transform.parameters is None else Range.of(train.p, transform.parameters)
        )
        return cls(Range.of(train.x[:, 0], transform.quantities), parameters)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, exact."""
        return {
            "initial_states": self.initial_states.to_dict(),
            "parameters": None if self.parameters is None else self.parameters.to_dict(),
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any], spec: DataSpec) -> "Seen":
        """Inverse of ``to_dict``."""
        parameters = Range.from_dict(state["parameters"], spec.n_parameters) if spec.n_parameters else None
        return cls(Range.from_dict(state["initial_states"], spec.n_quantities), parameters)


class Outside(NamedTuple):
    """What to say of values outside, and of which columns it is."""

    said: str
    columns: set[tuple[str, int]]


def outside(
    name: str, labels: Sequence[str], physical: Tensor, excess: Tensor, seen: Range, told: Container[tuple[str, int]]
) -> Outside | None:
    """About the value of ``physical`` ``[n, K]`` that is farthest outside, if one is, columns ``told`` aside."""
    beyond = excess > 0
    if not beyond.any():
        return None
    columns = [column for column in beyond.any(dim=0).nonzero().flatten().tolist() if (name, column) not in told]
    if not columns:
        return None
    row, position = divmod(int(excess[:, columns].argmax()), len(columns))
    column, n_outside = columns[position], int(beyond[:, columns].sum())
    also = ", ".join(labels[other] for other in columns if other != column)
    others = "" if n_outside == 1 else f" ({n_outside} values are outside of theirs{also and f', also of {also}'})"
    said = (
        f"{name}: {labels[column]} = {physical[row, column].item():g} at index [{row}, {column}] is outside the range "
        f"[{seen.low[column].item():g}, {seen.high[column].item():g}] seen in training{others}"
    )
    return Outside(said, {(name, column) for column in columns})
