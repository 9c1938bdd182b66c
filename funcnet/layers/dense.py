"""`Dense`: weighted sums of the inputs, plus a bias."""

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from funcnet._core.arguments import check_features
from funcnet._core.numerics import sum_of_products, total
from funcnet._core.protocols import Initializer
from funcnet._core.specs import spec
from funcnet._core.workarounds import sum_of_outer_products
from funcnet.initializers import GlorotUniform


@spec
class Dense:
    """z = x w + b, on the last axis of x.

    Parameters: `{"w": (n_in, n_out), "b": (n_out,)}`, where `w[i, j]` goes from unit i to unit j.
    The tape is the input x, which is all that ∂J/∂w = xᵀδ needs; ∂J/∂x = δ wᵀ needs none.

    Args:
        n_in: number of features that come in.
        n_out: number of units.
        bias: whether there is a b.
        init: how w starts; b starts at 0.

    Raises:
        ValueError: a size below 1; at `forward`, inputs with another number of features.

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp
        >>> layer = fn.Dense(2, 3)
        >>> params = layer.init(jax.random.key(0))
        >>> z, tape = layer.forward(params, jnp.ones((5, 2)))
        >>> z.shape, tape.shape
        ((5, 3), (5, 2))
    """

    n_in: int
    n_out: int
    bias: bool
    initializer: Initializer
    by_position: ClassVar[bool] = True

    def __init__(self, n_in: int, n_out: int, bias: bool = True, init: Initializer = GlorotUniform()) -> None:
        for name, value in (("n_in", n_in), ("n_out", n_out), ("bias", bias), ("initializer", init)):
            object.__setattr__(self, name, value)
        self.__post_init__()

    def __post_init__(self) -> None:
        if self.n_in < 1 or self.n_out < 1:
            raise ValueError(f"{self}: sizes must be 1 or more.")

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        dtype = jnp.zeros(()).dtype
        params = {"w": self.initializer(key, (self.n_in, self.n_out), dtype)}
        return params | {"b": jnp.zeros(self.n_out, dtype)} if self.bias else params

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        check_features(self, x, params["w"], self.n_in)
        z = sum_of_products(x, params["w"], (x.ndim - 1,), (0,)).astype(x.dtype)
        if self.bias:
            z = z + lax.broadcast(params["b"], z.shape[:-1])
        return z, x

    def backward(self, params: Any, tape: jax.Array, delta: jax.Array) -> tuple[jax.Array, jax.Array]:
        if delta.shape != (*tape.shape[:-1], self.n_out):
            raise ValueError(f"{self}: expected delta shaped {(*tape.shape[:-1], self.n_out)}, got {delta.shape}.")
        return sum_of_products(delta, params["w"], (delta.ndim - 1,), (1,)).astype(delta.dtype), delta

    def gradient(self, tape: jax.Array, deltas: jax.Array) -> dict[str, jax.Array]:
        # Examples and positions as one axis: XLA would copy both for a product over two.
        x, delta = (a.reshape(math.prod(a.shape[:-1]), a.shape[-1]) for a in (tape, deltas))
        grads = {"w": sum_of_outer_products(x, delta)}
        return grads | {"b": total(delta, (0,))} if self.bias else grads

    def as_dense(self, tape: jax.Array, deltas: jax.Array) -> tuple[jax.Array, jax.Array, bool]:
        x, delta = (a.reshape(len(a), math.prod(a.shape[1:-1]), a.shape[-1]) for a in (tape, deltas))
        return x, delta, self.bias
