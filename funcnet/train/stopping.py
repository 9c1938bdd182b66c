"""`EarlyStopping`: when to end a training, and which parameters to give back."""

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

    Raises:
        ValueError: a patience below 1 or a negative change.

    Source: Prechelt, "Early stopping, but when?", 1998.
    """

    monitor: str = "validation_cost"
    patience: int = 10
    min_change: float = 0.0

    def __post_init__(self) -> None:
        if self.patience < 1 or self.min_change < 0:
            raise ValueError(f"{self}: patience must be 1 or more and min_change 0 or more.")


def never_a_number(stopping: EarlyStopping) -> str:
    return (
        f"{stopping}: {stopping.monitor} was NaN in every epoch, so none was the best, and the parameters of the last "
        "are returned. See why it is NaN, or monitor another column."
    )
