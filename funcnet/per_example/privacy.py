"""Private gradients: the influence of each example bounded, and noise on what is left (DP-SGD)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core import contractions
from funcnet._core.arguments import is_array, one_key, params_struct, shown
from funcnet._core.keys import typed
from funcnet._core.masks import Masked, flags_of, masked
from funcnet._core.numerics import accumulation_type
from funcnet._core.protocols import AnyLayer, ArrayLike, Layer, Tree
from funcnet._core.scalars import flag
from funcnet._core.walkers import contract, whole, with_examples_first
from funcnet.per_example.gradients import check_backprop
from funcnet.propagation import Backprop


def clipped_gradient(
    net: AnyLayer, bp: Backprop, max_norm: ArrayLike, per_layer: bool = False, *, trainable: Tree | None = None
) -> tuple[Tree, Tree]:
    """Σ_i min(1, max_norm/‖g_i‖) g_i: the sum of the examples' gradients, none longer than max_norm.

    An example whose squared norm or cost is not finite contributes exactly nothing. So one example
    more or less moves the sum by max_norm at most (its *sensitivity*), and one replaced by another
    by twice that. For rounding it is max_norm (1 + slack), with a slack of 1e-5 in float32, and 1e-7/q
    more where an example's positions cancel to a share q of their length. On a GPU it is 1e-3 in place
    of 1e-5, since JAX multiplies in TF32 there unless `jax.default_matmul_precision("highest")` is set.

    Args:
        net: a layer.
        bp: its `Backprop`, with m examples.
        max_norm: above 0, a number or a traced scalar. Squares below the type's smallest number
            (1e-38 in float32) vanish, so scale a network whose inputs or gradients are that small.
        per_layer: clip each of the L layers that have parameters by itself, at max_norm/√L, so
            that the whole is still max_norm at most; static under `jit`.
        trainable: as for `fit`. What is False counts neither in the norms nor as a layer, and is 0 in the sum: all of
            max_norm is for what is trained.

    Returns:
        The sum, a tree like the parameters in float32 or better, and the squared norms before
        clipping, (m,) or per layer a tree, as of `example_square_norms`.

    Raises:
        TypeError: `bp` is not a `Backprop`.
        ValueError: bp of another network; a layer that mixes examples; max_norm not above 0.

    Cost:
        `example_square_norms` and one weighted gradient: with backprop about one plain gradient without
        positions, since norms cost next to nothing there. With positions a third more; but where a layer's
        gradients of all examples take no more room than its tape and deltas, they serve both. It holds those,
        or a masked copy of a layer's tape and a scaled one of its deltas, beside tape and deltas. Opacus's
        `ghost` mode makes a second backward pass; its clipped sum is this one, since it multiplies by m what a
        mean loss divided.

    Source: Abadi et al., 2016; Lee & Kifer, 2021; Bu et al., 2023.

    Example:
        >>> import funcnet as fn
        >>> net = fn.Dense(1, 1)
        >>> bp = fn.backprop(net, fn.SquaredError(), fn.from_weights(net, [[[2.0]]]), [[0.0], [0.0]], [[4.0], [0.5]])
        >>> grads, square_norms = fn.clipped_gradient(net, bp, 1.0)
        >>> grads["b"].tolist(), square_norms.tolist()
        ([-1.5], [16.0, 0.25])
    """
    m = check_backprop(net, bp)
    _refuse("max_norm", max_norm, above=True)
    per_layer = flag("per_layer", per_layer)
    net = masked(net, flags_of(params_struct(net), trainable))

    def norms(leaf: Layer, tape: Tree, deltas: Tree) -> Any:
        is_trained = not isinstance(leaf, Masked) or any(leaf.flags)
        return contractions.square_norms_before_sum(leaf, tape, deltas) if is_trained else ()

    each = contract(net, norms, bp.tape, bp.deltas)
    squares = whole(each, (m,), accumulation_type(bp.costs.dtype))
    counts = jnp.isfinite(squares) & jnp.isfinite(bp.costs)
    layers = max(sum(norms.size // max(m, 1) for norms in jax.tree.leaves(each)), 1)  # those of stacks, too
    bound = jnp.asarray(max_norm, squares.dtype) / (np.sqrt(layers).item() if per_layer else 1)
    bound = jnp.where((bound > 0) & jnp.isfinite(bound), bound, jnp.nan)  # under jit it cannot be refused

    def clip(leaf: Layer, tape: Tree, deltas: Tree) -> Tree:
        lengths: Any = norms(leaf, tape, deltas) if per_layer else squares
        if isinstance(lengths, tuple):
            return leaf.gradient(tape, deltas)
        return contractions.weighted_sum(leaf, tape, deltas, jnp.where(counts, _factor(lengths, bound), 0))

    sums = contract(net, clip, bp.tape, bp.deltas)
    if not per_layer:
        return sums, squares
    return sums, with_examples_first(net, each, bp.tape, bp.deltas)


def private_gradient(
    net: AnyLayer,
    bp: Backprop,
    key: jax.Array,
    *,
    max_norm: ArrayLike,
    noise_multiplier: ArrayLike,
    expected_batch_size: ArrayLike,
    per_layer: bool = False,
    trainable: Tree | None = None,
) -> Tree:
    """DP-SGD's mean gradient: (Σ_i clip(g_i) + σ max_norm z) / expected_batch_size, z standard normal.

    Under "add or remove one example" (the adjacency of most accountants, and of Poisson sampling) the
    sum's sensitivity is max_norm, and σ = noise_multiplier is the number an accountant asks for. Under
    "replace one" it is twice that: give the accountant σ/2. See `clipped_gradient` for the slack.
    The divisor is the *expected* size, a number fixed beforehand: the size drawn would reveal who is in the batch.
    Penalties do not see the data: add their gradient afterwards.

    The squared norms, `bp` and its costs are not private. Normal numbers in floating point are not
    quite normal (Mironov, 2012): enough for research, not against one who sees every bit.

    Args:
        net: a layer.
        bp: its `Backprop`; rows of weight 0 (the padding of a batch) contribute exactly nothing.
        key: one key, used nowhere else; every array of the gradient draws with its own.
        max_norm: above 0.
        noise_multiplier: σ, 0 or more; 0 clips only and is not private.
        expected_batch_size: above 0: the sampling rate times the number of examples.
        per_layer, trainable: as `clipped_gradient`. What is False gets noise like the rest: leave it where it is.

    Returns:
        A tree like the parameters, in float32 or better.

    Raises:
        TypeError: `bp` is not a `Backprop`; key is not one key.
        ValueError: bp of another network; a layer that mixes examples; a number out of its range.

    Cost:
        `clipped_gradient`, and P normal numbers, 3 to 4 ns each on two cores: beside a batch of 128 that is as much
        as the gradient itself. (In JAX 0.12 keys of `impl="threefry4x32"` draw them a little faster.) Opacus and
        TensorFlow Privacy give the same mean; optax's `differentially_private_aggregate` divides by the size of the
        actual batch.

    Source: Abadi et al., 2016.

    Example:
        >>> import funcnet as fn, jax
        >>> net = fn.Dense(1, 1)
        >>> bp = fn.backprop(net, fn.SquaredError(), fn.from_weights(net, [[[2.0]]]), [[0.0], [0.0]], [[4.0], [0.5]])
        >>> options = {"max_norm": 1.0, "noise_multiplier": 0.0, "expected_batch_size": 2}
        >>> fn.private_gradient(net, bp, jax.random.key(0), **options)["b"].tolist()
        [-0.75]
    """
    _refuse("noise_multiplier", noise_multiplier, above=False)
    _refuse("expected_batch_size", expected_batch_size, above=True)
    key = one_key("key", key)
    grads, _ = clipped_gradient(net, bp, max_norm, per_layer, trainable=trainable)
    return noised_mean(grads, key, max_norm, noise_multiplier, expected_batch_size)


def noised_mean(
    grads: Tree, key: jax.Array, max_norm: ArrayLike, noise_multiplier: ArrayLike, expected_batch_size: ArrayLike
) -> Tree:
    """`private_gradient` of a sum that is clipped already."""
    numbers = iter(range(len(jax.tree.leaves(grads))))
    keys = jax.tree.map(lambda g: jax.random.fold_in(typed(key), next(numbers)), grads)

    def noised(g: jax.Array, key: jax.Array) -> jax.Array:
        scale, size = (jnp.asarray(value, g.dtype) for value in (noise_multiplier, expected_batch_size))
        scale, size = jnp.where(scale >= 0, scale, jnp.nan), jnp.where(size > 0, size, jnp.nan)  # traced ones, too
        noise = scale * jnp.asarray(max_norm, g.dtype) * jax.random.normal(key, g.shape, g.dtype)
        return (g + noise) / size

    return jax.tree.map(noised, grads, keys)


def _factor(squares: jax.Array, bound: jax.Array) -> jax.Array:
    """min(1, bound/norm), and 1 for a norm of 0."""
    longer = ~(squares <= bound * bound)
    return jnp.where(longer, bound / jnp.sqrt(jnp.where(longer, squares, 1)), 1)


def _refuse(name: str, value: Any, above: bool) -> None:
    """Refuse a number that is not finite, or not above 0 (or 0 at least), where its value is known."""
    if isinstance(value, jax.core.Tracer):
        return
    real = isinstance(value, int | float) or (is_array(value) and jnp.issubdtype(value.dtype, jnp.number))
    if not real or isinstance(value, bool):
        raise TypeError(f"{name}: expected one finite number, got {shown(value)}.")
    number = np.asarray(float(value) if isinstance(value, int) else value)
    if number.shape != () or not np.isfinite(number) or number < 0 or (above and number == 0):
        raise ValueError(
            f"{name}: expected one finite number, {'above 0' if above else '0 or more'}, got {shown(value)}."
        )
