"""Other ways for the error signal to travel: `backward` with other parameters than `forward` had."""

import jax
import jax.numpy as jnp

from funcnet._core import scalars
from funcnet._core.context import Context, context_of
from funcnet._core.protocols import AnyLayer, Layer, Params, Tree
from funcnet._core.specs import spec
from funcnet._core.walkers import LeafFunction, layer_forward, map_leaves, pull
from funcnet.layers.base import OneLayer

OWN_DRAW = 0x0B  # folded into the seed's key: most people draw the weights from that key itself


@spec
class FeedbackAlignment(OneLayer):
    """`layer`, its error signal sent down through fixed random weights instead of its own.

    δˡ = (δˡ⁺¹ Bˡ⁺¹) ⊙ f_l'(zˡ) with Bˡ⁺¹ in the place of (wˡ⁺¹)ᵀ: starting values that `layer.init`
    draws, from `seed` and for this use alone. Forward pass, tape and contractions are the layer's own, so all
    that uses a backward pass can use this one, `fit` too. What comes out is no gradient (`check_layer` says
    so), but the weights learn to make it one: they come to align with B.

    Source: Lillicrap et al., 2016.

    Args:
        layer: a network. Every `Dense` and convolution in it gets a B, so the output's error signal is still the true
            one.
        seed: what B is drawn from. It has nothing in common with the network's own starting values, whatever key
            those are drawn from.

    Raises:
        TypeError: `layer` is not a layer, or `seed` not a whole number.
        ValueError: a seed out of 0 … 2³² - 1.

    Example:
        >>> import funcnet as fn
        >>> fn.FeedbackAlignment(fn.mlp((64, 32, 10)), seed=1)
        FeedbackAlignment(Chain(Dense(64, 32), Tanh(), Dense(32, 10)), seed=1)
    """

    layer: AnyLayer
    seed: int = 0

    def __post_init__(self) -> None:
        scalars.seed(f"{self}: seed", self.seed)

    def forward(self, params: Params, x: jax.Array, key: Context | jax.Array | None = None) -> tuple[jax.Array, Tree]:
        return layer_forward(self.layer, params, x, context_of(key))

    def pull(self, f: LeafFunction, params: Params, tape: Tree, delta: jax.Array) -> tuple[jax.Array, Tree]:
        fixed = self.layer.init(jax.random.fold_in(jax.random.key(self.seed), OWN_DRAW))
        return pull(self.layer, f, jax.tree.map(lambda b, w: b.astype(w.dtype), fixed, params), tape, delta)


@spec
class SignSymmetric(OneLayer):
    """`layer`, its error signal sent down through the signs of its weights, at their mean size.

    δˡ = (δˡ⁺¹ Bˡ⁺¹) ⊙ f_l'(zˡ) with B = sign(w)ᵀ · mean|w|. Gains and biases take part as they are.
    As with `FeedbackAlignment`, what comes out is no gradient.

    Source: Liao, Leibo and Poggio, 2016.

    Args:
        layer: a network.

    Raises:
        TypeError: `layer` is not a layer.

    Example:
        >>> import funcnet as fn
        >>> fn.SignSymmetric(fn.mlp((64, 32, 10)))
        SignSymmetric(Chain(Dense(64, 32), Tanh(), Dense(32, 10)))
    """

    layer: AnyLayer

    def forward(self, params: Params, x: jax.Array, key: Context | jax.Array | None = None) -> tuple[jax.Array, Tree]:
        return layer_forward(self.layer, params, x, context_of(key))

    def pull(self, f: LeafFunction, params: Params, tape: Tree, delta: jax.Array) -> tuple[jax.Array, Tree]:
        return pull(self.layer, f, map_leaves(self.layer, _signs, params), tape, delta)


def _signs(leaf: Layer, params: Params) -> Params:
    """The parameters of one layer, its matrices by their signs alone."""
    return jax.tree.map(lambda w: jnp.sign(w) * jnp.mean(jnp.abs(w)) if w.ndim > 1 else w, params)
