"""`Cast`: a network propagated in another type than its parameters have."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from funcnet.layers.combinators import contract
from funcnet.protocols import AnyLayer, Layer, Tree
from funcnet.spec import spec


@spec
class Cast:
    """`layer` with inputs, parameters and error signals rounded to `dtype`; what goes out has the type that came in.

    The gradient stays in the accumulation type, so nothing is rounded twice before the optimiser
    sees it: mixed precision as of Micikevicius et al., 2018. bfloat16 has the range of float32, so
    no scaling of the cost is needed.
    """

    layer: AnyLayer
    dtype: str

    def init(self, key: jax.Array) -> Any:
        return self.layer.init(key)

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> tuple[jax.Array, Tree]:
        y, tape = self.layer.forward(self._cast(params), x.astype(self.dtype), key)
        return y.astype(x.dtype), tape

    def backward(self, params: Any, tape: Tree, delta: jax.Array) -> tuple[jax.Array, Tree]:
        input_delta, deltas = self.layer.backward(self._cast(params), tape, delta.astype(self.dtype))
        return input_delta.astype(delta.dtype), deltas

    def contract(self, f: Callable[[Layer, Tree, Tree], Tree], tape: Tree, deltas: Tree) -> Tree:
        return contract(self.layer, f, tape, deltas)

    def _cast(self, params: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf.astype(self.dtype), params)


def in_type(net: AnyLayer, dtype: Any) -> AnyLayer:
    """The network propagated in that type; itself for None."""
    if dtype is None:
        return net
    try:
        name = jnp.dtype(dtype).name
    except TypeError:
        name = repr(dtype)
    if name != "bfloat16":
        raise ValueError(
            f"compute_dtype: expected 'bfloat16' or None, got {name}. Other types are those of the parameters "
            "and x: cast both. (float16 would lose small error signals.)"
        )
    return Cast(net, name)
