"""`MaxPool`, `AvgPool`, `GlobalAveragePool`: fewer positions; `Flatten`: positions and features as features."""

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from funcnet._core.numerics import total, wide
from funcnet._core.sliding import (
    Padding,
    PerAxis,
    Sliding,
    check_positions,
    check_window,
    entries,
    in_short,
    per_axis,
    shape_alone,
    slide,
    tiled,
    unviews,
    views,
)
from funcnet._core.specs import spec
from funcnet.layers.base import Parameterless, Pass


@spec
class MaxPool(Parameterless):
    """y[p, c] = max_o x[stride p + o - before, c] over a window, each feature alone; padding never wins.

    The tape is which of its window's entries won, one byte an output (two for windows of more than 256 entries), and
    x's shape: the error goes to the winner, of equal ones to the first (as in PyTorch).

    Args:
        window: its size on each axis of positions, such as (2, 2).
        stride: how far it moves, one number or one for each axis; None: by its own size.
        padding: "SAME", "VALID" or ((before, after), …), less than the window.

    Raises:
        ValueError: sizes that do not fit together; at `forward`, inputs with other axes, or smaller than the window.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> y, tape = fn.MaxPool((2, 2)).forward((), jnp.arange(16.0).reshape(1, 4, 4, 1))
        >>> y[0, :, :, 0].tolist()
        [[5.0, 7.0], [13.0, 15.0]]
    """

    window: tuple[int, ...]
    stride: PerAxis | None = None
    padding: Padding = "VALID"
    by_position: ClassVar[bool] = False
    elementwise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check(self)

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> tuple[jax.Array, Any]:
        window = _window(self, x.shape)
        number = np.uint8 if entries(window) <= 256 else np.uint16
        first, *others = views(window, x, -np.inf)
        inside = window.first_inside.astype(number)
        largest, winner = first, jnp.broadcast_to(inside[None, ..., None], first.shape)
        for i, seen in enumerate(others, 1):
            winner = jnp.where((seen > largest) | (seen != seen), number(i), winner)  # NaN wins, as in PyTorch
            largest = lax.max(largest, seen)
        return largest, (winner, shape_alone(x))

    def backward(self, params: Any, tape: Any, delta: jax.Array) -> Pass:
        winner, shape = tape
        window = _window(self, shape.shape[:-1])
        if window.tiles:
            each = jnp.arange(entries(window), dtype=winner.dtype)[:, None]
            won = jnp.expand_dims(winner, -2) == each.reshape(*[1] * (winner.ndim - 1), *each.shape)
            return tiled(window, jnp.where(won, jnp.expand_dims(delta, -2), 0)), delta
        parts = [jnp.where(winner == i, wide(delta), 0) for i in range(entries(window))]
        return unviews(window, parts).astype(delta.dtype), delta


@spec
class AvgPool(Parameterless):
    """y[p, c] = the mean of x[stride p + o - before, c] over a window, each feature alone; padding counts as 0.

    (As in PyTorch and Flax.) The tape is x's shape: the error is spread evenly over the window.

    Args:
        window, stride, padding: as for `MaxPool`.

    Raises:
        ValueError: as for `MaxPool`.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> y, tape = fn.AvgPool((2, 2)).forward((), jnp.arange(16.0).reshape(1, 4, 4, 1))
        >>> y[0, :, :, 0].tolist()
        [[2.5, 4.5], [10.5, 12.5]]
    """

    window: tuple[int, ...]
    stride: PerAxis | None = None
    padding: Padding = "VALID"
    by_position: ClassVar[bool] = False
    elementwise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check(self)

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> Pass:
        window = _window(self, x.shape)
        seen = [wide(view) for view in views(window, x)]
        return (sum(seen[1:], seen[0]) / entries(window)).astype(x.dtype), shape_alone(x)

    def backward(self, params: Any, tape: jax.Array, delta: jax.Array) -> Pass:
        window = _window(self, tape.shape[:-1])
        number = entries(window)
        each = delta / number
        if window.tiles:
            return tiled(window, jnp.repeat(jnp.expand_dims(each, -2), number, -2)), delta
        return unviews(window, [wide(each)] * number).astype(delta.dtype), delta


@spec
class GlobalAveragePool(Parameterless):
    """y[c] = the mean of x[p, c] over all positions: (m, *positions, n) to (m, n). The tape is x's shape.

    Where positions have segments, it is over those not in segment 0 (padding), and the tape holds their shares.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> fn.GlobalAveragePool().forward((), jnp.arange(4.0).reshape(1, 2, 2, 1))[0].tolist()
        [[1.5]]
    """

    takes: ClassVar[tuple[str, ...]] = ("segments",)
    by_position: ClassVar[bool] = False
    elementwise: ClassVar[bool] = False

    def forward(self, params: Any, x: jax.Array, segments: jax.Array | None = None) -> tuple[jax.Array, Any]:
        positions = _positions(self, x)
        if segments is None:
            return (total(x, tuple(range(1, x.ndim - 1))) / positions).astype(x.dtype), shape_alone(x)
        there = (segments > 0)[..., None]
        shares = jnp.where(there, 1 / jnp.maximum(total(wide(there.astype(x.dtype)), (1,), keepdims=True), 1), 0)
        return total(jnp.where(there, wide(x) * shares, 0), (1,)).astype(x.dtype), (shares,)

    def backward(self, params: Any, tape: Any, delta: jax.Array) -> Pass:
        if isinstance(tape, tuple):
            return (wide(delta)[:, None] * wide(tape[0])).astype(delta.dtype), delta
        m, *positions, n, _ = tape.shape
        each = delta.reshape(m, *[1] * len(positions), n) / math.prod(positions)
        return jnp.broadcast_to(each, (m, *positions, n)), delta


@spec
class Flatten(Parameterless):
    """(m, *positions, features) to (m, positions · features), features of a position side by side.

    The tape is x's shape. Before the first `Dense` behind convolutions; or as the first layer, for images (m, h, w).

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> fn.Flatten().forward((), jnp.ones((5, 4, 4, 8)))[0].shape
        (5, 128)
    """

    keeps_size: ClassVar[bool] = False
    by_position: ClassVar[bool] = False
    elementwise: ClassVar[bool] = False

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> Pass:
        return x.reshape(x.shape[0], math.prod(x.shape[1:])), shape_alone(x)

    def backward(self, params: Any, tape: jax.Array, delta: jax.Array) -> Pass:
        return delta.reshape(tape.shape[:-1]), delta


@spec
class Last(Parameterless):
    """y = x_T, the last position: (m, T, n) to (m, n). The tape is x's shape.

    Where positions have segments, it is the last that is not in segment 0 (padding), and the tape holds its place.
    Behind a recurrent layer it is the state that has seen all; behind causal attention the prediction.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> fn.Last().forward((), jnp.array([[[1.0], [2.0], [3.0]]]))[0].tolist()
        [[3.0]]
    """

    takes: ClassVar[tuple[str, ...]] = ("segments",)
    by_position: ClassVar[bool] = False
    elementwise: ClassVar[bool] = False

    def forward(self, params: Any, x: jax.Array, segments: jax.Array | None = None) -> tuple[jax.Array, Any]:
        if x.ndim != 3 or not x.shape[1]:
            raise ValueError(f"{self}: expected inputs (m, T, features) with positions, got shape {x.shape}.")
        if segments is None:
            return x[:, -1], shape_alone(x)
        places = jnp.arange(x.shape[1])[None]
        here = places == jnp.max(jnp.where(segments > 0, places, -1), 1, keepdims=True)
        return jnp.sum(jnp.where(here[..., None], x, 0), 1), (here,)

    def backward(self, params: Any, tape: Any, delta: jax.Array) -> Pass:
        if isinstance(tape, tuple):
            return jnp.where(tape[0][..., None], delta[:, None], 0), delta
        return jnp.pad(delta[:, None], ((0, 0), (tape.shape[1] - 1, 0), (0, 0))), delta


def _check(layer: MaxPool | AvgPool) -> None:
    steps = _steps(layer)
    check_window(layer, "window", layer.window, layer.padding, stride=steps)
    object.__setattr__(layer, "stride", None if steps == layer.window else in_short(steps))
    sides = () if isinstance(layer.padding, str) else layer.padding
    if any(max(pair) >= size for pair, size in zip(sides, layer.window)):
        raise ValueError(f"{layer}: padding must be less than the window, which would see nothing else.")


def _window(layer: MaxPool | AvgPool, shape: tuple[int, ...]) -> Sliding:
    check_positions(layer, shape, len(layer.window))
    ones = (1,) * len(layer.window)
    return slide(layer, shape[1:-1], layer.window, _steps(layer), ones, layer.padding)


def _steps(layer: MaxPool | AvgPool) -> tuple[int, ...]:
    """The stride on each axis."""
    return layer.window if layer.stride is None else per_axis(layer.stride, len(layer.window))


def _positions(layer: GlobalAveragePool, x: jax.Array) -> int:
    positions = math.prod(x.shape[1:-1])
    if x.ndim < 3 or not positions:
        raise ValueError(f"{layer}: expected inputs (m, *positions, features) with positions, got shape {x.shape}.")
    return positions
