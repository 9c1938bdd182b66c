"""Forward and backward propagation, and the cost and gradient that come of them.

The backward pass is a value. `forward` keeps, for every layer, what came in (the tape);
`backward` sends the error signal down and keeps what each layer saw of it (the deltas);
`gradient` contracts the two. `value_and_grad` is the three in a row.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from funcnet._core import arguments, walkers
from funcnet._core.context import Context
from funcnet._core.numerics import total
from funcnet._core.outlines import html_outline, outline
from funcnet._core.protocols import AnyLayer, ArrayLike, Loss, Params, Penalty, Tree
from funcnet._core.walkers import contract, gradient_of_leaf
from funcnet._core.weighting import (
    Reduction,
    averaged,
    check_reduction,
    for_reduction,
    penalised,
    reduced,
    weighted,
    weights_of,
    with_penalty,
)  # fmt: skip


class Backprop(NamedTuple):
    """One forward and one backward propagation, of the cost summed over examples.

    Attributes:
        costs: (m,), the cost J_i of each example.
        output: the network's output.
        tape: for every layer, what it kept of the forward pass.
        deltas: for every layer, what it kept of the error signal: for `Dense`, δ = ∂J_i/∂z.
        input_delta: ∂J_i/∂x, shaped like x.
    """

    costs: jax.Array
    output: jax.Array
    tape: Tree
    deltas: Tree
    input_delta: jax.Array

    def __repr__(self) -> str:
        return outline(self)

    def _repr_html_(self) -> str:
        return html_outline(self)


def predict(net: AnyLayer, params: Params, x: ArrayLike) -> jax.Array:
    """The network's output, without dropout and without a tape.

    Args:
        net: a layer.
        params: its parameters.
        x: (m, *positions, features), of the parameters' type.

    Returns:
        (m, *positions, outputs).

    Raises:
        TypeError: mixed types; `net` is not a layer.
        ValueError: parameters of another network; x of a wrong shape or not finite.

    Example:
        >>> import funcnet as fn
        >>> net = fn.Chain(fn.Dense(2, 1), fn.Sigmoid())
        >>> params = fn.from_weights(net, [[[2.0], [-3.0]]], [[-3.0]])
        >>> print(f"{fn.predict(net, params, [[-1.0, -2.0]])[0, 0]:.4f}")
        0.7311
    """
    return forward(net, params, x)[0]


def forward(net: AnyLayer, params: Params, x: ArrayLike, key: ArrayLike | None = None) -> tuple[jax.Array, Tree]:
    """Forward propagation: the output, and the tape that `backward` and `gradient` need.

    Args:
        net: a layer.
        params: its parameters.
        x: (m, *positions, features), of the parameters' type, or integers (m, *positions). As a pair (x, segment_ids)
            the second, integers (m, T), says which positions belong together: those of a segment see each other alone,
            so that several texts may stand in a row; 0 is padding, seen by none.
        key: None (evaluation: `Dropout` passes everything on), one key, or m keys, one per example.

    Returns:
        The output (m, *positions, outputs) and the tape, which has every layer's at its place.

    Raises:
        TypeError: mixed types; `net` is not a layer, or `key` not a key.
        ValueError: parameters of another network; x of a wrong shape or not finite; a key for a
            network without a layer that draws.

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp
        >>> net = fn.mlp((2, 3, 1))
        >>> output, tape = fn.forward(net, fn.init(net, jax.random.key(0)), jnp.ones((5, 2)))
        >>> output.shape, [kept.shape for kept in tape]
        ((5, 1), [(5, 2), (5, 3), (5, 3)])
    """
    x, segments = arguments.unpacked(x)
    params, x, key = arguments.checked_input(net, params, x, key)
    arguments.refuse_non_finite("x", x)
    return walkers.layer_forward(net, params, x, Context(key, segments))


def backward(net: AnyLayer, params: Params, tape: Tree, delta: ArrayLike) -> tuple[jax.Array, Tree]:
    """Backward propagation: the error signal from the output down to the input.

    δˡ = (δˡ⁺¹ wˡ⁺¹ᵀ) ⊙ f'(zˡ) for a chain of `Dense` layers and activations. With other parameters
    than those of the forward pass it is another learning rule (feedback alignment, for one).

    Args:
        net: a layer.
        params: its parameters.
        tape: from `forward`.
        delta: ∂J_i/∂output, shaped and typed like the output.

    Returns:
        ∂J_i/∂x, shaped like x, and the deltas, which have every layer's at its place.

    Raises:
        TypeError: delta of another type than the parameters; `net` is not a layer.
        ValueError: parameters of another network; a delta that does not fit the tape of a `Dense`.

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp
        >>> net = fn.mlp((2, 3, 1))
        >>> params = fn.init(net, jax.random.key(0))
        >>> output, tape = fn.forward(net, params, jnp.ones((5, 2)))
        >>> input_delta, deltas = fn.backward(net, params, tape, jnp.ones_like(output))
        >>> input_delta.shape, [delta.shape for delta in deltas]
        ((5, 2), [(5, 3), (5, 3), (5, 1)])
    """
    arguments.check_layer_functions(net)
    delta = arguments.as_array("delta", delta)
    if not jnp.issubdtype(delta.dtype, jnp.floating):
        raise TypeError(f"delta: expected ∂J/∂output, of the parameters' type, got {arguments.shown(delta)}.")
    params = arguments.as_params(net, params, delta.dtype, "delta")
    arguments.check_arrays("tape", tape, "fn.forward(net, params, x)")
    return walkers.pull(net, walkers.deltas_alone, params, tape, delta)


def gradient(net: AnyLayer, tape: Tree, deltas: Tree) -> Tree:
    """The gradient of the summed cost: at every layer a contraction of its tape and deltas.

    ∂J/∂wˡ = Σ_i aˡ⁻¹_i δˡ_i and ∂J/∂bˡ = Σ_i δˡ_i for `Dense`.

    Args:
        net: a layer.
        tape: from `forward`.
        deltas: from `backward`.

    Returns:
        A tree like the parameters, in the accumulation type (float32 or better): the sum over examples.

    Raises:
        TypeError: `net` is not a layer.

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp
        >>> net = fn.Dense(2, 1)
        >>> fn.gradient(net, jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([[1.0], [10.0]]))["w"].tolist()
        [[31.0], [42.0]]
    """
    arguments.check_layer_functions(net)
    arguments.check_arrays("tape", tape, "fn.forward(net, params, x)")
    arguments.check_arrays("deltas", deltas, "fn.backward(net, params, tape, delta)")
    return contract(net, gradient_of_leaf, tape, deltas)


def cost(
    net: AnyLayer,
    loss: Loss,
    params: Params,
    x: ArrayLike,
    y: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    penalty: Penalty | None = None,
    key: ArrayLike | None = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    """The cost J: Σ_i J_i divided by the sum of all weights ("mean") or as it is ("sum"), plus the penalty.

    J_i is the sum of example i's costs over its positions, each times its weight. The mean is over examples and
    positions: a weight per example counts for each of its positions, and without weights each counts 1, so that
    None, ones (m,) and ones (m, *positions) are the same. It is plain JAX with no derivative rule of ours: what
    `jax.grad(fn.cost, argnums=2)` is pointed at.

    Args:
        net: a layer.
        loss: the cost of an output against its target.
        params: the network's parameters.
        x: (m, *positions, features), of the parameters' type; or (x, segment_ids), as for `forward`. Padding counts in
            the cost unless its weight is 0.
        y: targets, as the loss wants them.
        weights: (m,) or (m, *positions), 0 or more; None counts all alike. An example of weight 0, or whose
            positions all have weight 0, contributes exactly nothing, even where it is not finite: the first that
            counts takes its place. A position of weight 0 is out of the cost; its input is replaced alike if the
            whole network is `by_position`, and stays otherwise, since other positions see it (a prompt is context).
            All zero: the cost is 0. Under jit negative weights cannot be refused and make the cost NaN.
            `jax.grad` by a weight of 0 gives 0, since what takes the example's place says nothing about it: for the
            true one, J_i of the sum, take `backprop(...).costs`. How a step that weighs the examples would change
            another cost (learning to reweight) is -g_i · v: see `weighted_gradient`, and `example_gram`.
        penalty: a cost of the parameters, added once.
        key: for networks with `Dropout`, one key or one per example; None evaluates.
        reduction: "mean" or "sum"; where it is an argument of `jit`, name it static.

    Returns:
        A scalar, in float32 or better.

    Raises:
        TypeError: mixed types; targets of the wrong kind; an argument that is not a layer, loss or key.
        ValueError: parameters of another network; shapes that do not fit; labels out of range;
            negative weights; x, y or weights that are not finite.

    Example:
        >>> import funcnet as fn
        >>> net = fn.Dense(1, 1)
        >>> params = fn.from_weights(net, [[[2.0]]])
        >>> float(fn.cost(net, fn.SquaredError(), params, [[1.0], [3.0]], [[0.0], [6.0]]))
        1.0
    """
    check_reduction(reduction)
    arguments.check_penalty(penalty)
    run = _propagated(net, loss, params, x, y, weights, key)
    return with_penalty(reduced(run.costs, run.batch.weights, reduction), penalty, run.batch.params)


def value_and_grad(
    net: AnyLayer,
    loss: Loss,
    params: Params,
    x: ArrayLike,
    y: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    penalty: Penalty | None = None,
    key: ArrayLike | None = None,
    reduction: Reduction = "mean",
) -> tuple[jax.Array, Tree]:
    """The cost J and its gradient by the hand-written backward pass.

    Args and errors are those of `cost`.

    Returns:
        J, and ∂J/∂params in a tree like params and of its types.

    Example:
        >>> import funcnet as fn
        >>> net = fn.Dense(1, 1)
        >>> params = fn.from_weights(net, [[[2.0]]])
        >>> J, grads = fn.value_and_grad(net, fn.SquaredError(), params, [[1.0], [3.0]], [[0.0], [6.0]])
        >>> float(J), grads["w"].tolist(), grads["b"].tolist()
        (1.0, [[1.0]], [1.0])
    """
    check_reduction(reduction)
    arguments.check_penalty(penalty)
    run = _propagated(net, loss, params, x, y, weights, key)
    params, weights = run.batch.params, run.batch.weights
    value = reduced(run.costs, weights, reduction)
    weights = for_reduction(weights, reduction)
    delta = weighted(loss.delta(run.output, run.batch.y), weights_of(run.costs, weights))
    _, grads = walkers.pull(net, gradient_of_leaf, params, run.tape, delta)
    arguments.check_like_params(net, grads, params)
    return penalised(penalty, params, value, averaged(grads, run.costs, weights, reduction))


def backprop(
    net: AnyLayer,
    loss: Loss,
    params: Params,
    x: ArrayLike,
    y: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    key: ArrayLike | None = None,
) -> Backprop:
    """One forward and one backward propagation, everything kept: all else is contractions of it.

    Per example, so the same for every batch size: costs J_i (with their weights) and deltas of the
    summed cost Σ_i J_i. `gradient(net, bp.tape, bp.deltas)` is the gradient of that sum. Args and
    errors are those of `cost`.

    Returns:
        A `Backprop`. Rows of weight 0 have cost and deltas 0; their output is another row's.

    Example:
        >>> import funcnet as fn
        >>> net = fn.Dense(1, 1)
        >>> bp = fn.backprop(net, fn.SquaredError(), fn.from_weights(net, [[[2.0]]]), [[1.0], [3.0]], [[0.0], [5.0]])
        >>> bp.costs.tolist(), bp.deltas.tolist(), bp.input_delta.tolist()
        ([2.0, 0.5], [[2.0], [1.0]], [[4.0], [2.0]])
    """
    run = _propagated(net, loss, params, x, y, weights, key)
    wide = weights_of(run.costs, run.batch.weights)
    delta = weighted(loss.delta(run.output, run.batch.y), wide)
    input_delta, deltas = walkers.pull(net, walkers.deltas_alone, run.batch.params, run.tape, delta)
    per_example = total(weighted(run.costs, wide), tuple(range(1, run.costs.ndim)))
    return Backprop(per_example, run.output, run.tape, deltas, input_delta)


class _Propagated(NamedTuple):
    """Checked arguments, and one forward propagation of them."""

    batch: arguments.Batch
    output: jax.Array
    tape: Tree
    costs: jax.Array


def _propagated(
    net: AnyLayer,
    loss: Loss,
    params: Params,
    x: ArrayLike,
    y: ArrayLike,
    weights: ArrayLike | None,
    key: ArrayLike | None,
) -> _Propagated:
    """How `cost`, `value_and_grad` and `backprop` begin."""
    x, segments = arguments.unpacked(x)
    batch = arguments.checked_batch(net, loss, params, x, y, weights, key, segments)
    output, tape = walkers.layer_forward(net, batch.params, batch.x, Context(batch.key, batch.segments))
    return _Propagated(batch, output, tape, loss.value(output, batch.y))
