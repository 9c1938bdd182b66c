"""`Dense`: weighted sums of the inputs, plus a bias."""

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from funcnet import contractions
from funcnet.arguments import check_features
from funcnet.initializers import GlorotUniform
from funcnet.precision import accumulation_type, sum_of_outer_products, sum_of_products, total
from funcnet.protocols import Initializer
from funcnet.spec import spec


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

    def square_norms(self, tape: jax.Array, deltas: jax.Array) -> jax.Array:
        """‖g_i‖², with the bias as the weight of a constant unit 1: (‖x‖² + 1) ‖δ‖² (Goodfellow, 2015).

        A gradient over T positions is formed, in T n_in n_out products, or its norm taken without
        it, as Σ_ts (x_t·x_s + 1)(δ_t·δ_s), in T² (n_in + n_out): whichever is less.
        """
        x, delta, one = _by_position(tape), _by_position(deltas), float(self.bias)
        positions = x.shape[1]
        if positions > 1 and positions * (self.n_in + self.n_out) > self.n_in * self.n_out:
            return contractions.generic_square_norms(self, tape, deltas)
        x_squares, delta_squares = total(x * x, (2,)) + one, total(delta * delta, (2,))
        if positions == 1:
            return (x_squares * delta_squares)[:, 0]
        pairs = (_products(x, x, 1) + one) * _products(delta, delta, 1)
        # Positions that cancel leave rounding behind: a norm may be too large by it, never too small.
        rounding = 8 * jnp.finfo(x.dtype).eps * total(jnp.sqrt(x_squares * delta_squares), (1,)) ** 2
        return jnp.maximum(total(pairs, (1, 2)), 0) + rounding

    def square_sum(self, tape: jax.Array, deltas: jax.Array) -> dict[str, jax.Array]:
        """Σ_i g_i², entry by entry: without positions (x²)ᵀ δ²."""
        if math.prod(tape.shape[1:-1]) > 1:
            return contractions.generic_square_sum(self, tape, deltas)
        return self.gradient(jnp.square(_rows(tape)), jnp.square(_rows(deltas)))

    def inner(self, tape: jax.Array, deltas: jax.Array, tape2: jax.Array, deltas2: jax.Array) -> jax.Array:
        """g_i·h_j = Σ_ts (x_it·x'_js + 1)(δ_it·δ'_js), or from the gradients where that is less."""
        x2, delta2, m, m2 = _rows(tape2), _rows(deltas2), len(tape), len(tape2)
        rows, columns = math.prod(tape.shape[:-1]), len(x2)
        positions, positions2 = rows // max(m, 1), columns // max(m2, 1)
        without = rows * columns * (self.n_in + self.n_out)
        if positions * positions2 > 1 and without > (rows + columns + m * m2) * self.n_in * self.n_out:
            return contractions.generic_inner(self, tape, deltas, tape2, deltas2)

        def block(part: tuple[jax.Array, jax.Array]) -> jax.Array:
            x, delta = map(_rows, part)
            pairs = (_products(x, x2, 0) + float(self.bias)) * _products(delta, delta2, 0)
            if positions * positions2 == 1:
                return pairs
            return total(pairs.reshape(len(part[0]), positions, m2, positions2), (1, 3))

        if positions * positions2 == 1:
            return block((tape, deltas))
        return contractions.in_blocks(block, (tape, deltas), 2 * positions * columns)


def _rows(values: jax.Array) -> jax.Array:
    """(m, *positions, features) as (m T, features), in the accumulation type."""
    return values.reshape(math.prod(values.shape[:-1]), values.shape[-1]).astype(accumulation_type(values.dtype))


def _by_position(values: jax.Array) -> jax.Array:
    """(m, *positions, features) as (m, T, features), in the accumulation type."""
    return _rows(values).reshape(len(values), math.prod(values.shape[1:-1]), values.shape[-1])


def _products(a: jax.Array, b: jax.Array, examples: int) -> jax.Array:
    """a_t·b_s over the features, for all pairs of rows (0), or of those within each example (1)."""
    each = tuple(range(examples))
    over = (examples + 1,)
    return lax.dot_general(a, b, ((over, over), (each, each)), precision=lax.Precision.HIGHEST)
