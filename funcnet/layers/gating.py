"""`Gated`: one half of the features opens and closes the other."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from funcnet._core.protocols import AnyLayer
from funcnet._core.specs import spec
from funcnet._core.walkers import layer_forward
from funcnet.layers.activations import SiLU
from funcnet.layers.base import Parameterless, Pass


@spec
class Gated(Parameterless):
    """y = f(a) ⊙ b with (a, b) the two halves of x: 2 h features to h.

    Between two `Dense`, `Dense(n, 2 h)`, `Gated(SiLU())`, `Dense(h, n)`, it is SwiGLU; with `GELU()` GEGLU, with
    `Sigmoid()` the gated linear unit of Dauphin et al., 2017. The tape is x: ∂J/∂a = f'(a) ⊙ (δ ⊙ b) and
    ∂J/∂b = δ ⊙ f(a), where f has no parameters and so may be computed again. Source: Shazeer, 2020.

    Args:
        activation: f, elementwise.

    Raises:
        ValueError: an activation that is not elementwise; at `forward`, an odd number of features.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> fn.Gated(fn.ReLU()).forward((), jnp.array([[2.0, -1.0, 3.0, 5.0]]))[0].tolist()
        [[6.0, 0.0]]
    """

    activation: AnyLayer = SiLU()
    keeps_size: ClassVar[bool] = False
    elementwise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not getattr(self.activation, "elementwise", False):
            raise ValueError(
                f"{self}: expected an elementwise activation such as SiLU(). (One of your own says so by the class "
                "attribute elementwise = True.)"
            )

    def forward(self, params: Any, x: jax.Array) -> Pass:
        if x.shape[-1] % 2:
            raise ValueError(f"{self}: expected an even number of features, two halves, got shape {x.shape}.")
        a, b = jnp.split(x, 2, -1)
        return layer_forward(self.activation, (), a)[0] * b, x

    def backward(self, params: Any, tape: jax.Array, delta: jax.Array) -> Pass:
        a, b = jnp.split(tape, 2, -1)
        gate, kept = layer_forward(self.activation, (), a)
        through, _ = self.activation.backward((), kept, delta * b)
        return jnp.concatenate([through, delta * gate], -1), delta
