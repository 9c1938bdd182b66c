"""Starting values of weight matrices: specs that are called with a key, a shape and a type.

Equal weights would give all units of a layer equal error terms and equal gradients, for ever; so
weights start at random (see `examples/04_symmetry.py`). Biases start at zero.
"""

from typing import Any

import jax
import jax.numpy as jnp

from funcnet._core.specs import spec


@spec
class Uniform:
    """Uniform on [-epsilon, epsilon]: the choice of the introductory texts.

    Example:
        >>> import funcnet as fn
        >>> fn.Dense(64, 10, init=fn.Uniform(0.12))
        Dense(64, 10, init=Uniform(0.12))
    """

    epsilon: float

    def __post_init__(self) -> None:
        if self.epsilon < 0:
            raise ValueError(f"Uniform: epsilon must be 0 or more, got {self.epsilon}.")

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -self.epsilon, self.epsilon)


@spec
class Normal:
    """Normal with mean 0 and standard deviation `std`: 0.02 is the choice for transformers (Radford et al., 2019).

    Args:
        std: 0 or more.

    Raises:
        ValueError: a negative std.

    Example:
        >>> import funcnet as fn, jax
        >>> w = fn.Normal(0.02)(jax.random.key(0), (500, 300), "float32")
        >>> print(f"{w.std():.4f}")
        0.0200
    """

    std: float

    def __post_init__(self) -> None:
        if self.std < 0:
            raise ValueError(f"Normal: std must be 0 or more, got {self.std}.")

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        return jax.nn.initializers.normal(self.std)(key, shape, dtype)


@spec
class GlorotUniform:
    """Uniform with variance 2 / (n_in + n_out), for tanh and sigmoid (Glorot & Bengio, 2010).

    Example:
        >>> import funcnet as fn, jax
        >>> w = fn.GlorotUniform()(jax.random.key(0), (500, 300), "float32")
        >>> print(f"{w.var():.4f}")  # 2 / (500 + 300)
        0.0025
    """

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        return jax.nn.initializers.glorot_uniform()(key, shape, dtype)


@spec
class GlorotNormal:
    """Truncated normal with variance 2 / (n_in + n_out) (Glorot & Bengio, 2010).

    Example:
        >>> import funcnet as fn, jax
        >>> w = fn.GlorotNormal()(jax.random.key(0), (500, 300), "float32")
        >>> print(f"{w.var():.4f}")  # 2 / (500 + 300)
        0.0025
    """

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        return jax.nn.initializers.glorot_normal()(key, shape, dtype)


@spec
class HeUniform:
    """Uniform with variance 2 / n_in, for ReLU and its relatives (He et al., 2015).

    Example:
        >>> import funcnet as fn, jax
        >>> w = fn.HeUniform()(jax.random.key(0), (500, 300), "float32")
        >>> print(f"{w.var():.4f}")  # 2 / 500
        0.0040
    """

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        return jax.nn.initializers.he_uniform()(key, shape, dtype)


@spec
class HeNormal:
    """Truncated normal with variance 2 / n_in, for ReLU and its relatives (He et al., 2015).

    Example:
        >>> import funcnet as fn, jax
        >>> w = fn.HeNormal()(jax.random.key(0), (500, 300), "float32")
        >>> print(f"{w.var():.4f}")  # 2 / 500
        0.0040
    """

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        return jax.nn.initializers.he_normal()(key, shape, dtype)


@spec
class LecunNormal:
    """Truncated normal with variance 1 / n_in, for SELU (LeCun et al., 1998; Klambauer et al., 2017).

    Example:
        >>> import funcnet as fn, jax
        >>> w = fn.LecunNormal()(jax.random.key(0), (500, 300), "float32")
        >>> print(f"{w.var():.4f}")  # 1 / 500
        0.0020
    """

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        return jax.nn.initializers.lecun_normal()(key, shape, dtype)


@spec
class Zeros:
    """All zero: for a layer that must start by doing nothing, such as the last of a residual branch.

    Example:
        >>> import funcnet as fn, jax
        >>> fn.Dense(2, 1, init=fn.Zeros()).init(jax.random.key(0))["w"].tolist()
        [[0.0], [0.0]]
    """

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        return jnp.zeros(shape, dtype)


@spec
class Constant:
    """All equal to `value`: the mistake that `examples/04_symmetry.py` shows.

    Args:
        value: a number.

    Example:
        >>> import funcnet as fn, jax
        >>> fn.Dense(2, 1, init=fn.Constant(0.5)).init(jax.random.key(0))["w"].tolist()
        [[0.5], [0.5]]
    """

    value: float

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        return jnp.full(shape, self.value, dtype)
