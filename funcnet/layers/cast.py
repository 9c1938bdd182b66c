"""`Cast`: a network propagated in another type than its parameters have."""

from typing import Any

import jax
import jax.numpy as jnp

from funcnet._core.arrays import shown
from funcnet._core.context import Context, context_of
from funcnet._core.protocols import AnyLayer, Params, Tree
from funcnet._core.specs import spec
from funcnet._core.walkers import LeafFunction, layer_forward, layer_step, pull
from funcnet.layers.base import OneLayer


@spec
class Cast(OneLayer):
    """`layer` with inputs, parameters and error signals rounded to `dtype`. The output has the type of x, or of
    the parameters where x holds integers.

    The gradient stays in the accumulation type, so nothing is rounded twice before the optimiser
    sees it: mixed precision as of Micikevicius et al., 2018. bfloat16 has the range of float32, so
    no scaling of the cost is needed.
    """

    layer: AnyLayer
    dtype: str

    def forward(self, params: Params, x: jax.Array, key: Context | jax.Array | None = None) -> tuple[jax.Array, Tree]:
        y, tape = layer_forward(self.layer, self._cast(params), self._cast(x), context_of(key))
        return y.astype(x.dtype if _floating(x) else jnp.result_type(*jax.tree.leaves(params))), tape

    def pull(self, f: LeafFunction, params: Params, tape: Tree, delta: jax.Array) -> tuple[jax.Array, Tree]:
        input_delta, results = pull(self.layer, f, self._cast(params), tape, self._cast(delta))
        return (input_delta.astype(delta.dtype) if _floating(input_delta) else input_delta), results

    def step(self, params: Params, x: jax.Array, cache: Tree, place: jax.Array) -> tuple[jax.Array, Tree]:
        y, cache = layer_step(self.layer, self._cast(params), self._cast(x), cache, place)
        return y.astype(x.dtype if _floating(x) else jnp.result_type(*jax.tree.leaves(params))), cache

    def _cast(self, tree: Tree) -> Tree:
        return jax.tree.map(lambda leaf: leaf.astype(self.dtype) if _floating(leaf) else leaf, tree)


def _floating(values: jax.Array) -> bool:
    return jnp.issubdtype(values.dtype, jnp.floating)


def in_type(net: AnyLayer, dtype: Any) -> AnyLayer:
    """The network propagated in that type; itself for None."""
    if dtype is None:
        return net
    try:
        name = jnp.dtype(dtype).name
    except (TypeError, ValueError):
        name = shown(dtype)
    if name != "bfloat16":
        raise ValueError(
            f"compute_dtype: expected 'bfloat16' or None, got {name}. Other types are those of the parameters "
            "and x: cast both. (float16 would lose small error signals.)"
        )
    return Cast(net, name)
