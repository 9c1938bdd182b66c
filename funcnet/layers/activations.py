"""Activations: each forward value from `jax.nn`, each derivative by hand beside it.

The tape is the output wherever the derivative can be written in terms of it: the next layer
keeps the same array as its input, so it costs no memory. The others keep the derivative itself,
computed while the input is at hand.

`formula` is what a page and a worksheet print of it: value and derivative in z, what comes in, and a, what comes out.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from funcnet._core.numerics import accumulation_type, total
from funcnet._core.specs import spec
from funcnet.layers.base import Parameterless, Pass


@spec
class Sigmoid(Parameterless):
    """y = 1 / (1 + e⁻ˣ). The tape is y, since f' = y (1 - y).

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> y, tape = fn.Sigmoid().forward((), jnp.array([-1.0, 2.0]))
        >>> slope, _ = fn.Sigmoid().backward((), tape, jnp.ones(2))
        >>> print(*(f"{number:.3f}" for number in (*y, *slope)))
        0.269 0.881 0.197 0.105
    """

    steepest: ClassVar[float] = 0.25
    formula: ClassVar[tuple[str, str]] = ("1 / (1 + exp(-z))", "a (1 - a)")

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> Pass:
        y = jax.nn.sigmoid(x)
        return y, y

    def backward(self, params: Any, tape: jax.Array, delta: jax.Array) -> Pass:
        y = tape
        return delta * (y * (1 - y)), delta


@spec
class Tanh(Parameterless):
    """y = tanh x. The tape is y, since f' = 1 - y².

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> y, tape = fn.Tanh().forward((), jnp.array([-1.0, 2.0]))
        >>> slope, _ = fn.Tanh().backward((), tape, jnp.ones(2))
        >>> print(*(f"{number:.3f}" for number in (*y, *slope)))
        -0.762 0.964 0.420 0.071
    """

    steepest: ClassVar[float] = 1.0
    formula: ClassVar[tuple[str, str]] = ("tanh(z)", "1 - a²")

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> Pass:
        y = jnp.tanh(x)
        return y, y

    def backward(self, params: Any, tape: jax.Array, delta: jax.Array) -> Pass:
        y = tape
        return delta * (1 - y * y), delta


@spec
class ReLU(Parameterless):
    """y = max(x, 0), with f'(0) = 0. The tape is y: positive just where x is (Nair & Hinton, 2010).

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> y, tape = fn.ReLU().forward((), jnp.array([-1.0, 2.0]))
        >>> slope, _ = fn.ReLU().backward((), tape, jnp.ones(2))
        >>> print(*(f"{number:.3f}" for number in (*y, *slope)))
        0.000 2.000 0.000 1.000
    """

    formula: ClassVar[tuple[str, str]] = ("max(0, z)", "1 where z > 0, else 0")

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> Pass:
        y = jax.nn.relu(x)
        return y, y

    def backward(self, params: Any, tape: jax.Array, delta: jax.Array) -> Pass:
        return jnp.where(tape > 0, delta, 0), delta


@spec
class LeakyReLU(Parameterless):
    """y = x for x ≥ 0, slope · x below. The tape is y: it has the sign of x (Maas et al., 2013).

    Args:
        slope: above 0.

    Raises:
        ValueError: a slope that is not above 0.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> y, tape = fn.LeakyReLU().forward((), jnp.array([-1.0, 2.0]))
        >>> slope, _ = fn.LeakyReLU().backward((), tape, jnp.ones(2))
        >>> print(*(f"{number:.3f}" for number in (*y, *slope)))
        -0.010 2.000 0.010 1.000
    """

    slope: float = 0.01

    def __post_init__(self) -> None:
        if self.slope <= 0:
            raise ValueError(f"{self}: slope must be positive. For 0 use ReLU().")

    @property
    def formula(self) -> tuple[str, str]:
        return f"z where z ≥ 0, else {self.slope:g} z", f"1 where z ≥ 0, else {self.slope:g}"

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> Pass:
        y = jax.nn.leaky_relu(x, self.slope)
        return y, y

    def backward(self, params: Any, tape: jax.Array, delta: jax.Array) -> Pass:
        return jnp.where(tape >= 0, delta, self.slope * delta), delta


@spec
class ELU(Parameterless):
    """y = x for x > 0, alpha (eˣ - 1) below (Clevert et al., 2016). The tape is f': y + alpha would lose its digits.

    Args:
        alpha: above 0.

    Raises:
        ValueError: an alpha that is not above 0.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> y, tape = fn.ELU().forward((), jnp.array([-1.0, 2.0]))
        >>> slope, _ = fn.ELU().backward((), tape, jnp.ones(2))
        >>> print(*(f"{number:.3f}" for number in (*y, *slope)))
        -0.632 2.000 0.368 1.000
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        if self.alpha <= 0:
            raise ValueError(f"{self}: alpha must be positive. For 0 use ReLU().")

    @property
    def formula(self) -> tuple[str, str]:
        alpha = "" if self.alpha == 1 else f"{self.alpha:g} "
        return f"z where z > 0, else {alpha}(exp(z) - 1)", f"1 where z > 0, else {alpha}exp(z)"

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> Pass:
        return jax.nn.elu(x, self.alpha), jnp.where(x > 0, 1, self.alpha * jnp.exp(jnp.where(x > 0, 0, x)))

    def backward(self, params: Any, tape: jax.Array, delta: jax.Array) -> Pass:
        return delta * tape, delta


@spec
class SELU(Parameterless):
    """y = scale · ELU(x, alpha), constants that keep mean 0 and variance 1 (Klambauer et al., 2017). The tape is f'.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> y, tape = fn.SELU().forward((), jnp.array([-1.0, 2.0]))
        >>> slope, _ = fn.SELU().backward((), tape, jnp.ones(2))
        >>> print(*(f"{number:.3f}" for number in (*y, *slope)))
        -1.111 2.101 0.647 1.051
    """

    alpha: ClassVar[float] = 1.6732632423543772848170429916717
    scale: ClassVar[float] = 1.0507009873554804934193349852946
    formula: ClassVar[tuple[str, str]] = (
        "1.0507 z where z > 0, else 1.0507 × 1.67326 (exp(z) - 1)",
        "1.0507 where z > 0, else 1.0507 × 1.67326 exp(z)",
    )

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> Pass:
        slope = self.scale * jnp.where(x > 0, 1, self.alpha * jnp.exp(jnp.where(x > 0, 0, x)))
        return jax.nn.selu(x), slope

    def backward(self, params: Any, tape: jax.Array, delta: jax.Array) -> Pass:
        return delta * tape, delta


@spec
class GELU(Parameterless):
    """y = x Φ(x), Φ the normal distribution function (Hendrycks & Gimpel, 2016). The tape is x.

    Args:
        approximate: Φ(x) ≈ ½ (1 + tanh(√(2/π) (x + 0.044715 x³))), as most networks in use have it.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> y, tape = fn.GELU().forward((), jnp.array([-1.0, 2.0]))
        >>> slope, _ = fn.GELU().backward((), tape, jnp.ones(2))
        >>> print(*(f"{number:.3f}" for number in (*y, *slope)))
        -0.159 1.955 -0.083 1.086
    """

    approximate: bool = True

    @property
    def formula(self) -> tuple[str, str]:
        if not self.approximate:
            return "z Φ(z)", "Φ(z) + z φ(z)"
        tanh = "tanh(0.797885 (z + 0.044715 z³))"
        return f"½ z (1 + {tanh})", f"½ (1 + t) + ½ z (1 - t²) (0.797885 + 0.107032 z²) with t = {tanh}"

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> Pass:
        return jax.nn.gelu(x, self.approximate), x

    def backward(self, params: Any, tape: jax.Array, delta: jax.Array) -> Pass:
        x = tape
        if self.approximate:  # ½ (1 + tanh u) = σ(2 u): XLA would keep the forward pass's tanh u beside x
            root = float(np.sqrt(2 / np.pi))
            s = jax.nn.sigmoid(2 * root * (x + 0.044715 * x**3))
            inner = root + 3 * 0.044715 * root * jnp.minimum(x * x, 1e4)  # bounded: 0·∞ is not 0
            return delta * (s + 2 * (s * (1 - s) * x) * inner), delta
        root = float(np.sqrt(0.5))
        slope = 0.5 * lax.erfc(-x * root) + x * jnp.exp(-0.5 * x * x) * (root / float(np.sqrt(np.pi)))
        return delta * slope, delta


@spec
class SiLU(Parameterless):
    """y = x σ(x), also called swish (Elfwing et al., 2018). The tape is f' = σ + y (1 - σ).

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> y, tape = fn.SiLU().forward((), jnp.array([-1.0, 2.0]))
        >>> slope, _ = fn.SiLU().backward((), tape, jnp.ones(2))
        >>> print(*(f"{number:.3f}" for number in (*y, *slope)))
        -0.269 1.762 0.072 1.091
    """

    formula: ClassVar[tuple[str, str]] = ("z σ(z)", "σ(z) + a (1 - σ(z))")

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> Pass:
        y, s = jax.nn.silu(x), jax.nn.sigmoid(x)
        return y, s + y * (1 - s)

    def backward(self, params: Any, tape: jax.Array, delta: jax.Array) -> Pass:
        return delta * tape, delta


@spec
class Softplus(Parameterless):
    """y = log(1 + eˣ). The tape is y, since f' = σ(x) = 1 - e⁻ʸ.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> y, tape = fn.Softplus().forward((), jnp.array([-1.0, 2.0]))
        >>> slope, _ = fn.Softplus().backward((), tape, jnp.ones(2))
        >>> print(*(f"{number:.3f}" for number in (*y, *slope)))
        0.313 2.127 0.269 0.881
    """

    formula: ClassVar[tuple[str, str]] = ("log(1 + exp(z))", "1 / (1 + exp(-z))")

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> Pass:
        y = jax.nn.softplus(x)
        return y, y

    def backward(self, params: Any, tape: jax.Array, delta: jax.Array) -> Pass:
        return delta * -jnp.expm1(-tape), delta


@spec
class Softsign(Parameterless):
    """y = x / (1 + |x|) (Bergstra et al., 2009). The tape is y, since f' = 1 / (1 + |x|)² = (1 - |y|)².

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> y, tape = fn.Softsign().forward((), jnp.array([-1.0, 2.0]))
        >>> slope, _ = fn.Softsign().backward((), tape, jnp.ones(2))
        >>> print(*(f"{number:.3f}" for number in (*y, *slope)))
        -0.500 0.667 0.250 0.111
    """

    formula: ClassVar[tuple[str, str]] = ("z / (1 + |z|)", "(1 - |a|)²")

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> Pass:
        y = jax.nn.soft_sign(x)
        return y, y

    def backward(self, params: Any, tape: jax.Array, delta: jax.Array) -> Pass:
        return delta * jnp.square(1 - jnp.abs(tape)), delta


@spec
class Softmax(Parameterless):
    """y = eˣ / Σ eˣ over the last axis. The tape is y: ∂J/∂x = y ⊙ (δ - Σ δ y).

    For classification leave it out and give the logits to `CrossEntropy`, which stays exact
    where the probabilities here round to 0.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> y, tape = fn.Softmax().forward((), jnp.array([[0.0, 1.0]]))
        >>> input_delta, _ = fn.Softmax().backward((), tape, jnp.array([[1.0, 0.0]]))
        >>> print(*(f"{number:.3f}" for number in (*y[0], *input_delta[0])))
        0.269 0.731 0.197 -0.197
    """

    elementwise: ClassVar[bool] = False

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> Pass:
        y = jax.nn.softmax(x)
        return y, y

    def backward(self, params: Any, tape: jax.Array, delta: jax.Array) -> Pass:
        y = tape
        wide = accumulation_type(y.dtype)
        along = total(delta.astype(wide) * y.astype(wide), (y.ndim - 1,), keepdims=True).astype(y.dtype)
        return y * (delta - along), delta


@spec
class LogSoftmax(Parameterless):
    """y = x - log Σ eˣ over the last axis. The tape is y: ∂J/∂x = δ - eʸ Σ δ.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> y, tape = fn.LogSoftmax().forward((), jnp.array([[0.0, 1.0]]))
        >>> input_delta, _ = fn.LogSoftmax().backward((), tape, jnp.array([[1.0, 0.0]]))
        >>> print(*(f"{number:.3f}" for number in (*y[0], *input_delta[0])))
        -1.313 -0.313 0.731 -0.731
    """

    elementwise: ClassVar[bool] = False

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> Pass:
        y = jax.nn.log_softmax(x)
        return y, y

    def backward(self, params: Any, tape: jax.Array, delta: jax.Array) -> Pass:
        y = tape
        return delta - jnp.exp(y) * total(delta, (y.ndim - 1,), keepdims=True).astype(y.dtype), delta


@spec
class Identity(Parameterless):
    """y = x. The tape is empty.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> y, tape = fn.Identity().forward((), jnp.array([-1.0, 2.0]))
        >>> slope, _ = fn.Identity().backward((), tape, jnp.ones(2))
        >>> print(*(f"{number:.3f}" for number in (*y, *slope)))
        -1.000 2.000 1.000 1.000
    """

    formula: ClassVar[tuple[str, str]] = ("z", "1")

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> Pass:
        return x, ()

    def backward(self, params: Any, tape: Any, delta: jax.Array) -> Pass:
        return delta, delta
