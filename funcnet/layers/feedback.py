"""Other ways for the error signal to travel: `backward` with other parameters than `forward` had."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from funcnet.layers.combinators import contract
from funcnet.protocols import AnyLayer, Layer, Tree
from funcnet.spec import spec


@spec
class FeedbackAlignment:
    """`layer`, its error signal sent down through fixed random weights instead of its own.

    δˡ = (δˡ⁺¹ Bˡ⁺¹) ⊙ f_l'(zˡ) with Bˡ⁺¹ in the place of (wˡ⁺¹)ᵀ: the starting values that `layer.init`
    draws from `seed`. Forward pass, tape and contractions are the layer's own, so all that uses a
    backward pass can use this one, `fit` too. What comes out is no gradient (`check_layer` says
    so), but the weights learn to make it one: they come to align with B.

    Source: Lillicrap et al., 2016.

    Args:
        layer: a network. Every `Dense` in it gets a B, so the output's error signal is still the true one.
        seed: what B is drawn from. With the network's own starting values, drawn from another key,
            it has nothing in common.

    Example:
        >>> import funcnet as fn
        >>> fn.FeedbackAlignment(fn.mlp((64, 32, 10)), seed=1)
        FeedbackAlignment(Chain(Dense(64, 32), Tanh(), Dense(32, 10)), seed=1)
    """

    layer: AnyLayer
    seed: int = 0

    def init(self, key: jax.Array) -> Any:
        return self.layer.init(key)

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> tuple[jax.Array, Tree]:
        return self.layer.forward(params, x, key)

    def backward(self, params: Any, tape: Tree, delta: jax.Array) -> tuple[jax.Array, Tree]:
        fixed = self.layer.init(jax.random.key(self.seed))
        return self.layer.backward(jax.tree.map(lambda b, w: b.astype(w.dtype), fixed, params), tape, delta)

    def contract(self, f: Callable[[Layer, Tree, Tree], Tree], tape: Tree, deltas: Tree) -> Tree:
        return contract(self.layer, f, tape, deltas)


@spec
class SignSymmetric:
    """`layer`, its error signal sent down through the signs of its weights, at their mean size.

    δˡ = (δˡ⁺¹ Bˡ⁺¹) ⊙ f_l'(zˡ) with B = sign(w)ᵀ · mean|w|. Gains and biases take part as they are.
    As with `FeedbackAlignment`, what comes out is no gradient.

    Source: Liao, Leibo and Poggio, 2016.

    Example:
        >>> import funcnet as fn
        >>> fn.SignSymmetric(fn.mlp((64, 32, 10)))
        SignSymmetric(Chain(Dense(64, 32), Tanh(), Dense(32, 10)))
    """

    layer: AnyLayer

    def init(self, key: jax.Array) -> Any:
        return self.layer.init(key)

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> tuple[jax.Array, Tree]:
        return self.layer.forward(params, x, key)

    def backward(self, params: Any, tape: Tree, delta: jax.Array) -> tuple[jax.Array, Tree]:
        signs = jax.tree.map(lambda w: jnp.sign(w) * jnp.mean(jnp.abs(w)) if w.ndim > 1 else w, params)
        return self.layer.backward(signs, tape, delta)

    def contract(self, f: Callable[[Layer, Tree, Tree], Tree], tape: Tree, deltas: Tree) -> Tree:
        return contract(self.layer, f, tape, deltas)
