"""What many trainings gave: a label, a state and a history for each."""

import dataclasses
from typing import Any

import jax
import numpy as np

from funcnet._core import scalars
from funcnet._core.arrays import shown
from funcnet._core.figures import axes_of
from funcnet._core.tables import aligned, html_table, html_text
from funcnet.train.history import History
from funcnet.train.state import TrainState

Axis = tuple[str, list[str]]  # a name and labels
Grid = tuple[Axis, Axis, np.ndarray]


@dataclasses.dataclass(frozen=True, repr=False)
class Trainings:
    """Trainings side by side, from `fit_many`. `trainings[i]` is the (state, history) of one.

    Attributes:
        lanes: what each was: `{"learning_rate": 0.1, "seed": 0}`.
        states: a `TrainState` with lanes first in every array: ready for `jax.vmap`.
        history: a `History` with lanes first in every column.
        stopped: for each, why it ended before its last epoch; "" if it did not.
        failed: for each, whether it ended since something stopped being finite.
        larger_is_better: the columns of which the largest value is the best.
    """

    lanes: tuple[dict[str, Any], ...]
    states: TrainState
    history: History
    stopped: tuple[str, ...]
    failed: tuple[bool, ...]
    larger_is_better: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.lanes)

    def __getitem__(self, lane: int) -> tuple[TrainState, History]:
        if not scalars.is_integer(lane):
            raise TypeError(
                f"trainings: lane: expected the number of one, got {shown(lane)}. For a column use values(name)."
            )
        if not -len(self) <= lane < len(self):
            raise IndexError(f"trainings: there are {len(self)}, got lane {lane}.")
        state, history = jax.tree.map(lambda leaf: leaf[lane], (self.states, self.history))
        return state, dataclasses.replace(history, stopped=self.stopped[lane])

    def values(self, column: str | None = None) -> np.ndarray:
        """(lanes,): a column, in the epoch whose parameters were given back.

        That is the best with early stopping, else the last; NaN for a training that failed or had no epoch.
        Without a name the column is the validation cost, or the cost if there is none.
        """
        name = self._column(column)
        epochs = np.where(self.history.best_epoch, self.history.best_epoch, self.history.epochs)
        after = np.pad(np.asarray(self.history.columns[name]), ((0, 0), (1, 0)), constant_values=np.nan)
        return np.where(self.failed, np.nan, np.take_along_axis(after, epochs[:, None], 1)[:, 0])

    def best(self, column: str | None = None) -> int:
        """The number of the training with the best such value."""
        values = self.values(column)
        if np.isnan(values).all():
            raise ValueError(f"trainings: none has a value of {self._column(column)}. See `stopped` for why.")
        return int(np.nanargmax(values) if self._column(column) in self.larger_is_better else np.nanargmin(values))

    def grid(self, column: str | None = None, rows: str | None = None, columns: str | None = None) -> Grid:
        """A table of a column over two swept quantities, the mean over all else (seeds, mostly).

        Args:
            column: as for `values`.
            rows, columns: names in `lanes`; None takes the first two with more than one value.

        Returns:
            (name of the rows, their values), (name of the columns, their values), and the means (rows, columns).
            NaN where every training failed.

        Raises:
            ValueError: a name that is not in `lanes`; rows and columns are the same, or nothing but seeds was varied.
        """
        swept = {name: list(dict.fromkeys(_label(lane[name]) for lane in self.lanes)) for name in self.lanes[0]}
        several = [name for name, labels in swept.items() if len(labels) > 1]
        for argument, name in (("rows", rows), ("columns", columns)):
            if name is not None and (not isinstance(name, str) or name not in swept):
                raise ValueError(
                    f"trainings: {argument}: {shown(name)} is not among what was varied: "
                    f"{', '.join(several) or 'nothing'}."
                )
        rows = next((name for name in several if name != columns), "seed") if rows is None else rows
        columns = next((name for name in several if name != rows), "seed") if columns is None else columns
        if rows == columns:
            raise ValueError(
                f"trainings: a table needs two different quantities, and {', '.join(several) or 'nothing'} was varied. "
                "`values` gives a number for each training."
            )
        means = np.full((len(swept[rows]), len(swept[columns])), np.nan)
        values = self.values(column)
        for i, row in enumerate(swept[rows]):
            for j, other in enumerate(swept[columns]):
                here = [_label(lane[rows]) == row and _label(lane[columns]) == other for lane in self.lanes]
                cell = values[np.array(here) & ~np.isnan(values)]
                means[i, j] = cell.mean() if len(cell) else np.nan
        return (rows, swept[rows]), (columns, swept[columns]), means

    def plot(
        self, column: str | None = None, rows: str | None = None, columns: str | None = None, ax: Any = None
    ) -> Any:
        """Draw `grid` as a heat map: every mean written in its field, the best framed.

        Args:
            column, rows, columns: as for `grid`.
            ax: matplotlib axes to draw on; None makes a figure of its own, which a notebook shows.

        Returns:
            The axes. `ax.figure.savefig(path)` keeps the picture.

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: no training has a value to draw.
        """
        self.best(column)  # refuses where there is nothing to draw
        (row_name, row_labels), (column_name, column_labels), means = self.grid(column, rows, columns)
        alone, ax = ax is None, axes_of(ax, "Trainings.plot")
        if alone:  # room for a number in every field
            ax.figure.set_size_inches(max(6.4, 2.4 + 0.7 * len(column_labels)), max(4.8, 1.2 + 0.4 * len(row_labels)))
        name = self._column(column)
        larger = name in self.larger_is_better
        image = ax.imshow(means, cmap="viridis" if larger else "viridis_r", aspect="auto")
        middle = np.nanmean([np.nanmin(means), np.nanmax(means)])
        texts = ["failed" if np.isnan(value) else f"{value:#.4g}".rstrip(".") for value in means.flat]
        best = texts[np.nanargmax(means) if larger else np.nanargmin(means)]
        for number, (value, text) in enumerate(zip(means.flat, texts)):
            color = "white" if (value < middle if larger else value > middle) else "black"
            frame = {"boxstyle": "round", "fill": False, "linewidth": 1.5, "edgecolor": color}
            i, j = divmod(number, len(column_labels))
            ax.text(j, i, text, ha="center", va="center", color=color, bbox=frame if text == best else None)
        slanted = {"rotation": 30, "ha": "right"} if max(map(len, column_labels)) > 10 else {}
        ax.set_xticks(range(len(column_labels)), column_labels, **slanted)
        ax.set_yticks(range(len(row_labels)), row_labels)
        ax.set(xlabel=column_name.replace("_", " "), ylabel=row_name.replace("_", " "))
        each, some = len(self) // means.size, "up to " if np.isnan(self.values(name)).any() else ""
        of = f", mean of {some}{each}" if each > 1 else ""
        ax.figure.colorbar(image, ax=ax, label=name.replace("_", " ") + of)
        return ax

    def __repr__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        table, more = self._table(None, 20)
        return html_table(table, range(len(table[0]))) + "".join(html_text(line, "p") for line in more)

    def table(self, column: str | None = None, rows: int = 20) -> str:
        """The trainings in a table, those best by a column first (as `values` has it), `rows` of them."""
        table, more = self._table(column, rows)
        lines = aligned(table, range(len(table[0])), gap="  ", indent="")
        return "\n".join(lines + [f"  {line}" for line in more])

    def _table(self, column: str | None, rows: int) -> tuple[list[list[str]], list[str]]:
        """Its rows, and a line about those left out."""
        rows = scalars.integer("trainings: rows", rows, "how many, 0 or more")
        values = self.values(column)
        order = np.argsort(-values if self._column(column) in self.larger_is_better else values)
        names = [*self.lanes[0], *self.history.names]
        table = [["lane", *names]]
        for lane in order[:rows]:
            numbers = [f"{self.values(name)[lane]:.5g}" for name in self.history.names]
            table.append([str(lane), *(_label(value) for value in self.lanes[lane].values()), *numbers])
        return table, [f"... {len(self) - rows} more"] if len(self) > rows else []

    def _column(self, column: str | None) -> str:
        names = self.history.names
        name = ("validation_cost" if "validation_cost" in names else "cost") if column is None else column
        if not isinstance(name, str) or name not in names:
            raise KeyError(f"trainings: no column {shown(name)}; there are {', '.join(names)}.")
        return name


def _label(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
