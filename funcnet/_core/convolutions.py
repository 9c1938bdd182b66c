"""A convolution and its two derivatives, for the window of a layer: `convolved`, `spread`, `kernel_gradient`.

With groups the features are cut into that many parts, each of which sees its own alone. Where a part is one feature
("depthwise"), all three are sums over the entries of the window, feature by feature: on CPUs they take 1/5 to 1/30 of
the time of XLA's convolution.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from funcnet._core.numerics import accumulation_type, total, wide
from funcnet._core.sliding import Sliding, unviews, views
from funcnet._core.workarounds import are_set_aside, features_last, in_blocks_of_examples, needed, sum_of_correlations


def convolved(x: jax.Array, w: jax.Array, window: Sliding, groups: int = 1) -> jax.Array:
    """Σ_oc x[stride p + dilation o - before, c] w[o, c, k]: (m, *outer, n_out)."""
    if _is_depthwise(w, groups):
        seen = views(window, _for_outputs(x, w))
        parts = [wide(view) * lax.broadcast(wide(e), view.shape[:-1]) for e, view in zip(_entries(w), seen)]
        return sum(parts[1:], parts[0]).astype(x.dtype)
    return lax.conv_general_dilated(
        x, w, window.stride, window.padding, rhs_dilation=window.dilation, feature_group_count=groups,
        dimension_numbers=features_last(len(window.kernel)), preferred_element_type=accumulation_type(x.dtype),
    ).astype(x.dtype)  # fmt: skip


def spread(delta: jax.Array, w: jax.Array, window: Sliding, groups: int = 1) -> jax.Array:
    """The derivative of `convolved` by x, times delta: the flipped kernel over delta, put apart by the stride."""
    n = len(window.kernel)
    if _is_depthwise(w, groups):
        back = unviews(window, [wide(delta) * lax.broadcast(wide(e), delta.shape[:-1]) for e in _entries(w)])
        return total(back.reshape(*back.shape[:-1], groups, back.shape[-1] // groups), (n + 2,)).astype(delta.dtype)
    flipped = lax.rev(swapped(w, groups), tuple(range(n)))
    return lax.conv_general_dilated(
        delta, flipped, (1,) * n, sides_of_transpose(window), lhs_dilation=window.stride,
        rhs_dilation=window.dilation, feature_group_count=groups, dimension_numbers=features_last(n),
        preferred_element_type=accumulation_type(delta.dtype),
    ).astype(delta.dtype)  # fmt: skip


def kernel_gradient(x: jax.Array, delta: jax.Array, window: Sliding, groups: int = 1) -> jax.Array:
    """The derivative of `convolved` by w, times delta: Σ_ip x_i[stride p + dilation o - before, c] δ_i[p, k].

    Of many examples a convolution. Of one a product for every entry of the kernel, which becomes one product for all
    examples where each has its own gradient.
    """
    c, k = x.shape[-1] // groups, delta.shape[-1] // groups
    if c == 1 and groups > 1 and needed():
        sums = _sums_of_features(_for_outputs(x, delta), delta, window)
    elif max(window.kernel) == 1 or (x.shape[0] == 1 and not are_set_aside()):
        rows = math.prod(delta.shape[:-1])
        signals = delta.reshape(rows, groups, k)
        sums = jnp.stack([_products(view.reshape(rows, groups, c), signals) for view in views(window, x)])
    else:
        return sum_of_correlations(x, delta, window.stride, window.dilation, _sides_of_kernel(window), groups)
    return sums.reshape(*window.kernel, c, groups * k)


def one_after_the_other(window: Sliding, groups: int) -> bool:
    """Whether `kernel_gradients` is the faster way to each example's gradient."""
    return needed() and groups == 1 and len(window.kernel) > 1 and max(window.kernel) > 1


def kernel_gradients(x: jax.Array, delta: jax.Array, window: Sliding) -> jax.Array:
    """`kernel_gradient` of each example alone, (m, *kernel, c, k), one example after the other.

    Each is a convolution over all axes of positions but the last: places on that one are features, which are summed
    over. On CPUs it takes 0.5 to 1.2 of the time of a product for every entry of the kernel, and less memory.
    """
    n, (*others, last), c = len(window.kernel), window.kernel, x.shape[-1]
    along = window.on_last_axis

    def one(example: tuple[jax.Array, jax.Array]) -> jax.Array:
        x, delta = example
        seen = jnp.stack(list(views(along, x.reshape(-1, *x.shape[-2:]))))  # (last, inner of the others, outer, c)
        images = jnp.moveaxis(seen, -1, 1).reshape(last * c, *window.inner[:-1], along.outer[0])
        sums = lax.conv_general_dilated(
            images, delta, window.dilation[:-1], _sides_of_kernel(window)[:-1], rhs_dilation=window.stride[:-1],
            dimension_numbers=features_last(n - 1), preferred_element_type=accumulation_type(x.dtype),
        )  # fmt: skip
        return jnp.moveaxis(sums.reshape(last, c, *others, delta.shape[-1]), (0, 1), (-3, -2))

    return lax.map(one, (x, delta))


def swapped(w: jax.Array, groups: int = 1) -> jax.Array:
    """A kernel (*kernel, n_in/groups, n_out) as one from the outputs to the inputs: (*kernel, n_out/groups, n_in)."""
    *kernel, c, k = w.shape
    parts = w.reshape(*kernel, c, groups, k // groups)
    return jnp.moveaxis(parts, -1, -3).swapaxes(-1, -2).reshape(*kernel, k // groups, groups * c)


def sides_of_transpose(window: Sliding) -> list[tuple[int, int]]:
    """The padding with which the flipped kernel over the outer positions, put apart, gives the inner ones."""
    sides = zip(window.padding, window.extent, window.inner, window.reached)
    return [(e - 1 - before, n - reach + before) for (before, _), e, n, reach in sides]


def _sides_of_kernel(window: Sliding) -> list[tuple[int, int]]:
    """The padding with which delta, put apart, over the inner positions gives the kernel's entries."""
    sides = zip(window.padding, window.reached, window.extent, window.inner)
    return [(before, reach + e - 1 - n - before) for (before, _), reach, e, n in sides]


def _products(x: jax.Array, delta: jax.Array) -> jax.Array:
    """Σ_t x[t, g, c] δ[t, g, k]: (c, g, k)."""
    over = ((0,), (0,)), ((1,), (1,))
    return lax.dot_general(x, delta, over, preferred_element_type=accumulation_type(x.dtype)).transpose(1, 0, 2)


# ------------------------------------------------------------------ depthwise
def _is_depthwise(w: jax.Array, groups: int) -> bool:
    return groups > 1 and w.shape[-2] == 1 and needed()


def _entries(w: jax.Array) -> jax.Array:
    """(entries of the kernel, n_out) of a kernel (*kernel, 1, n_out)."""
    return w.reshape(-1, w.shape[-1])


def _for_outputs(x: jax.Array, like: jax.Array) -> jax.Array:
    """Each feature as often as there are outputs that see it."""
    times = like.shape[-1] // x.shape[-1]
    return x if times == 1 else jnp.repeat(x, times, axis=-1)


def _sums_of_features(x: jax.Array, delta: jax.Array, window: Sliding) -> jax.Array:
    """Σ_ip x_i[…, k] δ_i[p, k], (entries, n_out): over a block of examples first, then over positions."""

    def block(x: jax.Array, delta: jax.Array) -> jax.Array:
        return jnp.stack([total(wide(view) * wide(delta), (0,)) for view in views(window, x)])

    sums = in_blocks_of_examples(block, x, delta)
    return total(sums, tuple(range(1, sums.ndim - 1)))
