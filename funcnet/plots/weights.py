"""`plot_weights`: what each unit of the first layer looks for, as images."""

import math
from typing import Any

import numpy as np

from funcnet._core import arguments, scalars, walkers
from funcnet._core.figures import axes_of, colour_map
from funcnet._core.protocols import AnyLayer, Params


def plot_weights(
    net: AnyLayer, params: Params, shape: tuple[int, int] | None = None, *, most: int = 64, ax: Any = None
) -> Any:
    """Draw the weights into each unit of the first layer as an image, all of them side by side in one.

    Image j is `w[:, j]`, row by row as the pixels of an input stand in x; of a convolution its kernel `w[…, j]`, one
    input feature beside the other (of one axis of positions: below the other). Red is positive, blue negative, white
    0; the colours' ends are ±max|w| of what is drawn.

    Args:
        net: a layer; its first weight matrix or kernel is drawn.
        params: its parameters.
        shape: (rows, columns) of an input as an image; None takes a square, if there is one. Kernels have their own.
        most: how many units are drawn, at most: the first so many.
        ax: matplotlib axes to draw on; None makes a figure of its own, which a notebook shows.

    Returns:
        The axes. Their image's array has a frame one pixel wide, NaN as everything that is not finite, around
        every unit's image.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: a shape of more or fewer pixels than there are inputs; a network without a weight matrix;
            parameters of another network.

    Example:
        >>> import funcnet as fn, jax
        >>> net = fn.mlp((12, 5, 1))
        >>> ax = fn.plot_weights(net, fn.init(net, jax.random.key(0)), shape=(3, 4))
        >>> ax.images[0].get_array().shape  # 3 × 2 images of 3 × 4 pixels, with frames
        (13, 11)
    """
    ax = axes_of(ax, "plot_weights")
    arguments.check_layer_functions(net)
    arguments.check_params(net, params, int)
    named = walkers.named_params(params)
    matrices = ((name, leaf) for name, leaf in named if name.endswith(", w") and np.ndim(leaf) >= 2)
    name, w = next(matrices, ("", None))
    if w is None:
        raise ValueError(f"plot_weights: {net} has no weight matrix w, so there is nothing to draw.")
    layer = name.removesuffix(", w")
    images = _images(layer, np.asarray(w).astype(np.float64), shape)
    total, rows, columns = images.shape
    scalars.integer("plot_weights: most", most, "how many units to draw, 1 or more", 1)
    units = min(total, most)
    across = math.ceil(math.sqrt(units * rows / columns))  # so that the whole is about square
    down = math.ceil(units / across)
    mosaic = np.full((down * (rows + 1) + 1, across * (columns + 1) + 1), np.nan)
    for unit in range(units):
        top, left = 1 + unit // across * (rows + 1), 1 + unit % across * (columns + 1)
        mosaic[top : top + rows, left : left + columns] = images[unit]
    mosaic[~np.isfinite(mosaic)] = np.nan
    limit = float(np.nanmax(np.abs(mosaic), initial=0)) or 1.0
    image = ax.imshow(mosaic, cmap=colour_map("RdBu_r"), vmin=-limit, vmax=limit, interpolation="nearest")
    ax.set_xticks([(place + 0.5) * (columns + 1) for place in range(across)], [f"+{place}" for place in range(across)])
    ax.set_yticks([(place + 0.5) * (rows + 1) for place in range(down)], [place * across for place in range(down)])
    ax.tick_params(length=0, labelsize="small")
    of = "" if units == total else f"\n(the first {units} of {total} units)"
    ax.set(xlabel=f"{rows} × {columns} weights into each unit of {layer}{of}", ylabel="unit")
    ax.figure.colorbar(image, ax=ax, label="weight")
    return ax


def _images(layer: str, w: np.ndarray, shape: Any) -> np.ndarray:
    """The weights into each unit as an image: (units, rows, columns)."""
    if w.ndim == 2:
        return w.T.reshape(-1, *_checked_shape(layer, len(w), shape))
    if shape is not None:
        raise ValueError(f"plot_weights: {layer} has kernels, which have a shape of their own: leave shape out.")
    *kernel, features, units = w.shape
    if len(kernel) == 1:
        return w.transpose(2, 1, 0)
    rows = math.prod(kernel[:-1])
    return w.reshape(rows, kernel[-1], features, units).transpose(3, 0, 2, 1).reshape(units, rows, -1)


def _checked_shape(layer: str, n_in: int, shape: Any) -> tuple[int, int]:
    side = math.isqrt(n_in)
    if shape is None:
        if side * side != n_in:
            raise ValueError(
                f"plot_weights: {layer} takes {n_in} inputs, which are no square image. Give shape=(rows, columns)."
            )
        return side, side
    whole = isinstance(shape, tuple | list) and all(scalars.is_integer(size) and size > 0 for size in shape)
    if not whole or len(shape) != 2 or shape[0] * shape[1] != n_in:
        raise ValueError(
            f"plot_weights: {layer} takes {n_in} inputs, so shape must be (rows, columns) with "
            f"rows × columns = {n_in}, got {shape!r}."
        )
    return shape[0], shape[1]
