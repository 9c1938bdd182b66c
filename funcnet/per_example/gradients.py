"""What each example says for itself: contractions of one backward pass, per example or between examples.

Everything here comes from the tape and the deltas of a `Backprop`: one forward and one backward
propagation pay for all of it. Its g_i = ∂J_i/∂params holds the example's weight and is never divided by
the number of examples, so it does not depend on the batch. Where a library's loss is a mean over m, its
per-example gradients are g_i/m unless it says otherwise: BackPACK gives them so, Opacus multiplies by m.

Costs below are those of the contraction alone, in products and in numbers kept in memory; P is the number of
parameters, and "one gradient" is what `gradient` needs, about a third of a training step.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from funcnet._core import arguments, contractions, scalars
from funcnet._core.numerics import accumulation_type
from funcnet._core.protocols import AnyLayer, ArrayLike, Layer, Tree
from funcnet._core.walkers import contract, examples_first, whole
from funcnet._core.workarounds import mirrored
from funcnet.propagation import Backprop, gradient

STRIPS, LEAST = 4, 64  # of a Gram matrix, of which 10/16 is then computed; rows that make a strip worth it


def weighted_gradient(net: AnyLayer, bp: Backprop, weights: ArrayLike) -> Tree:
    """The gradient Σ_i w_i g_i of one weighting of the examples, or of K.

    Args:
        net: a layer.
        bp: its `Backprop`, with m examples.
        weights: (m,) or (K, m), of any sign. At 0 an example contributes exactly nothing, even
            where its tape is not finite; so `jax.grad` by a weight of 0 gives 0. The sum is linear in the
            weights: take its derivative, such as g_i · v of a direction v, at weights of 1.

    Returns:
        A tree like the parameters, in float32 or better; for (K, m) each array is (K, …).

    Raises:
        TypeError: `bp` is not a `Backprop`.
        ValueError: bp of another network; a layer that mixes examples; weights of another shape
            or not finite.

    Cost:
        One gradient for each weighting, and a copy of the tape and deltas. Of gradients that are
        kept per example (Opacus, BackPACK) it would be a product with m P numbers.

    Source: Lee & Kifer, 2021 (weights in place of a second backward pass: Bu et al., 2023).

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> net = fn.Dense(1, 1)
        >>> bp = fn.backprop(net, fn.SquaredError(), fn.from_weights(net, [[[2.0]]]), [[1.0], [3.0]], [[0.0], [5.0]])
        >>> fn.weighted_gradient(net, bp, jnp.array([10.0, 1.0]))["b"].tolist()
        [21.0]
    """
    m = check_backprop(net, bp)
    weights = arguments.as_array("weights", weights)
    if weights.ndim not in (1, 2) or weights.shape[-1] != m:
        raise ValueError(f"weights: expected shape {(m,)} or (K, {m}), a number per example, got {weights.shape}.")
    arguments.refuse_non_finite("weights", weights)
    wide = weights.astype(accumulation_type(bp.costs.dtype))

    def one(weights: jax.Array) -> Tree:
        def weigh(leaf: Layer, tape: Tree, deltas: Tree) -> Tree:
            return contractions.weighted_sum(leaf, tape, deltas, weights)

        return contract(net, weigh, bp.tape, bp.deltas)

    return one(wide) if wide.ndim == 1 else jax.lax.map(one, wide)


def example_gradients(net: AnyLayer, bp: Backprop) -> Tree:
    """The gradient g_i of each example.

    Args:
        net: a layer.
        bp: its `Backprop`, with m examples.

    Returns:
        A tree like the parameters, each array with examples first: (m, …), in a stack (m, depth, …).

    Raises:
        TypeError, ValueError: as `weighted_gradient`.

    Cost:
        The products of one gradient, and m P numbers written: by far the most of all functions here,
        and the only one that holds them. The others give what they are mostly wanted for. Opacus
        keeps the same numbers as `grad_sample`; BackPACK's `BatchGrad` has them divided by m.

    Source: Goodfellow, 2015; Dangel et al., 2020.

    Example:
        >>> import funcnet as fn
        >>> net = fn.Dense(1, 1)
        >>> bp = fn.backprop(net, fn.SquaredError(), fn.from_weights(net, [[[2.0]]]), [[1.0], [3.0]], [[0.0], [5.0]])
        >>> fn.example_gradients(net, bp)["w"].ravel().tolist()
        [2.0, 3.0]
    """
    check_backprop(net, bp)
    return examples_first(net, contractions.gradients, bp.tape, bp.deltas)


def example_square_norms(net: AnyLayer, bp: Backprop, per_layer: bool = False) -> Tree:
    """‖g_i‖², the squared norm of each example's gradient, over all parameters or for each layer.

    Squared, since that has a slope at 0 and its root has none. For `Dense` it is (‖x‖² + 1) ‖δ‖²
    (the 1 is the bias); with positions the norm of the sum over them, the bias's Σ_t δ_t included.

    Args:
        net: a layer.
        bp: its `Backprop`, with m examples.
        per_layer: a value for each layer instead of their sum; static under `jit`.

    Returns:
        (m,), in float32 or better, not finite where the squares overflow; per layer a tree with
        one such array in place of each layer's parameters; (m, *stack) for a layer in a stack.

    Raises:
        TypeError, ValueError: as `weighted_gradient`.

    Cost:
        Without positions a pass over tape and deltas, next to nothing beside one gradient. With T
        positions min(T² (n_in + n_out), T n_in n_out) products an example, at most one gradient.
        A layer of your own without `square_norms` costs one gradient. Nothing larger than tape
        and deltas is kept. Opacus's norms are those of m times the mean's gradient, so the same;
        BackPACK's `BatchL2Grad` is 1/m² times this.

    Source: Goodfellow, 2015; for positions Bu et al., 2023.

    Example:
        >>> import funcnet as fn
        >>> net = fn.Dense(1, 1)
        >>> bp = fn.backprop(net, fn.SquaredError(), fn.from_weights(net, [[[2.0]]]), [[1.0], [3.0]], [[0.0], [5.0]])
        >>> fn.example_square_norms(net, bp).tolist()
        [8.0, 10.0]
    """
    check_backprop(net, bp)
    if scalars.flag("per_layer", per_layer):
        return examples_first(net, contractions.square_norms, bp.tape, bp.deltas)
    return square_norms_of(net, bp)


def example_gram(net: AnyLayer, bp: Backprop, other: Backprop | None = None) -> jax.Array:
    """g_i·h_j, the inner products of the examples' gradients with each other, or with another batch's.

    A step along −g_i changes the cost of example j by about −η g_i·h_j: how much i teaches j.

    Args:
        net: a layer.
        bp: its `Backprop`, with m examples.
        other: another, with m' examples, whose gradients are h_j; None takes bp itself.

    Returns:
        (m, m'), in float32 or better; (m, m) is symmetric up to rounding.

    Raises:
        TypeError, ValueError: as `weighted_gradient`.

    Cost:
        For `Dense` without positions m m' (n_in + n_out) products, of which 10/16 if `other` is
        None, against m n_in n_out of one gradient; it holds m m' numbers. With positions, and for
        layers without `inner`, m m' products for each parameter at most. TracIn sums these over
        saved states times the learning rate; torch's empirical kernels need vmap over gradients.

    Source: Pruthi et al., 2020.

    Example:
        >>> import funcnet as fn
        >>> net = fn.Dense(1, 1)
        >>> bp = fn.backprop(net, fn.SquaredError(), fn.from_weights(net, [[[2.0]]]), [[1.0], [3.0]], [[0.0], [5.0]])
        >>> fn.example_gram(net, bp).tolist()
        [[8.0, 8.0], [8.0, 10.0]]
    """
    m = check_backprop(net, bp)
    if other is None:
        height = max(-(-m // STRIPS), LEAST)

        def strip(start: int) -> jax.Array:
            f = partial(contractions.strip, start=start, height=height)
            return _over_layers(contract(net, f, bp.tape, bp.deltas), (min(height, m - start), m - start), bp)

        return mirrored([strip(start) for start in range(0, max(m, 1), height)])
    columns = check_backprop(net, other, "other")
    each = contract(net, contractions.inner, bp.tape, bp.deltas, other.tape, other.deltas)
    return _over_layers(each, (m, columns), bp)


def example_cosines(net: AnyLayer, bp: Backprop, other: Backprop) -> jax.Array:
    """cos of the angle between each example's two gradients, g_i·h_i / (‖g_i‖ ‖h_i‖).

    For another learning rule's, or other parameters', beside the true one: below 0 a step along one undoes
    what the other wants.

    Args:
        net: a layer.
        bp: its `Backprop`, with m examples.
        other: another, with m examples, whose gradients are h_i. Its network may be another spec, if its tape and
            deltas are alike: `FeedbackAlignment(net)`.

    Returns:
        (m,), in float32 or better; 0 where a gradient is 0.

    Raises:
        TypeError, ValueError: as `weighted_gradient`; batches of other sizes.

    Cost:
        For `Dense` without positions passes over tapes and deltas; with them as `example_square_norms`,
        three times. No gradient is kept.

    Source: Lillicrap et al., 2016 (their angle, there of the hidden error signal).

    Example:
        >>> import funcnet as fn, jax
        >>> net, x, y = fn.mlp((2, 3, 1)), [[1.0, 2.0]], [[1.0]]
        >>> params = fn.init(net, jax.random.key(0))
        >>> bp = fn.backprop(net, fn.SquaredError(), params, x, y)
        >>> fn.example_cosines(net, bp, bp).round(5).tolist()
        [1.0]
    """
    m = check_backprop(net, bp)
    if check_backprop(net, other, "other") != m:
        raise ValueError(f"other: has {len(other.costs)} examples, expected {m}, as bp.")

    def products(first: Backprop, second: Backprop) -> jax.Array:
        kept = first.tape, first.deltas, second.tape, second.deltas
        return _over_layers(contract(net, contractions.inner_by_example, *kept), (m,), bp)

    cosines = products(bp, other)
    for squares in (products(bp, bp), products(other, other)):  # one after the other: their product may overflow
        cosines = jnp.where(squares > 0, cosines * lax.rsqrt(jnp.where(squares > 0, squares, 1)), 0)
    return cosines


def check_backprop(net: AnyLayer, bp: Backprop, name: str = "bp") -> int:
    """The number of examples, if this is a `Backprop` of this network and no layer mixes examples."""
    arguments.check_layer_functions(net)
    if not isinstance(bp, Backprop):
        raise TypeError(f"{name}: expected a Backprop, from fn.backprop(net, …), got {arguments.shown(bp)}.")
    m, expected = len(bp.costs), jax.tree.map(np.shape, arguments.params_struct(net))
    remedy = f"Take it from fn.backprop with {net}."
    try:
        shapes = jax.tree.map(np.shape, jax.eval_shape(partial(gradient, net), bp.tape, bp.deltas))
    except Exception as error:  # whatever a layer says to the tape of another
        raise ValueError(f"{name}: is of another network: its tape and deltas do not fit. {remedy}") from error
    if str(shapes) != str(expected):
        raise ValueError(f"{name}: is of another network: it gives gradients {shapes}, expected {expected}. {remedy}")

    def look(leaf: Layer, tape: Tree, deltas: Tree) -> tuple[()]:
        shapes = [np.shape(a) for a in jax.tree.leaves((tape, deltas)) if np.shape(a)[:1] != (m,)]
        if shapes or getattr(leaf, "mixes_examples", False):
            kept = f" (it keeps an array of shape {shapes[0]}, expected {m} examples first)" if shapes else ""
            raise ValueError(
                f"{leaf}: mixes the examples of a batch{kept}, so none has a gradient of its own. "
                "Use a layer that does not, such as LayerNorm; fn.check_layer tests it."
            )
        return ()

    contract(net, look, bp.tape, bp.deltas)
    return m


def square_norms_of(net: AnyLayer, bp: Backprop) -> jax.Array:
    """`example_square_norms` over all layers, of a `Backprop` that was checked."""
    return _over_layers(contract(net, contractions.square_norms, bp.tape, bp.deltas), bp.costs.shape, bp)


def _over_layers(each: Tree, shape: tuple[int, ...], bp: Backprop) -> jax.Array:
    """The sum of the layers' values of this shape."""
    return whole(each, shape, accumulation_type(bp.costs.dtype))
