"""Every number of one forward and one backward propagation of a chain, ready to be written down."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet import arguments
from funcnet.backprop import value_and_grad
from funcnet.layers import Chain, Dense
from funcnet.protocols import AnyLayer, Loss, Params, Tree
from funcnet.reduction import Reduction, check_reduction, shares_of

OWN = (
    " (A layer of your own without parameters, each of whose outputs depends on one input, says so by the "
    "class attribute elementwise = True.)"
)


@dataclasses.dataclass(frozen=True, eq=False)
class Propagation:
    """A chain of L `Dense` layers, each with its elementwise activations taken together as f.

    Arrays are of float64 with examples first; lists are indexed by layer, where z[0], say, is None, for
    the input has none.

    Attributes:
        layers: for every layer its `Dense`.
        functions: for every layer its activation as code: "Sigmoid()", or "" where a = z.
        direct: whether the input comes to the first layer as it is, so that a[0] is x.
        w, b: parameters; b[l] is None for a layer without biases.
        z, a, slope: weighted sums, activations, and ∂a/∂z.
        cost_slope: ∂J_i/∂a at the output.
        delta: ∂J_i/∂z.
        costs, shares: each example's cost J_i, and ∂J/∂J_i.
        J: the cost.
        gradient: by `value_and_grad`, a tree like params.
        w_gradient, b_gradient: ∂J/∂w and ∂J/∂b of it, layer by layer.
        y: the targets.
    """

    layers: list[Any]
    functions: list[str]
    direct: bool
    w: list[Any]
    b: list[Any]
    z: list[Any]
    a: list[np.ndarray]
    slope: list[Any]
    cost_slope: np.ndarray
    delta: list[Any]
    costs: np.ndarray
    shares: np.ndarray
    J: float
    gradient: Tree
    w_gradient: list[Any]
    b_gradient: list[Any]
    y: np.ndarray

    @property
    def sizes(self) -> list[int]:
        """Number of inputs, and of units of every layer."""
        return [a.shape[-1] for a in self.a]

    @property
    def one(self) -> bool:
        """Whether J is the cost of one example itself."""
        return bool(len(self.costs) == 1 and self.shares[0] == 1)

    @property
    def depth(self) -> int:
        return len(self.layers) - 1


def dense_layers(caller: str, net: AnyLayer) -> list[Dense]:
    """The layers with parameters of a chain that paths can be followed through."""
    arguments.check_layer_functions(net)
    leaves = [leaf for leaf, _ in leaves_of(net)]
    for leaf in leaves:
        _check_covered(caller, leaf)
    found = [leaf for leaf in leaves if isinstance(leaf, Dense)]
    if not found:
        raise ValueError(f"{caller}: {net} has no Dense layer, so there is no weight to derive by.")
    return found


def leaves_of(layer: Any, params: Params = None) -> list[tuple[Any, Params]]:
    """The layers of nested chains in order, each with its part of a tree like params."""
    if isinstance(layer, Chain):
        owns = [None] * len(layer.layers) if params is None else params
        return [pair for child, own in zip(layer.layers, owns) for pair in leaves_of(child, own)]
    return [(layer, params)]


def propagate(
    caller: str,
    net: AnyLayer,
    loss: Loss,
    params: Params,
    x: Any,
    y: Any,
    weights: Any = None,
    reduction: Reduction = "mean",
) -> Propagation:
    """Forward and backward through a chain, layer by layer, keeping all of it."""
    dense_layers(caller, net)
    check_reduction(reduction)
    batch = arguments.checked_batch(net, loss, params, x, y, weights)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(batch)):
        raise TypeError(f"{caller}: its numbers are written down, so it cannot be called under jit, vmap or grad.")
    if batch.x.ndim != 2 or not len(batch.x):
        raise ValueError(
            f"{caller}: expected x of shape (m, features) with at least one example, got {batch.x.shape}. "
            "Where there are positions, look at them as examples: x.reshape(-1, features), and y alike."
        )
    leaves = leaves_of(net, batch.params)
    layers: list[Any] = [None]
    functions = [""]
    a, tapes = [batch.x], []
    z: list[Any] = [None]
    slope: list[Any] = [None]
    for leaf, own in leaves:
        out, tape = leaf.forward(own, a[-1])
        if isinstance(leaf, Dense):
            layers, functions = [*layers, leaf], [*functions, ""]
            z, a, slope = [*z, out], [*a, out], [*slope, jnp.ones_like(out)]
        else:
            steep, _ = leaf.backward(own, tape, jnp.ones_like(out))
            functions[-1] = f"{leaf} of {functions[-1]}" if functions[-1] else repr(leaf)
            a[-1] = out
            slope[-1] = None if slope[-1] is None else slope[-1] * steep
        tapes.append(tape)
    cost_slope = delta = loss.delta(a[-1], batch.y)
    deltas: list[Any] = []
    for (leaf, own), tape in zip(reversed(leaves), reversed(tapes)):
        below, _ = leaf.backward(own, tape, delta)
        deltas = [delta, *deltas] if isinstance(leaf, Dense) else deltas
        delta = below
    costs = loss.value(a[-1], batch.y)
    shares = jnp.broadcast_to(jnp.asarray(shares_of(costs, batch.weights, reduction)), costs.shape)
    J, grads = value_and_grad(net, loss, params, x, y, weights=weights, reduction=reduction)
    dense_params = [own for leaf, own in leaves if isinstance(leaf, Dense)]
    dense_grads = [own for leaf, own in leaves_of(net, grads) if isinstance(leaf, Dense)]
    return Propagation(
        layers=layers,
        functions=functions,
        direct=not functions[0],
        w=[None, *(_wide(own["w"]) for own in dense_params)],
        b=[None, *(_wide(own.get("b")) for own in dense_params)],
        z=[_wide(value) for value in z],
        a=[_wide(value) for value in a],
        slope=[_wide(value) for value in slope],
        cost_slope=_wide(cost_slope),
        delta=[None, *map(_wide, deltas)],
        costs=_wide(costs),
        shares=_wide(shares),
        J=float(J),
        gradient=grads,
        w_gradient=[None, *(_wide(own["w"]) for own in dense_grads)],
        b_gradient=[None, *(_wide(own.get("b")) for own in dense_grads)],
        y=np.asarray(batch.y),
    )


def _wide(value: Any) -> Any:
    return None if value is None else np.asarray(value).astype(np.float64)


def _check_covered(caller: str, leaf: Any) -> None:
    if isinstance(leaf, Dense) or getattr(leaf, "elementwise", False):
        return
    own = "" if type(leaf).__module__.startswith("funcnet.") else OWN
    softmax = " Before a cost leave it out and use CrossEntropy()." if "Softmax" in type(leaf).__name__ else ""
    raise ValueError(
        f"{caller}: {leaf} is not covered: paths are followed through chains of Dense layers and elementwise "
        f"activations.{softmax} For every number of any network use fn.backprop, to check them fn.check_gradients.{own}"
    )
