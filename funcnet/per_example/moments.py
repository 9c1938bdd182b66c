"""How the examples' gradients scatter around their mean."""

import jax
import jax.numpy as jnp

from funcnet._core import contractions
from funcnet._core.numerics import total
from funcnet._core.protocols import AnyLayer, Tree
from funcnet._core.walkers import contract, gradient_of_leaf
from funcnet.per_example.gradients import check_backprop, square_norms_of
from funcnet.propagation import Backprop


def gradient_moments(net: AnyLayer, bp: Backprop) -> tuple[Tree, Tree]:
    """Mean and population variance of the examples' gradients: ḡ = Σ_i g_i/m and Σ_i g_i²/m − ḡ² ≥ 0.

    All m examples count, those of weight 0 with a gradient of 0. What rounding leaves below 0 is 0. The
    variance has a relative error of about ε (1 + ḡ²/variance), so where examples hardly differ, use float64.

    Args:
        net: a layer.
        bp: its `Backprop`, with m examples.

    Returns:
        Mean and variance, two trees like the parameters, in float32 or better.

    Raises:
        TypeError, ValueError: as `weighted_gradient`.

    Cost:
        Two gradients, the second from squares of tape and deltas; no m P numbers are kept. With
        positions, and for layers without `square_sum`, the examples' gradients are formed in
        blocks no larger than tape and deltas. BackPACK's `Variance` of a mean loss is 1/m² times this.

    Source: Dangel et al., 2020.

    Example:
        >>> import funcnet as fn
        >>> net = fn.Dense(1, 1)
        >>> bp = fn.backprop(net, fn.SquaredError(), fn.from_weights(net, [[[2.0]]]), [[1.0], [3.0]], [[0.0], [5.0]])
        >>> mean, variance = fn.gradient_moments(net, bp)
        >>> mean["b"].tolist(), variance["b"].tolist()
        ([1.5], [0.25])
    """
    m = max(check_backprop(net, bp), 1)
    mean = jax.tree.map(lambda g: g / m, contract(net, contractions.gradient_sum, bp.tape, bp.deltas))
    squares = contract(net, contractions.square_sum, bp.tape, bp.deltas)
    return mean, jax.tree.map(lambda s, g: jnp.maximum(s / m - g * g, 0), squares, mean)


def noise_scale(net: AnyLayer, bp: Backprop) -> jax.Array:
    """The simple gradient noise scale tr Σ / ‖ḡ‖²: a batch size beyond which more examples hardly help.

    Σ is the population covariance of the examples' gradients and ḡ their mean, both of this batch,
    so that it is b = sum(variance) / sum(mean²) of `gradient_moments`. Since ‖ḡ‖² holds the noise of m
    examples itself, b is hardly above m: trust it well below. From the unbiased estimates of both terms (the
    paper's appendix, with batches of 1 and m) it is m b / (m − 1 − b), and no scale where that is negative.

    Args:
        net: a layer.
        bp: its `Backprop`, with m examples.

    Returns:
        A scalar ≥ 0: 0 where the examples' gradients are all alike, ∞ where they cancel.

    Raises:
        TypeError, ValueError: as `weighted_gradient`.

    Cost:
        One gradient and `example_square_norms`, no further memory. Others estimate it from the
        gradients of two batch sizes, with noise of its own.

    Source: McCandlish et al., 2018.

    Example:
        >>> import funcnet as fn
        >>> net = fn.Dense(1, 1)
        >>> bp = fn.backprop(net, fn.SquaredError(), fn.from_weights(net, [[[2.0]]]), [[1.0], [3.0]], [[0.0], [5.0]])
        >>> round(float(fn.noise_scale(net, bp)), 3)
        0.059
    """
    m = max(check_backprop(net, bp), 1)
    sums = contract(net, gradient_of_leaf, bp.tape, bp.deltas)
    return scale_of(total(square_norms_of(net, bp)) / m, jax.tree.map(lambda g: g / m, sums))


def scale_of(mean_of_squares: jax.Array, mean: Tree) -> jax.Array:
    """`noise_scale` from the mean squared norm of the examples' gradients, and their mean."""
    squares = (total(jnp.square(g)).astype(mean_of_squares.dtype) for g in jax.tree.leaves(mean))
    mean_square = sum(squares, jnp.zeros((), mean_of_squares.dtype))
    noise = jnp.maximum(mean_of_squares - mean_square, 0)
    return jnp.where(noise == 0, 0, noise / mean_square)
