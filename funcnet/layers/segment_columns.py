"""`Segmented`: a network whose segments stand beside x in one array, as trainings draw and move it."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core.context import Context, context_of
from funcnet._core.protocols import AnyLayer, Params, Tree
from funcnet._core.specs import spec
from funcnet._core.walkers import LeafFunction, layer_forward, pull
from funcnet.layers.base import OneLayer


@spec
class Segmented(OneLayer):
    """`layer` of x without its last feature, which says for each position what segment it is in.

    Integers (m, T) come as (m, T, 2), values (m, T, features) as (m, T, features + 1). Parameters, tape and deltas are
    the layer's own.
    """

    layer: AnyLayer
    has_segments: ClassVar[bool] = True

    def forward(self, params: Params, x: jax.Array, key: Context | jax.Array | None = None) -> tuple[jax.Array, Tree]:
        own, segments = apart(x)
        return layer_forward(self.layer, params, own, context_of(key)._replace(segments=segments))

    def pull(self, f: LeafFunction, params: Params, tape: Tree, delta: jax.Array) -> tuple[jax.Array, Tree]:
        input_delta, results = pull(self.layer, f, params, tape, delta)
        return joined(input_delta, jnp.zeros(input_delta.shape[:2], jnp.int32)), results


def joined(x: jax.Array, segments: jax.Array) -> jax.Array:
    """x with its segments behind the last feature."""
    x = x[..., None] if jnp.issubdtype(x.dtype, jnp.integer) else x
    return jnp.concatenate([x, segments[..., None].astype(x.dtype)], -1)


def apart(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    own, segments = x[..., :-1], x[..., -1].astype(jnp.int32)
    return own[..., 0] if jnp.issubdtype(x.dtype, jnp.integer) else own, segments


def with_segments(net: AnyLayer, x: Any, segments: jax.Array | None) -> tuple[AnyLayer, Any]:
    """Network and data as one array, where positions have segments."""
    if segments is None:
        return net, x
    if isinstance(x, np.memmap):
        raise TypeError("x: data that stay on the host take no segment_ids. Read them into memory: np.array(x).")
    return Segmented(net), joined(jnp.asarray(x), segments)
