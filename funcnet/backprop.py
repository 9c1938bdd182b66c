"""Forward and backward propagation, and the cost and gradient that come of them.

The backward pass is a value. `forward` keeps, for every layer, what came in (the tape);
`backward` sends the error signal down and keeps what each layer saw of it (the deltas);
`gradient` contracts the two. `value_and_grad` is the three in a row.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from funcnet import arguments
from funcnet.layers.combinators import contract
from funcnet.precision import total
from funcnet.protocols import AnyLayer, Loss, Params, Penalty, Tree
from funcnet.reduction import Reduction, check_reduction, per_mass, shares_of, weighted, with_penalty


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


def predict(net: AnyLayer, params: Params, x: jax.Array) -> jax.Array:
    """The network's output, without dropout and without a tape.

    Args:
        net: a layer.
        params: its parameters.
        x: (m, *positions, features), of the parameters' type.

    Returns:
        (m, *positions, outputs).

    Raises:
        TypeError: mixed types; something that is no layer.
        ValueError: parameters of another network; x of a wrong shape or not finite.

    Example:
        >>> import funcnet as fn
        >>> net = fn.Chain(fn.Dense(2, 1), fn.Sigmoid())
        >>> params = fn.from_weights(net, [[[2.0], [-3.0]]], [[-3.0]])
        >>> print(f"{fn.predict(net, params, [[-1.0, -2.0]])[0, 0]:.4f}")
        0.7311
    """
    return forward(net, params, x)[0]


def forward(net: AnyLayer, params: Params, x: jax.Array, key: jax.Array | None = None) -> tuple[jax.Array, Tree]:
    """Forward propagation: the output, and the tape that `backward` and `gradient` need.

    Args:
        net: a layer.
        params: its parameters.
        x: (m, *positions, features), of the parameters' type.
        key: None (evaluation: `Dropout` passes everything on), one key, or m keys, one per example.

    Returns:
        The output (m, *positions, outputs) and the tape, which has every layer's at its place.

    Raises:
        TypeError: mixed types; something that is no layer or no key.
        ValueError: parameters of another network; x of a wrong shape or not finite; a key for a
            network without a layer that draws.

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp
        >>> net = fn.mlp((2, 3, 1))
        >>> output, tape = fn.forward(net, fn.init(net, jax.random.key(0)), jnp.ones((5, 2)))
        >>> output.shape, [kept.shape for kept in tape]
        ((5, 1), [(5, 2), (5, 3), (5, 3)])
    """
    params, x, key = arguments.checked_input(net, params, x, key)
    arguments.refuse_non_finite("x", x)
    return net.forward(params, x, key)


def backward(net: AnyLayer, params: Params, tape: Tree, delta: jax.Array) -> tuple[jax.Array, Tree]:
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
        TypeError: delta of another type than the parameters; something that is no layer.
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
    delta = jnp.asarray(delta)
    arguments.check_params(net, params, delta.dtype)
    return net.backward(params, tape, delta)


def gradient(net: AnyLayer, tape: Tree, deltas: Tree) -> Tree:
    """The gradient of the summed cost: at every layer a contraction of its tape and deltas.

    ∂J/∂wˡ = Σ_i aˡ⁻¹_i δˡ_i and ∂J/∂bˡ = Σ_i δˡ_i for `Dense`.

    Args:
        net: a layer.
        tape: from `forward`.
        deltas: from `backward`.

    Returns:
        A tree like the parameters, in the accumulation type (float32 or better): the sum over examples.

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp
        >>> net = fn.Dense(2, 1)
        >>> fn.gradient(net, jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([[1.0], [10.0]]))["w"].tolist()
        [[31.0], [42.0]]
    """
    arguments.check_layer_functions(net)
    return contract(net, lambda leaf, kept, seen: leaf.gradient(kept, seen), tape, deltas)


def cost(
    net: AnyLayer,
    loss: Loss,
    params: Params,
    x: jax.Array,
    y: jax.Array,
    *,
    weights: jax.Array | None = None,
    penalty: Penalty | None = None,
    key: jax.Array | None = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    """The cost J: Σ_i J_i / Σ_i w_i ("mean") or Σ_i J_i ("sum"), plus the penalty.

    J_i is the sum of example i's costs over its positions, each times its weight. It is plain JAX
    with no derivative rule of ours: what `jax.grad(fn.cost, argnums=2)` is pointed at.

    Args:
        net: a layer.
        loss: the cost of an output against its target.
        params: the network's parameters.
        x: (m, *positions, features), of the parameters' type.
        y: targets, as the loss wants them.
        weights: (m,) or (m, *positions), 0 or more; None counts all alike, and the mean divides by
            m. What has weight 0 contributes exactly nothing, even where it is not finite: the
            first example or position that counts is put in its place. All zero: the cost is 0.
            Under jit negative weights are not seen, and make the cost NaN.
        penalty: a cost of the parameters, added once.
        key: for networks with `Dropout`, one key or one per example; None evaluates.
        reduction: "mean" or "sum"; where it is an argument of `jit`, name it static.

    Returns:
        A scalar, in float32 or better.

    Raises:
        TypeError: mixed types; targets of the wrong kind; something that is no layer, loss or key.
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
    batch = arguments.checked_batch(net, loss, params, x, y, weights, key)
    output, _ = net.forward(batch.params, batch.x, batch.key)
    costs = loss.value(output, batch.y)
    return with_penalty(total(weighted(costs, shares_of(costs, batch.weights, reduction))), penalty, batch.params)


def value_and_grad(
    net: AnyLayer,
    loss: Loss,
    params: Params,
    x: jax.Array,
    y: jax.Array,
    *,
    weights: jax.Array | None = None,
    penalty: Penalty | None = None,
    key: jax.Array | None = None,
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
    batch = arguments.checked_batch(net, loss, params, x, y, weights, key)
    params = batch.params
    output, tape = net.forward(params, batch.x, batch.key)
    costs = loss.value(output, batch.y)
    shares = shares_of(costs, batch.weights, reduction)
    value = with_penalty(total(weighted(costs, shares)), penalty, params)
    narrow = jnp.finfo(output.dtype).bits < 32  # a narrow delta keeps its digits, and the division comes at the end
    # A mean is a weighting of the examples, and all that follows is linear in delta.
    delta = weighted(loss.delta(output, batch.y), shares_of(costs, batch.weights, "sum") if narrow else shares)
    _, deltas = net.backward(params, tape, delta)
    grads = gradient(net, tape, deltas)
    if narrow:
        factor = per_mass(costs, batch.weights, reduction)
        grads = jax.tree.map(lambda g: g * factor, grads)
    arguments.check_like_params(net, grads, params)
    if penalty is not None:
        grads = jax.tree.map(lambda g, extra: g + extra.astype(g.dtype), grads, penalty.gradient(params))
    return value, jax.tree.map(lambda g, leaf: g.astype(leaf.dtype), grads, params)


def backprop(
    net: AnyLayer,
    loss: Loss,
    params: Params,
    x: jax.Array,
    y: jax.Array,
    *,
    weights: jax.Array | None = None,
    key: jax.Array | None = None,
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
    batch = arguments.checked_batch(net, loss, params, x, y, weights, key)
    output, tape = net.forward(batch.params, batch.x, batch.key)
    costs = loss.value(output, batch.y)
    shares = shares_of(costs, batch.weights, "sum")
    input_delta, deltas = net.backward(batch.params, tape, weighted(loss.delta(output, batch.y), shares))
    per_example = total(weighted(costs, shares), tuple(range(1, costs.ndim)))
    return Backprop(per_example, output, tape, deltas, input_delta)
