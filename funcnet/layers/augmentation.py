"""`RandomShift` and `RandomFlip`: images moved and mirrored at random while training, each by a draw of its own."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from funcnet._core.keys import draw, typed
from funcnet._core.sliding import check_positions
from funcnet._core.specs import spec
from funcnet.layers.base import Parameterless, Pass


@spec
class RandomShift(Parameterless):
    """Each image (height, width, features) moved by up to `pixels` up or down and left or right; zeros move in.

    With a key it trains; without one it passes x on unchanged. The tape is how far each example was moved, and `()`
    without a key: backwards the error signal moves the other way. Sources: LeCun et al., 1998; Krizhevsky et al., 2012.

    Args:
        pixels: the largest shift on either axis; all from -pixels to pixels are equally likely.

    Raises:
        ValueError: pixels below 0; at `forward`, inputs other than (m, height, width, features).

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp
        >>> y, shift = fn.RandomShift(2).forward((), jnp.ones((3, 8, 8, 1)), jax.random.key(0))
        >>> y.shape, shift.shape
        ((3, 8, 8, 1), (3, 2))
    """

    pixels: int
    takes: ClassVar[tuple[str, ...]] = ("key",)
    by_position: ClassVar[bool] = False
    elementwise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.pixels < 0:
            raise ValueError(f"{self}: pixels must be 0 or more.")

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> Pass:
        check_positions(self, x.shape, 2)
        if key is None:
            return x, ()
        span = -self.pixels, self.pixels + 1
        shift = draw(typed(key), lambda one, shape: jax.random.randint(one, shape, *span), (x.shape[0], 2))
        return _moved(x, shift), shift

    def backward(self, params: Any, tape: Any, delta: jax.Array) -> Pass:
        return (delta if isinstance(tape, tuple) else _moved(delta, -tape)), delta


@spec
class RandomFlip(Parameterless):
    """Each image (height, width, features) mirrored left to right with probability ½.

    With a key it trains; without one it passes x on unchanged. The tape is which examples were mirrored, and `()`
    without a key: backwards the same are mirrored again. Source: Krizhevsky et al., 2012.

    Raises:
        ValueError: at `forward`, inputs other than (m, height, width, features).

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp
        >>> x = jnp.arange(4.0).reshape(1, 1, 4, 1)
        >>> fn.RandomFlip().forward((), x, jax.random.key(1))[0].ravel().tolist()
        [3.0, 2.0, 1.0, 0.0]
    """

    takes: ClassVar[tuple[str, ...]] = ("key",)
    by_position: ClassVar[bool] = False
    elementwise: ClassVar[bool] = False

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> Pass:
        check_positions(self, x.shape, 2)
        if key is None:
            return x, ()
        mirrored = draw(typed(key), lambda one, shape: jax.random.bernoulli(one, 0.5, shape), (len(x),))
        return _mirrored(x, mirrored), mirrored

    def backward(self, params: Any, tape: Any, delta: jax.Array) -> Pass:
        return (delta if isinstance(tape, tuple) else _mirrored(delta, tape)), delta


def _moved(x: jax.Array, shift: jax.Array) -> jax.Array:
    """Each example moved by its own whole numbers (m, 2) along height and width."""
    for axis in (1, 2):
        size = x.shape[axis]
        came_from = jnp.arange(size)[None] - shift[:, axis - 1, None]
        shape = tuple(n if i in (0, axis) else 1 for i, n in enumerate(x.shape))
        there = ((came_from >= 0) & (came_from < size)).reshape(shape)
        x = jnp.take_along_axis(x, jnp.clip(came_from, 0, size - 1).reshape(shape), axis)
        x = jnp.where(there, x, jnp.zeros((), x.dtype))
    return x


def _mirrored(x: jax.Array, which: jax.Array) -> jax.Array:
    return jnp.where(which.reshape(-1, 1, 1, 1), x[:, :, ::-1], x)
