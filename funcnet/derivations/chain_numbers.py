"""Every number of one forward and one backward propagation of a chain, ready to be written down."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core import arguments, walkers
from funcnet._core.protocols import AnyLayer, ArrayLike, Layer, Loss, Params, Tree
from funcnet._core.weighting import (
    Reduction,
    averaged,
    check_reduction,
    for_reduction,
    reduced,
    shares_of,
    weighted,
    weights_of,
)  # fmt: skip
from funcnet.derivations.addresses import weights_in
from funcnet.derivations.chains import is_weighted_sum, links, refuse, weighted_sums
from funcnet.derivations.formulas import Formula, formula_of
from funcnet.derivations.notation import type_of


@dataclasses.dataclass(frozen=True, eq=False)
class Propagation:
    """A chain of L layers of weighted sums, each with its elementwise activations taken together as f.

    Arrays are of float64 with examples first; lists are indexed by layer, where z[0], say, is None, for
    the input has none.

    Attributes:
        layers: for every layer its weights.
        functions: for every layer its activation as code: "Sigmoid()", or "" where a = z.
        formulas: for every layer what its activation says of itself; None where there is none, or several.
        direct: whether the input comes to the first layer as it is, so that a[0] is x.
        w, b: parameters; b[l] is None for a layer without biases.
        z, a, slope: weighted sums, activations, and ∂a/∂z.
        cost_slope: ∂J_i/∂a at the output.
        delta: ∂J_i/∂z.
        costs, shares: each example's cost J_i, and ∂J/∂J_i.
        J: the cost.
        gradient: ∂J/∂params, a tree like params.
        w_gradient, b_gradient: ∂J/∂w and ∂J/∂b of it, layer by layer.
        y: the targets.
        dtype: the type in which all this was computed.
        chances: (m, outputs), the probabilities as the loss reads them from the output; None if it does not.
    """

    layers: list[Any]
    functions: list[str]
    formulas: list[Formula | None]
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
    dtype: str
    chances: np.ndarray | None

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

    @property
    def of_classes(self) -> bool:
        """Whether a target is the number of a class."""
        return self.y.ndim == 1 and np.issubdtype(self.y.dtype, np.integer)

    @property
    def targets(self) -> np.ndarray | None:
        """(m, outputs), what every output should be, a class as 1 among zeros; None if targets are of another kind."""
        if self.y.shape == self.a[-1].shape:
            return self.y.astype(np.float64)
        if self.of_classes and self.chances is not None:
            return (self.y[:, None] == np.arange(self.sizes[-1])).astype(np.float64)
        return None


class _Link(NamedTuple):
    """A layer, its parameters, whether it gives weighted sums, and what it kept of the forward pass."""

    layer: Layer
    params: Params
    sums: bool
    x: jax.Array
    tape: Tree


def propagate(
    caller: str,
    net: AnyLayer,
    loss: Loss,
    params: Params,
    x: ArrayLike,
    y: ArrayLike,
    weights: ArrayLike | None = None,
    reduction: Reduction = "mean",
) -> Propagation:
    """Forward and backward through a chain, layer by layer, keeping all of it."""
    weighted_sums(caller, net)
    check_reduction(reduction)
    batch = arguments.checked_batch(net, loss, params, x, y, weights)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(batch)):
        raise TypeError(f"{caller}: its numbers are written down, so it cannot be called under jit, vmap or grad.")
    if batch.x.ndim != 2 or not len(batch.x):
        raise ValueError(
            f"{caller}: expected x of shape (m, features) with at least one example, got {batch.x.shape}. "
            "Where there are positions, look at them as examples: x.reshape(-1, features), and y alike."
        )
    chain: list[_Link] = []
    layers: list[Any] = [None]
    functions = [""]
    formulas: list[Formula | None] = [None]
    a = [batch.x]
    z: list[Any] = [None]
    slope: list[Any] = [None]
    for layer, part in links(net, batch.params):
        sums = is_weighted_sum(caller, layer, part)
        out, tape = walkers.layer_forward(layer, part, a[-1])
        chain.append(_Link(layer, part, sums, a[-1], tape))
        if sums:
            layers, functions, formulas = [*layers, weights_in(layer, part)], [*functions, ""], [*formulas, None]
            z, a, slope = [*z, out], [*a, out], [*slope, jnp.ones_like(out)]
        else:
            steep, _ = layer.backward(part, tape, jnp.ones_like(out))
            formulas[-1] = None if functions[-1] else formula_of(layer)
            functions[-1] = f"{layer} of {functions[-1]}" if functions[-1] else repr(layer)
            a[-1] = out
            slope[-1] = None if slope[-1] is None else slope[-1] * steep
    costs, cost_slope = loss.value(a[-1], batch.y), loss.delta(a[-1], batch.y)
    weights = for_reduction(batch.weights, reduction)
    example_weights = weights_of(costs, weights)
    delta = cost_slope
    deltas: list[jax.Array] = []
    grads: list[Tree] = []
    for link in reversed(chain):
        below, kept = link.layer.backward(link.params, link.tape, delta)
        if link.sums:
            _check_products(caller, link, kept, delta)
            counted = jax.tree.map(lambda d: weighted(d, example_weights), kept)
            deltas, grads = [delta, *deltas], [link.layer.gradient(link.tape, counted), *grads]
        delta = below
    weights_of_layers = [link.params for link in chain if link.sums]
    arguments.check_like_params(net, grads, weights_of_layers)
    grads = averaged(grads, costs, weights, reduction)
    grads = jax.tree.map(lambda g, leaf: g.astype(leaf.dtype), grads, weights_of_layers)
    return Propagation(
        layers=layers,
        functions=functions,
        formulas=formulas,
        direct=not functions[0],
        w=[None, *(_as_float64(part["w"]) for part in weights_of_layers)],
        b=[None, *(_as_float64(part.get("b")) for part in weights_of_layers)],
        z=[_as_float64(value) for value in z],
        a=[_as_float64(value) for value in a],
        slope=[_as_float64(value) for value in slope],
        cost_slope=_as_float64(cost_slope),
        delta=[None, *map(_as_float64, deltas)],
        costs=_as_float64(costs),
        shares=_as_float64(jnp.broadcast_to(jnp.asarray(shares_of(costs, batch.weights, reduction)), costs.shape)),
        J=float(reduced(costs, batch.weights, reduction)),
        gradient=jax.tree.unflatten(jax.tree.structure(batch.params), jax.tree.leaves(grads)),
        w_gradient=[None, *(_as_float64(part["w"]) for part in grads)],
        b_gradient=[None, *(_as_float64(part.get("b")) for part in grads)],
        y=np.asarray(batch.y),
        dtype=type_of(batch.params, batch.x),
        chances=_as_float64(loss.probabilities(a[-1])) if hasattr(loss, "probabilities") else None,
    )


def _check_products(caller: str, link: _Link, kept: Tree, delta: jax.Array) -> None:
    """Refuse a layer whose weights' derivatives are not what came in times δ, as the paths take them."""
    product = link.layer.as_dense(link.tape, kept)  # type: ignore[attr-defined]
    if product is None:
        refuse(caller, link.layer)
    inputs, signals, *constant = product
    same = all(
        np.array_equal(part[:, 0], whole, equal_nan=True) for part, whole in ((inputs, link.x), (signals, delta))
    )
    if not same or any(constant) != ("b" in link.params):
        refuse(caller, link.layer)


def _as_float64(value: Any) -> Any:
    return None if value is None else np.asarray(value).astype(np.float64)
