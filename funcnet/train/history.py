"""What a training recorded, epoch by epoch."""

import csv
import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["columns", "epochs", "best_epoch", "telemetry"],
    meta_fields=["names", "stopped", "looks"],
)
@dataclasses.dataclass(frozen=True, repr=False)
class History:
    """A table with a row for every epoch. Also a pytree, so that a traced `fit` can return it.

    Attributes:
        names: of the columns, in order: "cost", "validation_cost", …
        columns: for each name its values, with room for all epochs that were asked for;
            `history[name]` gives those that took place.
        epochs: how many epochs took place.
        best_epoch: with early stopping, the epoch whose parameters were returned, counted from 1; else 0.
        stopped: why the training ended before its last epoch, in words; "" if it did not.
        telemetry: for each name ("layer 1: delta", "noise_scale", …, and "step", the number of the update) its
            values, with room for all epochs; `history.seen(name)` gives those that were taken.
        looks: how many there are in an epoch.
    """

    names: tuple[str, ...]
    columns: dict[str, Any]
    epochs: Any
    best_epoch: Any
    stopped: str = ""
    telemetry: dict[str, Any] = dataclasses.field(default_factory=dict)
    looks: int = 0

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.columns:
            raise KeyError(f"history: no column {name!r}; there are {', '.join(self.names)}.")
        return np.asarray(self.columns[name])[: int(self.epochs)]

    def seen(self, name: str) -> np.ndarray:
        """The values of one name of the telemetry, in order of `seen("step")`."""
        if name not in self.telemetry:
            there = ", ".join(self.telemetry) or "none: ask fit for it by telemetry=10, say"
            raise KeyError(f"history: no telemetry {name!r}; there is {there}.")
        return np.asarray(self.telemetry[name])[: int(self.epochs) * self.looks]

    def to_csv(self, path: str | Path) -> None:
        """Write a file with a line for every epoch, every digit kept."""
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["epoch", *self.names])
            values = [self[name].tolist() for name in self.names]
            writer.writerows([epoch, *row] for epoch, row in enumerate(zip(*values), 1))

    def plot(self, ax: Any = None) -> Any:
        """Draw every column over the epochs: costs on the axes, the rest on a second scale.

        Args:
            ax: matplotlib axes to draw on; None makes a figure of its own.

        Returns:
            The axes. `ax.figure.savefig(path)` keeps the picture.

        Raises:
            ImportError: matplotlib is not installed.
        """
        ax = axes_of(ax, "History.plot")
        epochs = np.arange(1, int(self.epochs) + 1)
        costs = [name for name in self.names if name.endswith("cost")]
        rest = [name for name in self.names if name not in costs]
        twin = ax.twinx() if rest else ax
        for number, name in enumerate([*costs, *rest]):
            axes, dash = (ax, "-") if name in costs else (twin, "--")
            axes.plot(epochs, self[name], dash, color=f"C{number}", label=name)
        ax.set(xlabel="epoch", ylabel="cost")
        handles = [line for axes in dict.fromkeys((ax, twin)) for line in axes.get_lines()]
        ax.legend(handles, [line.get_label() for line in handles])
        return ax

    def __repr__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        if any(isinstance(leaf, jax.core.Tracer) or np.ndim(leaf) != 1 for leaf in self.columns.values()):
            yield f"History of {', '.join(self.names)}: traced or stacked"
            return
        widths = {name: max(len(name), 10) for name in self.names}
        yield "epoch  " + "  ".join(name.rjust(width) for name, width in widths.items())
        epochs = int(self.epochs)
        shown = range(epochs) if epochs <= 30 else [*range(3), None, *range(epochs - 6, epochs)]
        for epoch in shown:
            if epoch is None:
                yield "  ..."
                continue
            cells = (f"{self[name][epoch]:{width}.5g}" for name, width in widths.items())
            mark = "  best" if epoch + 1 == int(self.best_epoch) else ""
            yield f"{epoch + 1:5}  " + "  ".join(cells) + mark
        if self.stopped:
            yield self.stopped


def axes_of(ax: Any, what: str) -> Any:
    """The axes to draw on: those given, or those of a figure of its own, which no global state knows."""
    if ax is not None:
        return ax
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"{what} needs matplotlib: pip install 'funcnet[plot]'.") from error
    return Figure(layout="constrained").subplots()
