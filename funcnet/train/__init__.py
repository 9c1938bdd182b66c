"""Training: whole epochs in one compiled program."""

from funcnet.train.epoch import train_epoch
from funcnet.train.state import TrainState, train_state

__all__ = ["TrainState", "train_epoch", "train_state"]
