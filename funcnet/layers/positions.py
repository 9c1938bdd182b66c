"""Where in a sequence a position stands: `LearnedPositions` adds a row of its own, `Rotary` turns by an angle."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from funcnet._core import tokens
from funcnet._core.arguments import check_features
from funcnet._core.numerics import total, wide
from funcnet._core.specs import spec
from funcnet.initializers import Normal
from funcnet.layers.base import Parameterless, Pass
from funcnet.layers.features import OfFeatures


@spec
class LearnedPositions(OfFeatures):
    """y_t = x_t + e_t: a row of its own for each position, up to `length` of them.

    Parameters: `{"e": (length, n)}`, starting at Normal(0.02). x is (m, *others, T, n) with T ≤ length. There is no
    tape: ∂J/∂x = δ, and ∂J/∂e_t = Σ δ_t over all but the positions. Where positions have segments, each counts from its
    own first, in x (m, T, n), nothing is added in segment 0 (padding), and the tape is which row each position takes.

    Args:
        length: how many positions there may be.
        n: number of features.

    Raises:
        ValueError: a size below 1; at `forward`, inputs without positions, with more than `length`, or of another size.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> layer, params = fn.LearnedPositions(3, 1), {"e": jnp.array([[1.0], [2.0], [3.0]])}
        >>> layer.forward(params, jnp.zeros((1, 2, 1)))[0].tolist()
        [[[1.0], [2.0]]]
    """

    length: int
    n: int
    takes: ClassVar[tuple[str, ...]] = ("segments",)
    keeps_size: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.length < 1 or self.n < 1:
            raise ValueError(f"{self}: sizes must be 1 or more.")

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        return {"e": Normal(0.02)(key, (self.length, self.n), jnp.zeros(()).dtype)}

    def forward(self, params: Any, x: jax.Array, segments: jax.Array | None = None) -> tuple[jax.Array, Any]:
        check_features(self, x, params["e"], self.n)
        check_sequence(self, x)
        if segments is not None:
            places = self._places(segments)
            rows = jnp.where((segments > 0)[..., None], tokens.rows(params["e"], places), 0)
            return x + rows, (jnp.where(segments > 0, places, self.length),)
        if x.shape[-2] > self.length:
            raise ValueError(
                f"{self}: takes up to {self.length} positions, got {x.shape[-2]} (shape {x.shape}). Cut the sequences "
                f"to {self.length}, or give it a row for every position."
            )
        return x + lax.broadcast(params["e"][: x.shape[-2]], x.shape[:-2]), ()

    def step(self, params: Any, x: jax.Array, cache: Any, place: jax.Array) -> tuple[jax.Array, Any]:
        return x + jnp.take(params["e"], place, 0)[None], cache

    def backward(self, params: Any, tape: Any, delta: jax.Array) -> tuple[jax.Array, jax.Array]:
        return delta, delta

    def _places(self, segments: jax.Array) -> jax.Array:
        """Which position of its segment each one is: (m, T)."""
        numbers = jnp.arange(segments.shape[1])[None]
        first = jnp.where(goes_on(segments), 0, numbers)
        return numbers - lax.cummax(first, 1)

    def gradient(self, tape: Any, deltas: jax.Array) -> dict[str, jax.Array]:
        if tape:
            return {"e": tokens.sums(self.length, *self._taken(tape, deltas))}
        return {"e": self._rows(total(deltas, tuple(range(deltas.ndim - 2))))}

    def _taken(self, tape: Any, deltas: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The row that each position takes, and its error signal; padding takes none."""
        (rows,) = tape
        return rows, jnp.where((rows < self.length)[..., None], wide(deltas), 0)

    def example_gradients(self, tape: Any, deltas: jax.Array) -> dict[str, jax.Array] | None:
        return None if tape else {"e": self._rows(_by_example(deltas))}

    def square_norms(self, tape: Any, deltas: jax.Array) -> jax.Array:
        if tape:
            return tokens.square_norms(*self._taken(tape, deltas))
        return total(jnp.square(_by_example(deltas)), (1, 2))

    def square_sum(self, tape: Any, deltas: jax.Array) -> dict[str, jax.Array] | None:
        return None if tape else {"e": self._rows(total(jnp.square(_by_example(deltas)), (0,)))}

    def inner(self, tape: Any, deltas: jax.Array, tape2: Any, deltas2: jax.Array) -> jax.Array | None:
        if tape or tape2:
            return None
        first, second = _by_example(deltas), _by_example(deltas2)
        both = min(first.shape[1], second.shape[1])  # rows that only one batch reaches have no product
        a, b = (rows[:, :both].reshape(len(rows), both * self.n) for rows in (first, second))
        return lax.dot_general(a, b, (((1,), (1,)), ((), ())), precision=lax.Precision.HIGHEST)

    def _rows(self, sums: jax.Array) -> jax.Array:
        """(…, T, n) with rows of 0 up to `length`."""
        return jnp.pad(sums, [(0, 0)] * (sums.ndim - 2) + [(0, self.length - sums.shape[-2]), (0, 0)])


def _by_example(deltas: jax.Array) -> jax.Array:
    """(m, T, n), summed over other positions, in the accumulation type."""
    return total(wide(deltas), tuple(range(1, deltas.ndim - 2)))


@spec
class Rotary(Parameterless):
    """Queries and keys turned by an angle that grows with the position, so that their product depends on the distance.

    The features are those of `heads` heads side by side, d each. Of the first `turned` heads the pairs (i, i + d/2) of
    features are turned by t · base^(-2i/d) at position t; the others (the values, say) pass. Before
    `Attention(n, heads, kv_heads)` it is `Rotary(heads + 2 kv_heads, heads + kv_heads)`. There is no tape: error
    signals are turned back. Angles are computed in float64, whatever x is.

    Source: Su et al., 2021 (RoFormer); the pairs are those of GPT-NeoX and Llama.

    Args:
        heads: how many heads stand side by side.
        turned: how many of them, from the first, are turned.
        base: the slowest pair turns by about 1/base of the fastest.

    Raises:
        ValueError: numbers that do not fit each other; at `forward`, features that are not a multiple of 2 · heads.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> fn.Rotary(1, 1).forward((), jnp.array([[[1.0, 0.0], [1.0, 0.0]]]))[0].round(3).tolist()
        [[[1.0, 0.0], [0.5400000214576721, 0.8410000205039978]]]
    """

    heads: int
    turned: int
    base: float = 10000.0
    by_position: ClassVar[bool] = False
    elementwise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 1 <= self.turned <= self.heads or self.base <= 1:
            raise ValueError(f"{self}: turned must be 1 … heads, and base above 1.")

    def forward(self, params: Any, x: jax.Array) -> Pass:
        check_sequence(self, x)
        if x.shape[-1] % (2 * self.heads):
            raise ValueError(
                f"{self}: expected a multiple of {2 * self.heads} features, pairs in each of {self.heads} heads, got "
                f"shape {x.shape}."
            )
        return self._turned(x, *self._angles(x.shape)), ()

    def backward(self, params: Any, tape: Any, delta: jax.Array) -> Pass:
        cos, sin = self._angles(delta.shape)
        return self._turned(delta, cos, -sin), delta

    def cache(self, m: int, length: int, dtype: Any) -> jax.Array:
        """How many positions there will be."""
        return jnp.zeros((length, 0), dtype)

    def step(self, params: Any, x: jax.Array, cache: jax.Array, place: jax.Array) -> tuple[jax.Array, jax.Array]:
        table = self._angles((len(cache), x.shape[-1]))
        cos, sin = (jnp.take(jnp.asarray(side, wide(x).dtype), place, 0)[None] for side in table)
        return self._turned(x[:, None], cos, sin)[:, 0], cache

    def _angles(self, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Cosines and sines of the positions' angles, (T, d/2)."""
        *_, T, features = shape
        d = features // self.heads
        angles = np.arange(T)[:, None] * self.base ** (-np.arange(0, d, 2) / d)
        return np.cos(angles), np.sin(angles)

    def _turned(self, x: jax.Array, cos: np.ndarray | jax.Array, sin: np.ndarray | jax.Array) -> jax.Array:
        *others, T, features = x.shape
        d = features // self.heads
        edge = self.turned * d
        pairs = wide(x[..., :edge]).reshape(*others, T, self.turned, 2, d // 2)
        c, s = (lax.broadcast(jnp.asarray(side, pairs.dtype)[:, None], others) for side in (cos, sin))
        a, b = pairs[..., 0, :], pairs[..., 1, :]
        turned = jnp.stack([a * c - b * s, a * s + b * c], -2).reshape(*others, T, edge).astype(x.dtype)
        return jnp.concatenate([turned, x[..., edge:]], -1)


def goes_on(segments: jax.Array) -> jax.Array:
    """Where a position is in the segment of the one before it: elsewhere a text begins. (m, T)."""
    return (segments == jnp.pad(segments[:, :-1], ((0, 0), (1, 0)))) & (segments > 0)


def check_sequence(layer: object, x: jax.Array) -> None:
    """Refuse inputs in which no position has a place."""
    if x.ndim < 3:
        raise ValueError(f"{layer}: expected inputs (m, T, features) with T positions, got shape {x.shape}.")
