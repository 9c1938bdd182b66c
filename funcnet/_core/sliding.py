"""A window that slides over the positions of an input: what convolutions and pools share."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Padding: TypeAlias = str | tuple[tuple[int, int], ...]
"""Of a layer: "SAME", "VALID", or (before, after) for every axis of positions."""


class Sliding(NamedTuple):
    """A window of `kernel` entries on each axis of positions, `dilation` apart, that moves by `stride`.

    At place p its entry o lies on position stride p + dilation o - before, of `inner` ones; beyond them is
    padding.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    inner: tuple[int, ...]

    @property
    def extent(self) -> tuple[int, ...]:
        """How many positions the window spans."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation))

    @property
    def outer(self) -> tuple[int, ...]:
        """In how many places the window lies."""
        room = ((n + sum(pad) - e) // s + 1 for n, pad, e, s in zip(self.inner, self.padding, self.extent, self.stride))
        return tuple(max(places, 0) for places in room)

    @property
    def reached(self) -> tuple[int, ...]:
        """From the first to the last place, in positions."""
        return tuple((places - 1) * s + 1 for places, s in zip(self.outer, self.stride))

    @property
    def tiles(self) -> bool:
        """Whether every position lies in one place's window, or, at the end, in none."""
        plain = max(self.dilation) == 1 and not any(map(sum, self.padding))
        return plain and self.stride == self.kernel

    @property
    def on_last_axis(self) -> "Sliding":
        """The window on the last axis alone."""
        last = slice(-1, None)
        sides = self.padding[last]
        return Sliding(self.kernel[last], self.stride[last], self.dilation[last], sides, self.inner[last])

    @property
    def first_inside(self) -> np.ndarray:
        """Of each place, the number of the first of its window's entries that is no padding: shaped `outer`."""
        first = np.zeros((1,) * len(self.kernel), int)
        for axis, (k, s, d, (before, _)) in enumerate(zip(self.kernel, self.stride, self.dilation, self.padding)):
            skipped = np.maximum(-(-(before - s * np.arange(self.outer[axis])) // d), 0)
            shape = [1] * len(self.kernel)
            shape[axis] = -1
            first = first * k + skipped.reshape(shape)
        return first

    @property
    def offsets(self) -> Iterator[tuple[int, ...]]:
        """The window's entries, in the order in which a kernel holds them."""
        return itertools.product(*map(range, self.kernel))


def slide(
    layer: object,
    positions: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    padding: Padding,
) -> Sliding:
    """The window of a layer over an input with these positions."""
    bare = Sliding(kernel, stride, dilation, ((0, 0),) * len(kernel), positions)
    if padding == "SAME":
        missing = [max((-(-n // s) - 1) * s + e - n, 0) for n, s, e in zip(positions, stride, bare.extent)]
        pads = tuple((total // 2, total - total // 2) for total in missing)
    else:
        pads = bare.padding if isinstance(padding, str) else padding
    window = bare._replace(padding=pads)
    if 0 in window.outer:
        raise ValueError(
            f"{layer}: a window over {words(bare.extent)} positions does not fit into {words(positions)}. "
            'Use a smaller one, fewer layers that shrink their input, or padding="SAME".'
        )
    return window


def views(window: Sliding, x: jax.Array, fill: float = 0.0) -> Iterator[jax.Array]:
    """What each entry of the window sees, (m, *outer, c) of x (m, *inner, c), one entry after the other."""
    sides = [(0, 0, 0), *((before, after, 0) for before, after in window.padding), (0, 0, 0)]
    padded = x if window.tiles else lax.pad(x, jnp.asarray(fill, x.dtype), sides)
    for offset in window.offsets:
        start = [o * d for o, d in zip(offset, window.dilation)]
        end = [first + reach for first, reach in zip(start, window.reached)]
        yield lax.slice(padded, (0, *start, 0), (x.shape[0], *end, x.shape[-1]), (1, *window.stride, 1))


def unviews(window: Sliding, parts: Sequence[jax.Array]) -> jax.Array:
    """The transpose of `views`: the parts (m, *outer, c), each put back where its entry saw it, and added up."""
    total: jax.Array | None = None
    for offset, part in zip(window.offsets, parts, strict=True):
        first = [o * d - before for o, d, (before, _) in zip(offset, window.dilation, window.padding)]
        sides = [(f, n - f - r, s - 1) for f, n, r, s in zip(first, window.inner, window.reached, window.stride)]
        back = lax.pad(part, jnp.zeros((), part.dtype), [(0, 0, 0), *sides, (0, 0, 0)])
        total = back if total is None else total + back
    assert total is not None
    return total


def tiled(window: Sliding, parts: jax.Array) -> jax.Array:
    """`unviews` of parts (m, *outer, entries, c) where the windows are `tiles`: nothing is added up."""
    n, (m, *outer, _, c) = len(window.kernel), parts.shape
    within = parts.reshape(m, *outer, *window.kernel, c)
    order = [0, *(axis for pair in zip(range(1, n + 1), range(n + 1, 2 * n + 1)) for axis in pair), 2 * n + 1]
    whole = within.transpose(order).reshape(m, *(o * k for o, k in zip(outer, window.kernel)), c)
    left = [(0, n - covered, 0) for n, covered in zip(window.inner, whole.shape[1:-1])]
    return lax.pad(whole, jnp.zeros((), whole.dtype), [(0, 0, 0), *left, (0, 0, 0)])


def shape_alone(x: jax.Array) -> jax.Array:
    """An array without any byte that tells x's shape, examples first: what a tape keeps of a shape."""
    return jnp.zeros((*x.shape, 0), x.dtype)


def words(sizes: Sequence[int]) -> str:
    return " × ".join(map(str, sizes))


def entries(window: Sliding) -> int:
    return math.prod(window.kernel)


# ------------------------------------------------------------------ fields of layers
PerAxis: TypeAlias = int | tuple[int, ...]
"""One number for all axes of positions, or one for each."""


def per_axis(value: PerAxis, n: int) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,) * n


def in_short(value: PerAxis) -> PerAxis:
    """One number for all axes where each has the same."""
    return value[0] if isinstance(value, tuple) and len(set(value)) == 1 else value


def check_window(
    layer: object,
    name: str,
    kernel: tuple[int, ...],
    padding: Padding,
    **sizes: tuple[int, ...],
) -> None:
    """Refuse sizes below 1, of another number than the kernel has axes, and paddings that are none."""
    if not 1 <= len(kernel) <= 3:
        raise ValueError(f"{layer}: {name} needs a size for each of 1, 2 or 3 axes of positions, such as (3, 3).")
    if min(kernel) < 1:
        raise ValueError(f"{layer}: {name} must be numbers of 1 or more.")
    for title, values in sizes.items():
        if len(values) != len(kernel) or min(values) < 1:
            raise ValueError(f"{layer}: {title} must be one number, or {len(kernel)}, of 1 or more.")
    if isinstance(padding, str):
        if padding not in ("SAME", "VALID"):
            raise ValueError(f"{layer}: padding must be 'SAME', 'VALID' or pairs such as ((1, 1), (1, 1)).")
    elif len(padding) != len(kernel) or min(min(pair) for pair in padding) < 0:
        raise ValueError(f"{layer}: padding must be {len(kernel)} pairs (before, after) of 0 or more.")


def check_positions(layer: object, shape: tuple[int, ...], n: int, features: int | None = None) -> None:
    """Refuse an input that has other than n axes of positions, saying what seems to have happened to it."""
    names = ("depth", "height", "width")[-n:] if n > 1 else ("length",)
    expected = f"{layer}: expected inputs (m, {', '.join(names)}, {features or 'features'}), got shape {shape}. "
    if len(shape) == n + 1:
        raise ValueError(
            expected + "If the axis of features is missing, write x[..., None]; if that of examples, x[None]."
        )
    if len(shape) == 2:
        sizes = ", ".join((*names, str(features or "features")))
        raise ValueError(
            expected + f"Flat rows become images by x.reshape(-1, {sizes}); Flatten comes behind this layer."
        )
    if len(shape) != n + 2:
        raise ValueError(expected + "Check the layer before it, and the data.")
