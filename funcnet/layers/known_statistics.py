"""`FrozenBatchNorm`: values shifted and scaled by a mean and a variance that are known."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from funcnet._core.arguments import check_features
from funcnet._core.numerics import total, wide
from funcnet._core.specs import spec
from funcnet.layers.features import OfFeatures, check_norm, filled, of_gain, over_rows, rows_of


@spec
class FrozenBatchNorm(OfFeatures):
    """y = g ⊙ x̂ + b with x̂ = (x - mean) / √(var + epsilon): batch normalisation as a trained network evaluates it.

    Parameters: `{"g", "b", "mean", "var"}`, (n,) each, starting at 1, 0, 0 and 1: statistics that are known. Hold them
    in training by `trainable`, else they are learned like the rest, and a var below 0 ends in NaN. The layer also
    scales inputs: with the mean and variance of the data's features, as the first one.

    Derivatives by all four are true ones: ∂J/∂g = Σ δ ⊙ x̂, ∂J/∂b = Σ δ, and with s = 1/√(var + epsilon)
    ∂J/∂mean = -Σ δ ⊙ g s, ∂J/∂var = -½ Σ δ ⊙ g s² x̂. The tape is x̂, and g s and s, once for all positions of an
    example (so `by_position` is not claimed). Source: Ioffe & Szegedy, 2015.

    Args:
        n: number of features.
        epsilon: what keeps the root away from 0.

    Raises:
        ValueError: n below 1 or a negative epsilon; at `forward`, inputs with other than n features.

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp
        >>> layer = fn.FrozenBatchNorm(1, epsilon=0.0)
        >>> params = layer.init(jax.random.key(0)) | {"mean": jnp.array([2.0]), "var": jnp.array([4.0])}
        >>> layer.forward(params, jnp.array([[0.0], [6.0]]))[0].tolist()
        [[-1.0], [2.0]]
    """

    n: int
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        check_norm(self)

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        return {"g": filled(1, self.n), "b": filled(0, self.n), "mean": filled(0, self.n), "var": filled(1, self.n)}

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> tuple[jax.Array, Any]:
        check_features(self, x, params["g"], self.n)
        scale = self._scale(params)
        normal = (x - over_rows(params["mean"], x)) * over_rows(scale, x)
        each = (x.shape[0], *[1] * (x.ndim - 2), self.n)  # the same for all examples and positions, which share it
        kept = normal, jnp.broadcast_to(params["g"] * scale, each), jnp.broadcast_to(scale, each)
        return over_rows(params["g"], x) * normal + over_rows(params["b"], x), kept

    def backward(self, params: Any, tape: Any, delta: jax.Array) -> tuple[jax.Array, jax.Array]:
        return delta * over_rows(params["g"] * self._scale(params), delta), delta

    def gradient(self, tape: Any, deltas: jax.Array) -> dict[str, jax.Array]:
        normal, slope, scale = map(wide, tape)
        mean, rows = wide(deltas) * slope, rows_of(deltas)
        return {
            "g": of_gain(normal, deltas),
            "b": total(deltas, rows),
            "mean": -total(mean, rows),
            "var": -0.5 * total(mean * normal * scale, rows),
        }

    def _scale(self, params: Any) -> jax.Array:
        return lax.rsqrt(wide(params["var"]) + self.epsilon).astype(params["var"].dtype)
