"""Training: whole epochs, and whole trainings, in one compiled program."""

from funcnet.train.checkpoint import Checkpoint
from funcnet.train.class_weights import class_weights
from funcnet.train.epoch import train_epoch
from funcnet.train.fit import fit
from funcnet.train.history import History
from funcnet.train.many import fit_many
from funcnet.train.metrics import F1, R2, Accuracy, MeanAbsoluteError, Metric, TopK
from funcnet.train.private import Privacy, noise_multiplier
from funcnet.train.state import TrainState, train_state
from funcnet.train.stopping import EarlyStopping
from funcnet.train.trainings import Trainings

__all__ = [
    "F1",
    "R2",
    "Accuracy",
    "Checkpoint",
    "EarlyStopping",
    "History",
    "MeanAbsoluteError",
    "Metric",
    "Privacy",
    "TopK",
    "TrainState",
    "Trainings",
    "class_weights",
    "fit",
    "fit_many",
    "noise_multiplier",
    "train_epoch",
    "train_state",
]
