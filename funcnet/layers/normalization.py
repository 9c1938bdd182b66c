"""`LayerNorm`: each example's features shifted and scaled to mean 0 and variance 1."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from funcnet._core.arguments import check_features
from funcnet._core.numerics import accumulation_type, total, wide
from funcnet._core.specs import spec


@spec
class LayerNorm:
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
        if self.n < 1 or self.epsilon < 0:
            raise ValueError(f"{self}: n must be 1 or more and epsilon 0 or more.")

    @property
    def n_in(self) -> int:
        return self.n

    @property
    def n_out(self) -> int:
        return self.n

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        dtype = jnp.zeros(()).dtype
        return {"g": jnp.ones(self.n, dtype), "b": jnp.zeros(self.n, dtype)}

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> tuple[jax.Array, Any]:
        check_features(self, x, params["g"], self.n)
        values = x.astype(accumulation_type(x.dtype))
        unit, epsilon = _unit(values, self.epsilon)
        values = values * unit
        centred = values - jnp.mean(values, -1, keepdims=True)
        scale = lax.rsqrt(jnp.mean(centred * centred, -1, keepdims=True) + epsilon)
        normal, scale = (centred * scale).astype(x.dtype), scale * unit
        rows = x.shape[:-1]
        return lax.broadcast(params["g"], rows) * normal + lax.broadcast(params["b"], rows), (normal, scale)

    def backward(self, params: Any, tape: Any, delta: jax.Array) -> tuple[jax.Array, jax.Array]:
        normal, scale = tape
        u = (delta * lax.broadcast(params["g"], delta.shape[:-1])).astype(scale.dtype)
        centred = normal.astype(scale.dtype)
        along = jnp.mean(u * centred, -1, keepdims=True)
        return ((u - jnp.mean(u, -1, keepdims=True) - centred * along) * scale).astype(delta.dtype), delta

    def gradient(self, tape: Any, deltas: jax.Array) -> dict[str, jax.Array]:
        normal, _ = tape
        rows = tuple(range(normal.ndim - 1))
        return {"g": total(wide(deltas) * wide(normal), rows), "b": total(deltas, rows)}

    def square_sum(self, tape: Any, deltas: jax.Array) -> dict[str, jax.Array] | None:
        """Σ_i g_i²: without positions each entry of g_i is one product, so it is the gradient of the squares."""
        normal, scale = tape
        return None if normal.ndim > 2 else self.gradient((jnp.square(wide(normal)), scale), jnp.square(wide(deltas)))


def _unit(values: jax.Array, epsilon: float) -> tuple[jax.Array, jax.Array]:
    """A power of two for every row, 1 but where the squares would overflow, and ε for what it scales."""
    info = jnp.finfo(values.dtype)
    far = lax.stop_gradient(jnp.max(jnp.abs(values), -1, keepdims=True)) > 2.0 ** (info.maxexp * 2 // 5)
    least = np.asarray(info.smallest_normal, values.dtype)  # what is left of ε there would vanish
    return jnp.where(far, 2.0 ** -(info.maxexp * 4 // 5), 1).astype(values.dtype), jnp.where(far, least, epsilon)
