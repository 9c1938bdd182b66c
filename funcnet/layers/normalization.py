"""`LayerNorm`, `RMSNorm`, `GroupNorm`: values shifted and scaled by an example's own mean and size."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from funcnet._core.arguments import check_features
from funcnet._core.numerics import accumulation_type, total, wide
from funcnet._core.specs import spec
from funcnet.layers.features import OfFeatures, check_norm, filled, of_gain, over_rows, rows_of


@spec
class LayerNorm(OfFeatures):
    """y = g ⊙ x̂ + b with x̂ = (x - mean) / √(variance + epsilon), over the last axis.

    Parameters: `{"g": (n,), "b": (n,)}`, starting at 1 and 0. The tape is x̂ and 1/√(…): with
    u = δ ⊙ g, ∂J/∂x = (u - mean(u) - x̂ mean(u ⊙ x̂)) / √(…), where x itself no longer appears, and
    ∂J/∂g = Σ δ ⊙ x̂. Mean and variance (that of the population) are taken in float32 or better.
    Source: Ba et al., 2016.

    Args:
        n: number of features.
        epsilon: what keeps the root away from 0.

    Raises:
        ValueError: n below 1 or a negative epsilon; at `forward`, inputs with other than n features.

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp
        >>> layer = fn.LayerNorm(2)
        >>> y, tape = layer.forward(layer.init(jax.random.key(0)), jnp.array([[3.0, 5.0]]))
        >>> y.round(3).tolist()
        [[-1.0, 1.0]]
    """

    n: int
    epsilon: float = 1e-5
    by_position: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_norm(self)

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        return {"g": filled(1, self.n), "b": filled(0, self.n)}

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> tuple[jax.Array, Any]:
        check_features(self, x, params["g"], self.n)
        normal, scale = _normal(x, self.epsilon, _over_features)
        return over_rows(params["g"], x) * normal + over_rows(params["b"], x), (normal, scale)

    def backward(self, params: Any, tape: Any, delta: jax.Array) -> tuple[jax.Array, jax.Array]:
        normal, scale = tape
        return _through(normal, scale, delta * over_rows(params["g"], delta)), delta

    def gradient(self, tape: Any, deltas: jax.Array) -> dict[str, jax.Array]:
        return {"g": of_gain(tape[0], deltas), "b": total(deltas, rows_of(deltas))}

    def square_sum(self, tape: Any, deltas: jax.Array) -> dict[str, jax.Array] | None:
        """Σ_i g_i²: without positions each entry of g_i is one product, so it is the gradient of the squares."""
        normal, scale = tape
        return None if normal.ndim > 2 else self.gradient((jnp.square(wide(normal)), scale), jnp.square(wide(deltas)))


@spec
class RMSNorm(OfFeatures):
    """y = g ⊙ x̂ with x̂ = x / √(mean(x²) + epsilon), over the last axis: a `LayerNorm` that shifts nothing.

    Parameters: `{"g": (n,)}`, starting at 1. The tape is x̂ and 1/√(…): with u = δ ⊙ g,
    ∂J/∂x = (u - x̂ mean(u ⊙ x̂)) / √(…), and ∂J/∂g = Σ δ ⊙ x̂. The mean is taken in float32 or better.
    Source: Zhang & Sennrich, 2019.

    Args:
        n: number of features.
        epsilon: what keeps the root away from 0.

    Raises:
        ValueError: n below 1 or a negative epsilon; at `forward`, inputs with other than n features.

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp
        >>> layer = fn.RMSNorm(2)
        >>> y, tape = layer.forward(layer.init(jax.random.key(0)), jnp.array([[3.0, -3.0]]))
        >>> y.round(3).tolist()
        [[1.0, -1.0]]
    """

    n: int
    epsilon: float = 1e-5
    by_position: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_norm(self)

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        return {"g": filled(1, self.n)}

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> tuple[jax.Array, Any]:
        check_features(self, x, params["g"], self.n)
        normal, scale = _normal(x, self.epsilon, _over_features, centre=False)
        return over_rows(params["g"], x) * normal, (normal, scale)

    def backward(self, params: Any, tape: Any, delta: jax.Array) -> tuple[jax.Array, jax.Array]:
        normal, scale = tape
        return _through(normal, scale, delta * over_rows(params["g"], delta), centre=False), delta

    def gradient(self, tape: Any, deltas: jax.Array) -> dict[str, jax.Array]:
        return {"g": of_gain(tape[0], deltas)}


@spec
class GroupNorm(OfFeatures):
    """y = g ⊙ x̂ + b with x̂ = (x - mean) / √(variance + epsilon), over all positions and the features of a group.

    The features are cut into `groups` equal parts, one after the other; each example has statistics of its own. So it
    is what stands in the place of batch normalisation where every example's gradient is to be its own.

    Parameters: `{"g": (n,), "b": (n,)}`, starting at 1 and 0. The tape is x̂ and 1/√(…), and the derivatives are
    those of `LayerNorm` with the means over a group. Source: Wu & He, 2018.

    Args:
        n: number of features.
        groups: into how many parts they are cut; 1: all together; n: each alone ("instance normalisation").
        epsilon: what keeps the root away from 0.

    Raises:
        ValueError: n below 1, a negative epsilon, groups that do not divide n; at `forward`, inputs with other than
            n features.

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp
        >>> layer = fn.GroupNorm(4, groups=2)
        >>> y, tape = layer.forward(layer.init(jax.random.key(0)), jnp.array([[1.0, 3.0, 5.0, 9.0]]))
        >>> y.round(3).tolist()
        [[-1.0, 1.0, -1.0, 1.0]]
    """

    n: int
    groups: int
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        check_norm(self)
        if self.groups < 1 or self.n % self.groups:
            raise ValueError(f"{self}: groups must divide n.")

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        return {"g": filled(1, self.n), "b": filled(0, self.n)}

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> tuple[jax.Array, Any]:
        check_features(self, x, params["g"], self.n)
        normal, scale = _normal(x, self.epsilon, self._over_groups)
        return over_rows(params["g"], x) * normal + over_rows(params["b"], x), (normal, scale)

    def backward(self, params: Any, tape: Any, delta: jax.Array) -> tuple[jax.Array, jax.Array]:
        normal, scale = tape
        sums, positions = _sums_over_positions(normal, delta), math.prod(delta.shape[1:-1])
        gains = over_rows(wide(params["g"]), sums[0])  # those of u = δ ⊙ g, and of u ⊙ x̂
        along, mean = (self._of_groups(jnp.mean, s * gains / positions, delta.ndim) for s in sums)
        u = delta.astype(scale.dtype) * over_rows(params["g"].astype(scale.dtype), delta)
        return ((u - mean - normal.astype(scale.dtype) * along) * scale).astype(delta.dtype), delta

    def gradient(self, tape: Any, deltas: jax.Array) -> dict[str, jax.Array]:
        gains, shifts = _sums_over_positions(tape[0], deltas)  # that backward takes too: computed once under jit
        return {"g": total(gains, (0,)), "b": total(shifts, (0,))}

    def _over_groups(self, reduce: Callable[..., jax.Array], values: jax.Array) -> jax.Array:
        """A reduction over positions and a group's features: over positions first, while features lie side by side."""
        return self._of_groups(reduce, reduce(values, tuple(range(1, values.ndim - 1))), values.ndim)

    def _of_groups(self, reduce: Callable[..., jax.Array], each: jax.Array, ndim: int) -> jax.Array:
        """A reduction of (m, n) over a group's features, for each feature again: (m, 1, …, n), with so many axes."""
        size = self.n // self.groups
        parts = reduce(each.reshape(each.shape[0], self.groups, size), 2)
        return jnp.repeat(parts, size, axis=1).reshape(each.shape[0], *[1] * (ndim - 2), self.n)


# ------------------------------------------------------------------ what they are made of
def _normal(
    x: jax.Array, epsilon: float, fold: Callable[..., jax.Array], centre: bool = True
) -> tuple[jax.Array, jax.Array]:
    """x̂, and what the (shifted) values were multiplied by, in float32 or better; `fold` reduces what is alike."""
    values = x.astype(accumulation_type(x.dtype))
    unit, epsilon_there = _unit(values, fold, epsilon)
    values = values * unit
    if centre:
        values = values - fold(jnp.mean, values)
    scale = lax.rsqrt(fold(jnp.mean, values * values) + epsilon_there)
    return (values * scale).astype(x.dtype), scale * unit


def _through(normal: jax.Array, scale: jax.Array, u: jax.Array, centre: bool = True) -> jax.Array:
    """The error signal u at x̂, back at x, where x̂ is over the last axis."""
    dtype, u, normal = u.dtype, u.astype(scale.dtype), normal.astype(scale.dtype)
    back = u - normal * _over_features(jnp.mean, u * normal)
    if centre:
        back = back - _over_features(jnp.mean, u)
    return (back * scale).astype(dtype)


def _over_features(reduce: Callable[..., jax.Array], values: jax.Array) -> jax.Array:
    return reduce(values, values.ndim - 1, keepdims=True)


def _unit(values: jax.Array, fold: Callable[..., jax.Array], epsilon: float) -> tuple[jax.Array, jax.Array]:
    """A power of two for what belongs together, 1 but where squares would overflow, and ε for what it scales."""
    info = jnp.finfo(values.dtype)
    far = lax.stop_gradient(fold(partial(jnp.max, initial=0), jnp.abs(values))) > 2.0 ** (info.maxexp * 2 // 5)
    least = np.asarray(info.smallest_normal, values.dtype)  # what is left of ε there would vanish
    return jnp.where(far, 2.0 ** -(info.maxexp * 4 // 5), 1).astype(values.dtype), jnp.where(far, least, epsilon)


def _sums_over_positions(normal: jax.Array, delta: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Σ_p δ x̂ and Σ_p δ of each example and feature, (m, n)."""
    positions = tuple(range(1, delta.ndim - 1))
    return total(wide(delta) * wide(normal), positions), total(delta, positions)
