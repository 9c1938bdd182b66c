"""`plot_confusion`: which classes are taken for which."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcnet._core import arguments
from funcnet._core.figures import axes_of, colour_map, plain
from funcnet._core.protocols import ArrayLike
from funcnet.plots.grids import checked_labels, checked_threshold, classes_of, targets_of

LEGIBLE = 30  # classes, beyond which no counts are written


def plot_confusion(
    predicted: ArrayLike, y: ArrayLike, *, labels: Sequence[Any] | None = None, threshold: float = 0.0, ax: Any = None
) -> Any:
    """Draw a table of how often each true class (row) was read as each class (column).

    The counts are written; the colour of a field is its share of its row.

    Args:
        predicted: a network's outputs (m, *positions, C), whose largest is the class; a single output
            (m, *positions, 1), which is class 1 above the threshold; or integer classes (m, *positions).
        y: integer classes (m, *positions), or probabilities (m, *positions, C).
        labels: a name for each class; None numbers them.
        threshold: for a single output: 0 for a logit, 0.5 behind a `Sigmoid`.
        ax: matplotlib axes to draw on; None makes a figure of its own, which a notebook shows.

    Returns:
        The axes. Their texts are the counts, row by row (none beyond 30 classes); their image's array the
        shares, NaN (grey) in the row of a class that no example has.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: unequal lengths; no examples; a class below 0, or beyond the outputs or labels; outputs
            that are not finite.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> outputs = jnp.array([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0]])
        >>> ax = fn.plot_confusion(outputs, jnp.array([0, 1, 1]), labels=["cat", "dog"])
        >>> [text.get_text() for text in ax.texts]
        ['1', '0', '1', '1']
    """
    ax_given, ax = ax is not None, axes_of(ax, "plot_confusion")
    threshold = checked_threshold("plot_confusion", threshold)
    classes, outputs = classes_of("plot_confusion", "predicted", predicted, threshold)
    known = np.issubdtype(np.asarray(predicted).dtype, np.floating)  # outputs say how many classes there are
    subject = f"predicted has {len(classes)} examples (shape {np.shape(predicted)})"
    true, least = targets_of("plot_confusion", y, len(classes), subject, outputs if known else None)
    named = 0 if known or labels is None or not arguments.is_list(labels) else len(labels)
    count = max(outputs, least, named)
    labels = checked_labels("plot_confusion", labels, count)
    counts = np.zeros((count, count), int)
    np.add.at(counts, (true, classes), 1)
    _draw(ax, counts, [plain(name) for name in labels], ax_given)
    return ax


def _draw(ax: Any, counts: np.ndarray, labels: list[str], ax_given: bool) -> None:
    rows = counts.sum(1, keepdims=True)
    shares = np.where(rows > 0, counts / np.maximum(rows, 1), np.nan)
    if not ax_given:  # room for a number in every field
        side = min(max(4.8, 1.6 + 0.45 * len(counts)), 12)
        ax.figure.set_size_inches(1.2 * side, side)
    image = ax.imshow(shares, cmap=colour_map("Blues"), vmin=0, vmax=1)
    if len(counts) <= LEGIBLE:
        for (row, column), number in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.5 else "black" if number else "0.6"
            ax.text(column, row, str(number), ha="center", va="center", color=colour)
    places = range(len(labels)) if len(labels) <= LEGIBLE else range(0, len(labels), -(-len(labels) // LEGIBLE))
    turned = {"rotation": 90} if len(labels) > 6 else {"rotation": 30, "ha": "right"}
    ax.set_xticks(places, [labels[place] for place in places], **(turned if max(map(len, labels)) > 3 else {}))
    ax.set_yticks(places, [labels[place] for place in places])
    ax.set(xlabel="class read", ylabel="true class")
    ax.figure.colorbar(image, ax=ax, label="share of the true class")
