"""The contract of every surrogate."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from codes.errors import UserError
from codes.limits import check
from codes.schema import DataSpec, SurrogateConfig

Criterion = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Effort:
    """Steps that a solver takes: as many as it needs, or ``fixed``; of the last time how many were ``needed``.

    With a fixed number no value is looked at, so that the solver can be recorded as a CUDA graph, and ``needed`` is a
    tensor. Where it does not suffice, states are NaN.
    """

    fixed: int | None = None
    needed: int | Tensor = 0


class SolverFailure(ArithmeticError):
    """An ODE solver gave up: too many steps, or a state that is no longer finite."""


class Surrogate(nn.Module):
    r"""A map :math:`(x_0, t, p) \mapsto x(t)` from an initial state, a time and parameters to the state at that time.

    A family implements :meth:`forward`; one that learns from more than its prediction also overrides :meth:`loss`.
    Everything is normalised: states and parameters by the dataset's transform, times to [0, 1].

    Attributes:
        pointwise: each (trajectory, time) pair is a training sample of its own; otherwise a whole trajectory is one.
        stackable: K models can be one: with parameters [K, ...] (:func:`codes.surrogates.stack.stacked`), ``forward``
            and ``loss`` take x0 [K, B, Q], t [K, T], p [K, B, P], x [K, B, T, Q], and give [K, B, T, Q] and [K].
        stacked: this is such a model.
        capturable: on a GPU, ``forward`` and ``loss`` neither read a value back nor move one there, so that a training
            step can be recorded as a CUDA graph.
        effort: of a family whose solver takes as many steps as values need, and reads none back while that is fixed.

    Raises:
        UserError: a hyperparameter breaks a rule.
    """

    pointwise: ClassVar[bool] = True
    stackable: ClassVar[bool] = False
    capturable: ClassVar[bool] = False
    stacked: bool = False
    effort: Effort | None = None

    def __init__(self, config: SurrogateConfig, spec: DataSpec) -> None:
        super().__init__()
        check(config, "surrogate")
        self.config = config
        self.spec = spec

    def forward(self, x0: Tensor, t: Tensor, p: Tensor | None = None) -> Tensor:
        """Predict the states at any times, in any order.

        Args:
            x0: initial states, [B, Q].
            t: times that all trajectories share, [T].
            p: parameters, [B, P]; None if the dataset has none.

        Returns:
            States, [B, T, Q].

        Raises:
            UserError: a shape does not fit the dataset.
        """
        raise NotImplementedError

    def loss(self, x0: Tensor, t: Tensor, p: Tensor | None, x: Tensor, criterion: Criterion) -> Tensor:
        """The scalar that training minimises: ``criterion`` of the prediction against the states ``x`` [B, T, Q].

        Of a stacked model ``criterion`` gives one scalar per model, [K].
        """
        return criterion(self(x0, t, p), x)

    def check_inputs(self, x0: Tensor, t: Tensor, p: Tensor | None) -> None:
        """Raise a UserError unless ``x0`` is [B, Q], ``t`` is [T] and ``p`` is [B, P], or None for P = 0.

        Of a stacked model each has a dimension more.
        """
        if x0.ndim != 2 + self.stacked or x0.shape[-1] != self.spec.n_quantities:
            raise UserError(f"x0: must have shape [B, {self.spec.n_quantities}] but has {list(x0.shape)}")
        if t.ndim != 1 + self.stacked:
            raise UserError(f"t: must have shape [T] but has {list(t.shape)}")
        wanted = [*x0.shape[:-1], self.spec.n_parameters] if self.spec.n_parameters else None
        given = None if p is None else list(p.shape)
        if given != wanted:
            rule = f"must have shape {wanted}" if wanted else "must be left out, the dataset has none,"
            raise UserError(f"parameters: {rule} but {f'have {given}' if given else 'are missing'}")
