"""`Dropout`: units left out at random while training."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from funcnet._core.keys import draw, typed
from funcnet._core.specs import spec
from funcnet.layers.base import Parameterless, Pass


@spec
class Dropout(Parameterless):
    """y = x ⊙ mask / (1 - rate), each unit kept with probability 1 - rate ("inverted" dropout).

    With a key it trains; without one it passes x on unchanged. The tape is the mask, one byte a
    unit, and `()` without a key. With one key per example, an example's mask does not depend on
    its batch. Source: Srivastava et al., 2014.

    Args:
        rate: the probability to leave a unit out, 0 ≤ rate < 1.

    Raises:
        ValueError: a rate out of this range.

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp
        >>> y, mask = fn.Dropout(0.5).forward((), jnp.ones((1, 6)), jax.random.key(1))
        >>> bool((y == 2 * mask).all())
        True
    """

    rate: float
    takes: ClassVar[tuple[str, ...]] = ("key",)
    elementwise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise ValueError(f"{self}: rate must be at least 0 and below 1.")

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> Pass:
        if key is None:
            return x, ()
        mask = draw(typed(key), lambda one, shape: jax.random.bernoulli(one, 1 - self.rate, shape), x.shape)
        return self._masked(x, mask), mask

    def backward(self, params: Any, tape: Any, delta: jax.Array) -> Pass:
        return (delta if isinstance(tape, tuple) else self._masked(delta, tape)), delta

    def _masked(self, values: jax.Array, mask: jax.Array) -> jax.Array:
        return jnp.where(mask, values / (1 - self.rate), 0)
