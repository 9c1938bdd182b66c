"""Training: whole epochs, and whole trainings, in one compiled program."""

from funcnet.train.epoch import train_epoch
from funcnet.train.fit import fit
from funcnet.train.history import History
from funcnet.train.metrics import F1, R2, Accuracy, MeanAbsoluteError, Metric, TopK
from funcnet.train.state import TrainState, train_state
from funcnet.train.stopping import EarlyStopping

__all__ = [
    "F1",
    "R2",
    "Accuracy",
    "EarlyStopping",
    "History",
    "MeanAbsoluteError",
    "Metric",
    "TopK",
    "TrainState",
    "fit",
    "train_epoch",
    "train_state",
]
