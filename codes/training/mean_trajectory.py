"""What any surrogate must beat: a prediction that knows the training data, and nothing of the trajectory asked for."""

from torch import Tensor, nn

from codes.data import PreparedData, TensorSplit
from codes.training.evaluation import evaluate


class MeanTrajectory(nn.Module):
    """Predicts the mean of the training trajectories, whatever the initial state and the parameters.

    The mean is that of the normalised data [T, Q], so of data under a log transform it is the geometric one. In
    forecasting it is called climatology (A. H. Murphy, Weather and Forecasting 7, 692-698, 1992).
    """

    mean: Tensor

    def __init__(self, train: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", train.mean(0))

    def forward(self, x0: Tensor, t: Tensor, p: Tensor | None = None) -> Tensor:
        """The same for each of B initial states [B, Q]: [B, T, Q], at the dataset's times."""
        return self.mean.expand(len(x0), -1, -1)


def mean_errors(data: PreparedData, split: TensorSplit, target_percentile: float) -> dict[str, float]:
    """Errors of the mean training trajectory on a ``split`` of ``data``, as ``evaluate`` has them of a surrogate."""
    return evaluate(MeanTrajectory(data.train.x), split, data.t, data.transform, target_percentile)
