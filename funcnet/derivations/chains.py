"""Chains that paths are followed through: their layers, which of them are weighted sums, and the refusal of others."""

from collections.abc import Iterator
from typing import Any, NoReturn

import jax

from funcnet._core import arguments, walkers
from funcnet._core.protocols import AnyLayer, Params, Tree
from funcnet.derivations.addresses import Weights, weights_in
from funcnet.layers.combinators import Chain

HINT = (
    " (A layer of your own without parameters, each of whose outputs depends on one input, says so by the class "
    'attribute elementwise = True. One of weighted sums has the parameters "w", (n_in, n_out), and perhaps "b", and '
    "an as_dense.)"
)


def links(layer: AnyLayer, *trees: Tree) -> Iterator[tuple[Any, ...]]:
    """The layers of nested chains in order, each with its part of every tree that is shaped like the parameters.

    Another combinator is one of these layers: only a chain is passed straight through.
    """
    if not isinstance(layer, Chain):
        yield layer, *trees
        return
    for _, child, take in walkers.parts(layer):
        yield from links(child, *map(take, trees))


def weighted_sums(caller: str, net: AnyLayer) -> list[Weights]:
    """The layers of weighted sums of a chain that paths can be followed through."""
    arguments.check_layer_functions(net)
    chain = links(net, arguments.params_struct(net))
    layers = [weights_in(layer, shapes) for layer, shapes in chain if is_weighted_sum(caller, layer, shapes)]
    if not layers:
        raise ValueError(f"{caller}: {net} has no Dense layer, so there is no weight to derive by.")
    return layers


def is_weighted_sum(caller: str, layer: AnyLayer, params: Params) -> bool:
    """Whether a layer gives weighted sums of its inputs, plus biases; if not, it is an activation, or refused.

    A layer of weighted sums has a matrix "w", perhaps biases "b", nothing else, and says by `as_dense` that its
    gradient is a product of inputs and error signals. Whether these are x and δ shows when there are numbers.
    """
    if not hasattr(layer, "contract"):
        if weights_in(layer, params).n_out and set(params) <= {"w", "b"} and getattr(layer, "as_dense", None):
            return True
        if getattr(layer, "elementwise", False) and not jax.tree.leaves(params):
            return False
    refuse(caller, layer)


def refuse(caller: str, layer: AnyLayer) -> NoReturn:
    """A layer that paths are not followed through, with what to use."""
    hint = "" if type(layer).__module__.startswith("funcnet.") else HINT
    softmax = " Before a cost leave it out and use CrossEntropy()." if "Softmax" in type(layer).__name__ else ""
    raise ValueError(
        f"{caller}: {layer} is not covered: paths are followed through chains of Dense layers and elementwise "
        f"activations.{softmax} For every number of any network use fn.backprop, to check them "
        f"fn.check_gradients.{hint}"
    )
