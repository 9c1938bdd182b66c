"""What XLA does slowly or wrongly on CPUs, and how funcnet goes around it: one place to look when XLA gets better.

`examples/benchmarks/workarounds.py` times each way against the plain one, and says whether the faults are still there.
"""

import jax
import jax.numpy as jnp
from jax import lax

from funcnet._core.numerics import sum_of_products


def sum_of_outer_products(x: jax.Array, delta: jax.Array) -> jax.Array:
    """Σ_i x_i δ_iᵀ over rows (m, n) and (m, k): (n, k), in the accumulation type.

    Speed. XLA's product over the first axes walks down the columns of x. Beside few columns of δ nothing hides that,
    and (δᵀ x)ᵀ is up to 6 times faster. XLA would turn it into the plain product again, but for one more row, which is
    cut off.
    """
    k = delta.shape[1]
    if not 1 < k <= 64 or k >= x.shape[1] or len(x) < 64 or jax.default_backend() != "cpu":
        return sum_of_products(x, delta, (0,), (0,))
    return jnp.pad(sum_of_products(delta, x, (0,), (0,)), ((0, 1), (0, 0))).T[:, :k]


def mirrored(strips: list[jax.Array]) -> jax.Array:
    """The symmetric matrix of which these are strips of rows, each from the diagonal on to the right.

    Correctness. Put together from pieces, since XLA's code for where(upper, matrix, matrix.T) crashes in jax 0.10.
    """
    n = strips[0].shape[1]
    edges = [n - strip.shape[1] for strip in strips] + [n]

    def row(i: int) -> jax.Array:
        left = [strips[j][:, edges[i] - edges[j] : edges[i + 1] - edges[j]].T for j in range(i)]
        return jnp.concatenate([*left, strips[i]], axis=1)

    return jnp.concatenate([row(i) for i in range(len(strips))])


def masked_before_use(masked: jax.Array) -> jax.Array:
    """A masked copy of a tape, as it is.

    Speed. Without the barrier XLA transposes the tape while it masks it, which is slow.
    """
    return lax.optimization_barrier(masked)
