"""What a training recorded, epoch by epoch."""

import csv
import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from funcnet._core.figures import COLOURS, axes_of, legend, plain

DASHES = ("--", ":", "-.")  # one for each metric


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["columns", "epochs", "best_epoch", "telemetry"],
    meta_fields=["names", "stopped", "looks", "note"],
)
@dataclasses.dataclass(frozen=True, repr=False)
class History:
    """A table with a row for every epoch. Also a pytree, so that a traced `fit` can return it.

    Attributes:
        names: of the columns, in order: "cost", "validation_cost", …
        columns: for each name its values: of the epochs that took place (of many trainings those of the longest), or,
            inside `jit`, with room for all that were asked for; `history[name]` gives those that took place.
        epochs: how many epochs took place.
        best_epoch: with early stopping, the epoch whose parameters were returned, counted from 1; else 0.
        stopped: why the training ended before its last epoch, in words; "" if it did not.
        telemetry: for each name ("layer 1: delta", "noise_scale", …, and "step", the number of the update) its
            values, with such room; `history.seen(name)` gives those that were taken.
        looks: how many there are in an epoch.
        note: what one should know of the columns, in words; "" if there is nothing.
    """

    names: tuple[str, ...]
    columns: dict[str, Any]
    epochs: jax.Array | int
    best_epoch: jax.Array | int
    stopped: str = ""
    telemetry: dict[str, Any] = dataclasses.field(default_factory=dict)
    looks: int = 0
    note: str = ""

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.columns:
            raise KeyError(f"history: no column {name!r}; there are {', '.join(self.names)}.")
        return np.asarray(self.columns[name])[: int(self.epochs)]

    def seen(self, name: str) -> np.ndarray:
        """The values of one name of the telemetry, in order of `seen("step")`."""
        if name not in self.telemetry:
            names = ", ".join(self.telemetry) or "none: ask fit for it by telemetry=10, say"
            raise KeyError(f"history: no telemetry {name!r}; there is {names}.")
        return np.asarray(self.telemetry[name])[: int(self.epochs) * self.looks]

    def to_csv(self, path: str | Path) -> None:
        """Write a file with a line for every epoch, every digit kept."""
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["epoch", *self.names])
            values = [self[name].tolist() for name in self.names]
            writer.writerows([epoch, *row] for epoch, row in enumerate(zip(*values), 1))

    def plot(self, ax: Any = None) -> Any:
        """Draw every column over the epochs: costs on the axes, the rest, dashed, on a second scale.

        Blue is the training, orange the validation; with early stopping a line marks the best epoch.

        Args:
            ax: matplotlib axes to draw on; None makes a figure of its own.

        Returns:
            The axes. `ax.figure.savefig(path)` keeps the picture.

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: this is the history of many trainings.
        """
        ax = axes_of(ax, "History.plot")
        if np.ndim(self.epochs):
            raise ValueError("History.plot: this is the history of many trainings. Draw that of one: many[0][1].")
        epochs = np.arange(1, int(self.epochs) + 1)
        metrics = list(dict.fromkeys(_measured(name) for name in self.names if not name.endswith("cost")))
        twin = ax.twinx() if metrics else ax
        handles, names = [], []
        for name in sorted(self.names, key=lambda name: not name.endswith("cost")):
            axes, dash = (ax, "-") if name.endswith("cost") else (twin, DASHES[metrics.index(_measured(name)) % 3])
            colour, finite = COLOURS[name.startswith("validation_")], np.isfinite(self[name])
            dots = {"marker": "o", "markevery": _lone(finite)}
            handles += axes.plot(epochs, self[name], dash, color=colour, label=plain(name), **dots)
            lost = f" ({(~finite).sum()} not finite)" if not finite.all() else ""
            names.append(name.replace("_", " ") + lost)
        if int(self.best_epoch):
            handles.append(ax.axvline(int(self.best_epoch), color="0.5", linewidth=1))
            names.append(f"best epoch, {int(self.best_epoch)}")
        ax.set(xlabel="epoch", ylabel="cost")
        ax.xaxis.get_major_locator().set_params(integer=True)
        if metrics:
            twin.set_ylabel(plain(", ".join(metrics).replace("_", " ")))
            ax.set_zorder(twin.get_zorder() + 1)  # no line of the second scale crosses the legend
            ax.patch.set_visible(False)
        legend(ax, handles, names, loc="center right" if metrics else "best", framealpha=1)
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
        yield from filter(None, (self.stopped, self.note))


def _lone(finite: np.ndarray) -> list[int]:
    """The places of points without a neighbour, which a line alone would not show."""
    around = np.pad(finite, 1)
    return np.flatnonzero(finite & ~around[:-2] & ~around[2:]).tolist()


def _measured(name: str) -> str:
    """What a column is about, of whatever data."""
    return name.removeprefix("validation_")
