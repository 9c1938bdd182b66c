"""What many trainings gave: a label, a state and a history for each."""

import dataclasses
from typing import Any

import jax
import numpy as np

from funcnet.train.history import History, axes_of
from funcnet.train.state import TrainState


@dataclasses.dataclass(frozen=True, repr=False)
class Trainings:
    """Trainings side by side, from `fit_many`. `trainings[i]` is the (state, history) of one.

    Attributes:
        lanes: what each was: `{"learning_rate": 0.1, "seed": 0}`.
        states: a `TrainState` with lanes first in every array: ready for `jax.vmap`.
        history: a `History` with lanes first in every column.
        stopped: for each, why it ended before its last epoch; "" if it did not.
        larger_is_better: the columns of which the largest value is the best.
    """

    lanes: tuple[dict[str, Any], ...]
    states: TrainState
    history: History
    stopped: tuple[str, ...]
    larger_is_better: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.lanes)

    def __getitem__(self, lane: int) -> tuple[TrainState, History]:
        if not -len(self) <= lane < len(self):
            raise IndexError(f"trainings: there are {len(self)}, got number {lane}.")
        state, history = jax.tree.map(lambda leaf: leaf[lane], (self.states, self.history))
        return state, dataclasses.replace(history, stopped=self.stopped[lane])

    def values(self, column: str | None = None) -> np.ndarray:
        """(lanes,): a column, in the epoch whose parameters were given back.

        That is the best with early stopping, else the last; NaN for a training without an epoch.
        Without a name the column is the validation cost, or the cost if there is none.
        """
        name = self._column(column)
        epochs = np.where(self.history.best_epoch, self.history.best_epoch, self.history.epochs)
        found = np.take_along_axis(np.asarray(self.history.columns[name]), np.maximum(epochs - 1, 0)[:, None], 1)[:, 0]
        return np.where(epochs > 0, found, np.nan)

    def best(self, column: str | None = None) -> int:
        """The number of the training with the best such value."""
        values = self.values(column)
        if np.isnan(values).all():
            raise ValueError(f"trainings: none has a value of {self._column(column)}. See `stopped` for why.")
        return int(np.nanargmax(values) if self._column(column) in self.larger_is_better else np.nanargmin(values))

    def grid(self, column: str | None = None, rows: str | None = None, columns: str | None = None) -> Any:
        """A table of a column over two swept quantities, the mean over all else (seeds, mostly).

        Args:
            column: as for `values`.
            rows, columns: names in `lanes`; None takes the first two with more than one value.

        Returns:
            (name of the rows, their values), (name of the columns, their values), and the means (rows, columns).
            NaN where every training failed.

        Raises:
            ValueError: a name that is not in `lanes`; nothing was swept.
        """
        swept = {name: list(dict.fromkeys(_label(lane[name]) for lane in self.lanes)) for name in self.lanes[0]}
        several = [name for name, labels in swept.items() if len(labels) > 1]
        rows = rows or next((name for name in several if name != columns), "seed")
        columns = columns or next((name for name in several if name != rows), "seed")
        for name in (rows, columns):
            if name not in swept:
                raise ValueError(
                    f"trainings: {name!r} is not among what was varied: {', '.join(several) or 'nothing'}."
                )
        means = np.full((len(swept[rows]), len(swept[columns])), np.nan)
        values = self.values(column)
        for i, row in enumerate(swept[rows]):
            for j, other in enumerate(swept[columns]):
                here = [_label(lane[rows]) == row and _label(lane[columns]) == other for lane in self.lanes]
                own = values[np.array(here) & ~np.isnan(values)]
                means[i, j] = own.mean() if len(own) else np.nan
        return (rows, swept[rows]), (columns, swept[columns]), means

    def plot(
        self, column: str | None = None, rows: str | None = None, columns: str | None = None, ax: Any = None
    ) -> Any:
        """Draw `grid` as a heat map, every value written in its field.

        Args:
            column, rows, columns: as for `grid`.
            ax: matplotlib axes to draw on; None makes a figure of its own.

        Returns:
            The axes. `ax.figure.savefig(path)` keeps the picture.

        Raises:
            ImportError: matplotlib is not installed.
        """
        (row_name, row_labels), (column_name, column_labels), means = self.grid(column, rows, columns)
        ax = axes_of(ax, "Trainings.plot")
        name = self._column(column)
        image = ax.imshow(means, cmap="viridis" if name in self.larger_is_better else "viridis_r", aspect="auto")
        middle = np.nanmean([np.nanmin(means), np.nanmax(means)])
        dark = means < middle if name in self.larger_is_better else means > middle
        for (i, j), value in np.ndenumerate(means):
            ax.text(j, i, f"{value:.4g}", ha="center", va="center", color="white" if dark[i, j] else "black")
        ax.set_xticks(range(len(column_labels)), column_labels)
        ax.set_yticks(range(len(row_labels)), row_labels)
        ax.set(xlabel=column_name.replace("_", " "), ylabel=row_name.replace("_", " "))
        ax.figure.colorbar(image, ax=ax, label=name.replace("_", " "))
        return ax

    def __repr__(self) -> str:
        """The trainings in a table, the best first."""
        column, values = self._column(None), self.values()
        order = np.argsort(-values if column in self.larger_is_better else values)
        names = [*self.lanes[0], *self.history.names]
        table = [["lane", *names]]
        for lane in order[:20]:
            numbers = [f"{self.values(name)[lane]:.5g}" for name in self.history.names]
            table.append([str(lane), *(_label(value) for value in self.lanes[lane].values()), *numbers])
        widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in table]
        return "\n".join(lines + ([f"  ... {len(self) - 20} more"] if len(self) > 20 else []))

    def _column(self, column: str | None) -> str:
        names = self.history.names
        name = column or ("validation_cost" if "validation_cost" in names else "cost")
        if name not in names:
            raise KeyError(f"trainings: no column {name!r}; there are {', '.join(names)}.")
        return name


def _label(value: Any) -> str:
    return f"{value:g}" if isinstance(value, (int, float, np.number)) else str(value)
