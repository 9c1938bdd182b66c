"""`plot_decision_regions`: which class a network of two inputs sees where."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core import arguments, walkers
from funcnet._core.figures import COLOURS, MARKERS, NOTHING, axes_of, legend, plain
from funcnet._core.protocols import AnyLayer, ArrayLike, Params
from funcnet.plots.grids import at_once, checked_labels, checked_points, checked_threshold, targets_of
from funcnet.propagation import predict


def plot_decision_regions(
    net: AnyLayer,
    params: Params,
    x: ArrayLike,
    y: ArrayLike,
    *,
    labels: Sequence[Any] | None = None,
    names: Sequence[Any] = ("x[0]", "x[1]"),
    threshold: float = 0.0,
    points: int = 200,
    ax: Any = None,
) -> Any:
    """Draw the class a network gives to every point of the plane, and the examples on it.

    Args:
        net: a layer with two inputs. The class is that of the largest output; with one output, whether it
            is above the threshold.
        params: its parameters.
        x: (m, 2), of the parameters' type.
        y: integer classes (m,), or (m, C) probabilities.
        labels: a name for each class; None numbers them.
        names: of the two inputs.
        threshold: for a single output: 0 for a logit, 0.5 behind a `Sigmoid`.
        points: of the grid, to a side. It reaches a tenth beyond the examples.
        ax: matplotlib axes to draw on; None makes a figure of its own, which a notebook shows.

    Returns:
        The axes. Their image's array (points, points) has the classes, NaN (grey) where an output is NaN.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: x of other than two features; x and y of unequal lengths; labels that do not name every class.
        TypeError, ValueError: as `predict`.

    Cost:
        points² forward passes, one compiled program in blocks.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> net = fn.Dense(2, 1)
        >>> params = fn.from_weights(net, [[[1.0], [-1.0]]])  # class 1 where x[0] > x[1]
        >>> x, y = jnp.array([[0.0, 1.0], [1.0, 0.0]]), jnp.array([0, 1])
        >>> ax = fn.plot_decision_regions(net, params, x, y, points=3)
        >>> ax.images[0].get_array().astype(int).tolist()  # row by row upwards
        [[0, 1, 1], [0, 0, 1], [0, 0, 0]]
    """
    ax = axes_of(ax, "plot_decision_regions")
    x = arguments.as_array("x", x)
    if x.ndim != 2 or x.shape[1] != 2 or not len(x):
        raise ValueError(
            f"plot_decision_regions: expected x of shape (m, 2) with an example at least, got {x.shape}. Regions are "
            "drawn over two inputs; for more, train a network on two of them, or on two combinations of them."
        )
    output = predict(net, params, x)
    points = checked_points("plot_decision_regions", points)
    threshold = checked_threshold("plot_decision_regions", threshold)
    if not arguments.is_list(names) or len(names) != 2:
        raise ValueError(f"plot_decision_regions: names must be those of the two inputs, got {arguments.shown(names)}.")
    count = max(output.shape[-1], 2)
    subject = f"x has {len(x)} examples (shape {x.shape})"
    true, _ = targets_of("plot_decision_regions", y, len(x), subject, count)
    labels = checked_labels("plot_decision_regions", labels, count)
    (left, right), (low, high) = _ends(np.asarray(x).astype(np.float64))
    u, v = np.linspace(left, right, points), np.linspace(low, high, points)
    grid = jnp.asarray(np.stack(np.meshgrid(u, v), -1).reshape(-1, 2), x.dtype)
    outputs = np.asarray(_outputs(net, jax.tree.map(jnp.asarray, params), grid, at_once(net, 1)))
    largest = outputs.argmax(-1) if outputs.shape[-1] > 1 else (outputs[:, 0] > threshold)
    classes = np.where(np.isnan(outputs).any(-1), np.nan, largest).reshape(points, points)
    _draw(ax, classes, (u, v), np.asarray(x), true, labels)
    ax.set(xlabel=plain(names[0]), ylabel=plain(names[1]))
    return ax


def _ends(x: np.ndarray) -> np.ndarray:
    """(2, 2), from where to where the picture goes: the examples, and a tenth more."""
    lowest, highest = x.min(0), x.max(0)
    wide = np.where(highest > lowest, highest - lowest, 2.0)
    return np.stack([lowest - 0.1 * wide, highest + 0.1 * wide], 1)


@partial(jax.jit, static_argnames="block")
def _outputs(net: AnyLayer, params: Params, grid: jax.Array, block: int) -> jax.Array:
    return jax.lax.map(lambda point: walkers.layer_forward(net, params, point[None])[0][0], grid, batch_size=block)


def _draw(
    ax: Any,
    classes: np.ndarray,
    axes: tuple[np.ndarray, np.ndarray],
    x: np.ndarray,
    true: np.ndarray,
    labels: list[Any],
) -> None:
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap, to_rgb

    count, (u, v) = len(labels), axes
    many = count > len(COLOURS)  # then the colours of a map, and markers, tell them apart
    colours = [to_rgb(c) for c in (colormaps["viridis"](np.linspace(0, 1, count)) if many else COLOURS[:count])]
    tints = [tuple(1 - 0.4 * (1 - part) for part in colour) for colour in colours]
    pale = ListedColormap(tints).with_extremes(bad=NOTHING)
    du, dv = (u[1] - u[0]) / 2, (v[1] - v[0]) / 2
    extent = (u[0] - du, u[-1] + du, v[0] - dv, v[-1] + dv)
    ax.imshow(classes, cmap=pale, vmin=-0.5, vmax=count - 0.5, extent=extent, origin="lower", aspect="auto")
    handles = []
    for number in range(count):
        examples = x[true == number]
        marker = MARKERS[number % len(MARKERS)]
        style = {"color": colours[number], "marker": marker, "edgecolors": "black", "linewidths": 0.7}
        handles.append(ax.scatter(examples[:, 0], examples[:, 1], s=30, zorder=3, **style))
    beside = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}  # where it covers nothing
    legend(ax, handles, labels, **(beside if many else {}))
