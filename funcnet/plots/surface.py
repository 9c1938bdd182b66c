"""`plot_cost_surface`: the cost over two weights, and the path of a training on it."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core import arguments, walkers
from funcnet._core.figures import axes_of, colour_map, legend
from funcnet._core.protocols import AnyLayer, ArrayLike, Loss, Params, Penalty
from funcnet._core.weighting import Reduction, check_reduction
from funcnet.derivations.addresses import Where, checked_weight, weights_in
from funcnet.plots.grids import at_once, checked_points
from funcnet.propagation import cost

WIDE = 30  # from where on the largest cost, over the smallest, wants a logarithmic scale


class Entry(NamedTuple):
    """Where a weight stands: which leaf of the parameters, and where in it."""

    leaf: int
    at: tuple[int, ...]


def plot_cost_surface(
    net: AnyLayer,
    loss: Loss,
    params: Params,
    x: ArrayLike,
    y: ArrayLike,
    along: Sequence[Where],
    *,
    path: Sequence[Params] | None = None,
    span: ArrayLike | None = None,
    points: int = 61,
    weights: ArrayLike | None = None,
    penalty: Penalty | None = None,
    reduction: Reduction = "mean",
    ax: Any = None,
) -> Any:
    """Draw the cost J over two weights, all others held, with the path of a descent on it.

    J(u, v) is `cost` with the two weights replaced by u and v, on a grid of points × points. The colours are
    logarithmic where the largest cost is 30 times the smallest or more; where J is not finite, grey.

    Args:
        net: a layer.
        loss: the cost of an output against its target.
        params: what all other weights are held at.
        x: (m, *positions, features), of the parameters' type.
        y: targets, as the loss wants them.
        along: two addresses (layer, from, to), that of the horizontal axis first. Layers are counted from 1
            over those with parameters; from and to count from 0, as in `w[from, to]`; from None is the bias.
        path: parameters in the order of a training, drawn by the two weights of each. Where other
            weights moved too, the path does not lie on this surface, but above or below it.
        span: ((lowest, highest), (lowest, highest)) of the two weights; None takes what holds the path
            with room around it, or one to either side of `params`.
        points: of the grid, to a side.
        weights, penalty, reduction: as for `cost`.
        ax: matplotlib axes to draw on; None makes a figure of its own, which a notebook shows.

    Returns:
        The axes. The path is their first line; the costs are the array of their first collection,
        (points, points) with the first weight along the columns, NaN where not finite.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: a weight that does not exist, with those that do; twice the same; a path of other
            parameters; a span without width; parameters that are not finite; else as `cost`.
        TypeError: as `cost`.

    Cost:
        points² forward passes, one compiled program in blocks.

    Example:
        >>> import funcnet as fn
        >>> net = fn.Dense(1, 1)  # J = ½ (w x + b - y)²
        >>> path = [fn.from_weights(net, [[[w]]], [[b]]) for w, b in ((0.0, 0.0), (0.6, 0.6), (0.9, 0.9))]
        >>> along = (1, 0, 0), (1, None, 0)
        >>> ax = fn.plot_cost_surface(net, fn.SquaredError(), path[-1], [[1.0]], [[2.0]], along, path=path)
        >>> ax.get_xlabel(), ax.get_ylabel()
        ('layer 1, w[0, 0]', 'layer 1, b[0]')
    """
    ax = axes_of(ax, "plot_cost_surface")
    check_reduction(reduction)
    arguments.check_penalty(penalty)
    batch = arguments.checked_batch(net, loss, params, x, y, weights)
    for name, leaf in walkers.named_params(batch.params):
        if not np.isfinite(np.asarray(leaf)).all():
            raise ValueError(f"plot_cost_surface: params, {name}: not all finite. Give those of an earlier state.")
    points = checked_points("plot_cost_surface", points)
    wheres, entries = _entries(net, along)
    walked = _walked(net, path, entries)
    here = _at(batch.params, entries)
    lowest, highest = _spans(span, np.concatenate([here[None], walked])).T
    u, v = np.linspace(lowest, highest, points).T
    grid = np.stack(np.meshgrid(u, v), -1).reshape(-1, 2)
    dtype = jax.tree.leaves(batch.params)[entries[0].leaf].dtype
    block = at_once(net, len(batch.x))
    costs = np.asarray(
        _costs(net, loss, batch, penalty, jnp.asarray(grid, dtype), entries, reduction, block), np.float64
    ).reshape(points, points)
    _draw(ax, u, v, np.where(np.isfinite(costs), costs, np.nan))
    _draw_path(ax, walked, here)
    names = [f"layer {n}, b[{to}]" if source is None else f"layer {n}, w[{source}, {to}]" for n, source, to in wheres]
    ax.set(xlabel=names[0], ylabel=names[1], xlim=(u[0], u[-1]), ylim=(v[0], v[-1]))
    return ax


def _entries(net: AnyLayer, along: Any) -> tuple[list[Where], tuple[Entry, ...]]:
    """The two addresses, checked, and where they stand among the leaves of the parameters."""
    if not isinstance(along, Sequence) or len(along) != 2:
        raise ValueError(f"along: expected two addresses ((layer, from, to), (layer, from, to)), got {along!r}.")
    leaves = walkers.leaves(net, arguments.params_struct(net))
    layers = [weights_in(layer, shapes) for _, layer, shapes in leaves if shapes]
    wheres = [checked_weight(f"along[{place}]", layers, where) for place, where in enumerate(along)]
    if wheres[0] == wheres[1]:
        raise ValueError(f"along: expected two different weights, got {along[0]!r} twice.")
    names = [name for name, _ in walkers.named_params(arguments.params_struct(net))]
    entries = []
    for layer, source, to in wheres:
        leaf = names.index(f"layer {layer}, {'b' if source is None else 'w'}")
        entries.append(Entry(leaf, (to,) if source is None else (source, to)))
    return wheres, tuple(entries)


def _at(params: Params, entries: tuple[Entry, ...]) -> np.ndarray:
    """(2,), the two weights."""
    leaves = jax.tree.leaves(params)
    return np.array([float(np.asarray(leaves[leaf])[index]) for leaf, index in entries])


def _walked(net: AnyLayer, path: Any, entries: tuple[Entry, ...]) -> np.ndarray:
    """(states, 2), the two weights along the path."""
    if path is None:
        return np.empty((0, 2))
    if not isinstance(path, Sequence) or not path:
        raise ValueError(f"path: expected a list of parameters, such as [params, …], got {type(path).__name__}.")
    for place, params in enumerate(path):
        try:
            arguments.check_params(net, params, int)
        except (TypeError, ValueError) as error:
            raise ValueError(f"path[{place}]: {error}") from error
    return np.stack([_at(params, entries) for params in path])


def _spans(span: ArrayLike | None, states: np.ndarray) -> np.ndarray:
    """(2, 2), from where to where each weight goes."""
    if span is not None:
        ends = np.asarray(arguments.as_array("span", span), np.float64)
        if ends.shape != (2, 2) or not np.isfinite(ends).all() or (ends[:, 0] >= ends[:, 1]).any():
            got = arguments.shown(span)
            raise ValueError(f"span: expected ((lowest, highest), (lowest, highest)) of the two weights, got {got}.")
        return ends
    states = states[np.isfinite(states).all(1)]
    lowest, highest = states.min(0), states.max(0)
    half = 0.7 * (highest - lowest).max() or 1.0  # the same for both, so that the steepest way looks so
    middle = (lowest + highest) / 2
    return np.stack([middle - half, middle + half], 1)


@partial(jax.jit, static_argnames=("entries", "reduction", "block"))
def _costs(
    net: AnyLayer,
    loss: Loss,
    batch: arguments.Batch,
    penalty: Penalty | None,
    grid: jax.Array,
    entries: tuple[Entry, ...],
    reduction: Reduction,
    block: int,
) -> jax.Array:
    """(points,), the cost at every pair of weights."""
    leaves, structure = jax.tree.flatten(batch.params)

    def one(pair: jax.Array) -> jax.Array:
        new = list(leaves)
        for (leaf, index), value in zip(entries, pair):
            new[leaf] = new[leaf].at[index].set(value.astype(new[leaf].dtype))
        moved = jax.tree.unflatten(structure, new)
        return cost(net, loss, moved, batch.x, batch.y, weights=batch.weights, penalty=penalty, reduction=reduction)

    return jax.lax.map(one, grid, batch_size=block)


def _draw(ax: Any, u: np.ndarray, v: np.ndarray, costs: np.ndarray) -> None:
    from matplotlib.colors import LogNorm, Normalize

    if not np.isfinite(costs).any():
        raise ValueError("plot_cost_surface: the cost is not finite anywhere in the span. Give a smaller one: span=….")
    lowest, highest = float(np.nanmin(costs)), float(np.nanmax(costs))
    logarithmic = lowest > 0 and highest > WIDE * lowest
    norm = (LogNorm if logarithmic else Normalize)(lowest, highest)
    mesh = ax.pcolormesh(u, v, costs, norm=norm, cmap=colour_map("viridis"), shading="nearest", rasterized=True)
    if highest > lowest:
        levels = (np.geomspace if logarithmic else np.linspace)(lowest, highest, 14)[1:-1]
        ax.contour(u, v, np.ma.masked_invalid(costs), levels, colors="white", linewidths=0.5, alpha=0.6)
    ax.figure.colorbar(mesh, ax=ax, label="cost J")


def _draw_path(ax: Any, walked: np.ndarray, here: np.ndarray) -> None:
    """The path in white with a black rim, which shows on every colour; its start and its last finite state."""
    from matplotlib.patheffects import withStroke

    mark = {"color": "white", "markeredgecolor": "black", "linestyle": "", "zorder": 4}
    if not len(walked):
        (place,) = ax.plot(*here, "X", markersize=9, **mark)
        legend(ax, [place], ["params"])
        return
    states = f"path, {len(walked)} states"
    finite = np.isfinite(walked).all(1)
    if not finite.all():
        states += f" ({(~finite).sum()} not finite)"
    walked = walked[finite]
    rim = [withStroke(linewidth=3.5, foreground="black")]
    (line,) = ax.plot(*walked.T, ".-", color="white", markersize=3, linewidth=1.5, path_effects=rim, zorder=3)
    (start,) = ax.plot(*walked[:1].T, "o", markersize=8, **mark)
    (end,) = ax.plot(*walked[-1:].T, "*", markersize=14, **mark)
    legend(ax, [start, line, end], ["start", states, "end"])
