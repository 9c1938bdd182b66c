"""What XLA does slowly or wrongly on CPUs, and how funcnet goes around it: one place to look when XLA gets better.

`examples/benchmarks/workarounds.py` times each way against the plain one, and says whether the faults are still there.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from funcnet._core.numerics import accumulation_type, sum_of_products


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


AT_ONCE = 8  # examples
_plain = contextvars.ContextVar("_plain", default=False)


def needed() -> bool:
    """Whether programs are for XLA's CPU compiler, and to run."""
    return jax.default_backend() == "cpu" and not _plain.get()


def are_set_aside() -> bool:
    return _plain.get()


def turns_at_once(turns: int) -> int:
    """How many turns of a loop to write out: one, or all where XLA is to count operations."""
    return max(turns, 1) if are_set_aside() else 1


@contextlib.contextmanager
def set_aside() -> Iterator[None]:
    """Programs without any workaround for convolutions, and without loops: XLA counts a loop's operations once only."""
    before = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(before)


def queries_at_once(positions: int) -> int:
    """How many queries make a block of causal attention.

    Speed. On CPUs the weights of 64 stay in the cache. Elsewhere every operation is a program that has to be started:
    a quarter of the positions at once, up to 512.
    """
    return 64 if needed() else min(512, max(64, -(-positions // 4)))


def sum_of_correlations(
    x: jax.Array,
    delta: jax.Array,
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    sides: list[tuple[int, int]],
    groups: int = 1,
) -> jax.Array:
    """Σ_ip x_i[stride p + dilation o - before, c] δ_i[p, k], (*kernel, c, k): a convolution's gradient by its kernel.

    It is a convolution itself, in which δ is the kernel, strides are dilations and features are examples.

    Speed. XLA's CPU compiler has a fast convolution for one layout, (m, *positions, features) and (*kernel, features,
    outputs). Others it transposes into that one, but not in a loop, as a training is: there it is 16 to 230 times
    slower (jax#12868). And with more than some examples in the sum it runs out of the cache: in blocks of 8 it takes
    0.3 to 0.9 of the time.
    """
    n, wide = len(stride), accumulation_type(x.dtype)
    if not needed():
        spec = lax.ConvDimensionNumbers(
            (n + 1, 0, *range(1, n + 1)), (n + 1, 0, *range(1, n + 1)), (n, n + 1, *range(n))
        )
        return lax.conv_general_dilated(
            x, delta, dilation, sides, rhs_dilation=stride, dimension_numbers=spec, batch_group_count=groups,
            preferred_element_type=wide,
        )  # fmt: skip
    if groups > 1:
        parts = [jnp.moveaxis(a.reshape(*a.shape[:-1], groups, a.shape[-1] // groups), -2, 0) for a in (x, delta)]
        sums = lax.map(lambda part: sum_of_correlations(part[0], part[1], stride, dilation, sides), tuple(parts))
        return jnp.concatenate(list(sums), -1)
    spec = features_last(n)
    axes = tuple(range(1, n + 1))

    def block(x: jax.Array, delta: jax.Array) -> jax.Array:
        x, delta = x.transpose(n + 1, *axes, 0), delta.transpose(*axes, 0, n + 1)
        sums = lax.conv_general_dilated(
            x, delta, dilation, sides, rhs_dilation=stride, dimension_numbers=spec, preferred_element_type=wide
        )
        return sums.transpose(*axes, 0, n + 1)

    return in_blocks_of_examples(block, x, delta)


def in_blocks_of_examples(f: Callable[[jax.Array, jax.Array], jax.Array], x: jax.Array, delta: jax.Array) -> jax.Array:
    """f(x, δ), a sum over examples, from blocks of `AT_ONCE`."""
    number = max(len(x) - 1, 0) // AT_ONCE
    first = number * AT_ONCE
    last = f(x[first:], delta[first:])
    if not number:
        return last
    whole = tuple(a[:first].reshape(number, AT_ONCE, *a.shape[1:]) for a in (x, delta))
    return lax.scan(lambda sums, part: (sums + f(*part), None), last, whole)[0]


def features_last(n: int) -> lax.ConvDimensionNumbers:
    """The layout of a convolution over n axes of positions: (m, *positions, features), (*kernel, features, outputs)."""
    data = (0, n + 1, *range(1, n + 1))
    return lax.ConvDimensionNumbers(data, (n + 1, n, *range(n)), data)


def apart(kept: Any) -> Any:
    """A tree as it is, where the compiler is not to look for what was computed of it before.

    Memory. What is made again of it would be found, and kept, where barriers are not dropped.
    """
    return lax.optimization_barrier(kept)


def not_before(values: jax.Array, signal: jax.Array) -> jax.Array:
    """The values as they are, known no earlier than the signal is.

    Memory. What `backward` makes again of the tape depends on the forward pass alone. XLA's CPU compiler drops
    the barrier before it looks for common expressions and before it orders a program: it finds what is made again in
    the forward pass, or makes it then, and holds it until the error signal comes. A zero that it cannot know to be one
    holds it back.
    """
    values, signal = lax.optimization_barrier((values, signal))
    if not (needed() and signal.size and jnp.issubdtype(values.dtype, jnp.floating)):
        return values
    one = signal.reshape(-1)[0].astype(values.dtype)
    return values + 0 * jnp.where(jnp.isfinite(one), one, 0)


def masked_before_use(masked: jax.Array) -> jax.Array:
    """A masked copy of a tape, as it is.

    Speed. Without the barrier XLA transposes the tape while it masks it, which is slow.
    """
    return lax.optimization_barrier(masked)
