"""What a training recorded, epoch by epoch."""

import csv
import dataclasses
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np

from funcnet._core.arrays import shown
from funcnet._core.figures import COLOURS, axes_of, legend, plain
from funcnet._core.tables import aligned, html_table, html_text

DASHES = ("--", ":", "-.")  # one for each metric


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["columns", "epochs", "best_epoch", "telemetry"],
    meta_fields=["names", "stopped", "looks", "note"],
)
@dataclasses.dataclass(frozen=True, repr=False)
class History(dict[str, Any]):
    """A table with a row for every epoch, and a dict of its columns that is not changed.

    `history["cost"]` holds the values of the epochs that took place; `history.items()` and `pandas.DataFrame(history)`
    give all. Also a pytree, so that a traced `fit` can return it.

    Attributes:
        names: of the columns, in order: "cost", "validation_cost", …
        columns: for each name its values: of the epochs that took place (of many trainings those of the longest), or,
            inside `jit`, with room for all that were asked for.
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

    def __post_init__(self) -> None:
        dict.update(self, dict.fromkeys(self.names))  # pandas takes columns by name from a dict alone

    def __getitem__(self, name: str) -> np.ndarray:
        if not isinstance(name, str) or name not in self.columns:
            raise KeyError(f"history: no column {shown(name)}; there are {', '.join(self.names)}.")
        return np.asarray(self.columns[name])[: int(self.epochs)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)  # where a dict has its own, dict(history) asks `history[name]`

    values = Mapping.values  # type: ignore[assignment]  # it asks `history[name]`, as dict's own does not
    items = Mapping.items  # type: ignore[assignment]
    get = Mapping.get  # type: ignore[assignment]

    def copy(self) -> dict[str, np.ndarray]:
        return dict(self)

    def __or__(self, other: dict[str, Any]) -> dict[str, Any]:  # type: ignore[override]
        return self.copy() | other

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, field.name) for field in dataclasses.fields(self))

    def _unchanged(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(
            "history: it is a record, which is not changed. dict(history) is a dict of its columns to change."
        )

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _unchanged

    def seen(self, name: str) -> np.ndarray:
        """The values of one name of the telemetry, in order of `seen("step")`."""
        if not isinstance(name, str) or name not in self.telemetry:
            names = ", ".join(self.telemetry) or "none: ask fit for it by telemetry=10, say"
            raise KeyError(f"history: no telemetry {shown(name)}; there is {names}.")
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
            ax: matplotlib axes to draw on; None makes a figure of its own, which a notebook shows.

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
        if not self._is_known():
            return self._in_words()
        rows = [[cell.rjust(10) if 0 < i <= len(self) else cell for i, cell in enumerate(row)] for row in self._table()]
        return "\n".join([*aligned(rows, range(len(self) + 1), gap="  ", indent=""), *self._remarks()])

    def _repr_html_(self) -> str:
        if not self._is_known():
            return html_text(self._in_words(), "p")
        remarks = "".join(html_text(remark, "p") for remark in self._remarks())
        return html_table(self._table(), range(len(self) + 1)) + remarks

    def _is_known(self) -> bool:
        return all(not isinstance(leaf, jax.core.Tracer) and np.ndim(leaf) == 1 for leaf in self.columns.values())

    def _in_words(self) -> str:
        return f"History of {', '.join(self.names)}: traced or stacked"

    def _table(self) -> list[list[str]]:
        """A head, and a row for every epoch, or for the first and the last of many. The last cell marks the best."""
        epochs, columns = int(self.epochs), list(self.values())
        shown = range(epochs) if epochs <= 30 else [*range(3), None, *range(epochs - 6, epochs)]
        table = [["epoch", *self.names, ""]]
        for epoch in shown:
            if epoch is None:
                table.append(["...", *[""] * len(columns), ""])
            else:
                mark = "best" if epoch + 1 == int(self.best_epoch) else ""
                table.append([str(epoch + 1), *(f"{column[epoch]:.5g}" for column in columns), mark])
        return table

    def _remarks(self) -> list[str]:
        return [remark for remark in (self.stopped, self.note) if remark]


def _lone(finite: np.ndarray) -> list[int]:
    """The places of points without a neighbour, which a line alone would not show."""
    around = np.pad(finite, 1)
    return np.flatnonzero(finite & ~around[:-2] & ~around[2:]).tolist()


def _measured(name: str) -> str:
    """What a column is about, of whatever data."""
    return name.removeprefix("validation_")
