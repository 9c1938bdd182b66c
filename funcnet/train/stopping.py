"""`EarlyStopping`: when to end a training, and which parameters to give back."""

from typing import NamedTuple

import numpy as np

from funcnet._core.specs import spec


@spec
class EarlyStopping:
    """Stop when a recorded quantity has not improved for `patience` epochs; give back the best parameters.

    Any number is better than NaN. If there was no number at all, there is a warning, and the parameters of the last
    epoch are given back.

    Args:
        monitor: the column to watch: "validation_cost", "cost", "validation_accuracy", …
        patience: how many epochs without improvement are borne.
        min_change: by how much a value must beat the best to count as an improvement.
        start_from_epoch: how many epochs are not watched at the beginning: none of them is the best.

    Raises:
        ValueError: a patience below 1, or a negative number.

    Source: Prechelt, "Early stopping, but when?", 1998.

    Example:
        >>> import funcnet as fn
        >>> fn.EarlyStopping(monitor="validation_accuracy", patience=5)
        EarlyStopping(monitor='validation_accuracy', patience=5)
    """

    monitor: str = "validation_cost"
    patience: int = 10
    min_change: float = 0.0
    start_from_epoch: int = 0

    def __post_init__(self) -> None:
        if self.patience < 1 or self.min_change < 0 or self.start_from_epoch < 0:
            raise ValueError(f"{self}: patience must be 1 or more, min_change and start_from_epoch 0 or more.")


class Limits(NamedTuple):
    """The numbers of early stopping, which are no part of a program."""

    patience: np.ndarray | int
    min_change: np.ndarray | float
    start_from_epoch: np.ndarray | int


def limits_of(stopping: EarlyStopping | None) -> Limits | None:
    if stopping is None:
        return None
    return Limits(stopping.patience, stopping.min_change, stopping.start_from_epoch)


def never_a_number(stopping: EarlyStopping) -> str:
    return (
        f"{stopping}: {stopping.monitor} was NaN in every epoch, so none was the best, and the parameters of the last "
        "are returned. See why it is NaN, or monitor another column."
    )
