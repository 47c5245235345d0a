"""Training: the one loop, what it measures, and what it leaves."""

from codes.errors import Diverged, StopTraining
from codes.metrics import METRICS
from codes.training.artifact import save_artifact
from codes.training.evaluation import evaluate, evaluate_by_quantity
from codes.training.optim import warm_up
from codes.training.population import check_population, speed_up, train_population
from codes.training.predictor import Predictor, load
from codes.training.progress import TrainResult
from codes.training.records import write_history, write_metrics
from codes.training.trainer import train

__all__ = [
    "METRICS",
    "Diverged",
    "Predictor",
    "StopTraining",
    "TrainResult",
    "check_population",
    "evaluate",
    "evaluate_by_quantity",
    "load",
    "save_artifact",
    "speed_up",
    "train",
    "train_population",
    "warm_up",
    "write_history",
    "write_metrics",
]
