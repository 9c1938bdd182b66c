"""Paths from a unit to the cost: how many there are, and which are the largest."""

import math
from itertools import product
from typing import NamedTuple

import numpy as np

from funcnet.explain.propagation import Propagation, dense_layers
from funcnet.protocols import AnyLayer

Route = tuple[int, ...]
"""The units that a path goes through, from the weight's own layer to the output."""


class FactorCounts(NamedTuple):
    """How many partial derivatives the gradient of all weights is made of.

    Attributes:
        unshared: written out along every path of every weight.
        distinct: each named once and shared, as the error terms share them.
    """

    unshared: int
    distinct: int


def factor_counts(net: AnyLayer) -> FactorCounts:
    """How many factors the derivatives by all weights have, written out and shared.

    Written out, a weight of layer l of L has n_{l+1} ⋯ n_L paths of 2 (L - l) + 3 factors. Named once,
    there are two factors for every output (∂J/∂a, ∂a/∂z), one for every unit below it, one for every
    weight (∂z/∂θ), and one more (∂z/∂a) for every weight above the first layer. What lies between the
    two numbers is what backpropagation saves. Biases are left out; a layer without activation has
    ∂a/∂z = 1 as a factor like the others.

    Args:
        net: a chain of `Dense` layers and elementwise activations.

    Returns:
        `FactorCounts(unshared, distinct)`, for one example.

    Raises:
        ValueError: a layer that paths are not followed through, or no `Dense`.

    Example:
        >>> import funcnet as fn
        >>> fn.factor_counts(fn.mlp((1, 1, 1), fn.Sigmoid(), fn.Sigmoid()))
        FactorCounts(unshared=8, distinct=6)
        >>> fn.factor_counts(fn.mlp((784, 100, 100, 10), fn.ReLU()))
        FactorCounts(unshared=549303000, distinct=100620)
    """
    layers = dense_layers("factor_counts", net)
    sizes = [layer.n_out for layer in layers]
    weights = [layer.n_in * layer.n_out for layer in layers]
    unshared = sum(
        weights[below] * math.prod(sizes[below + 1 :]) * factors_of_a_path(below + 1, len(layers))
        for below in range(len(layers))
    )
    return FactorCounts(unshared, sizes[-1] + sum(sizes) + sum(weights) + sum(weights[1:]))


def factors_of_a_path(layer: int, depth: int) -> int:
    """∂J/∂a, one ∂a/∂z a layer with one ∂z/∂a between each two, and ∂z/∂θ."""
    return 2 * (depth - layer) + 3


def number_of_routes(sizes: list[int], layer: int) -> int:
    """How many ways lead from a unit of this layer to the cost."""
    return math.prod(sizes[layer + 1 :])


def largest_routes(run: Propagation, example: int, layer: int, unit: int, count: int) -> list[Route]:
    """The routes with the largest products, largest first; all, in order of their units, if there are no more.

    From the output down, every unit keeps the `count` largest products of what lies above it. That
    loses none: all routes through a unit are multiplied with the same factors further down. So the
    work grows with the weights, not with the routes. NaN counts as infinitely large.
    """
    sizes = run.sizes
    if number_of_routes(sizes, layer) <= count:
        return [(unit, *above) for above in product(*map(range, sizes[layer + 1 :]))]
    size = _size(run.cost_slope[example] * run.slope[-1][example])[:, None]
    routes = np.arange(sizes[-1])[:, None, None]  # (units, kept, layers above)
    for below in range(run.depth - 1, layer - 1, -1):
        rows = np.arange(sizes[below]) if below > layer else np.array([unit])
        w = np.abs(run.w[below + 1][rows])
        # A next unit whose largest product is not among the `count` largest has none that is.
        first = _largest(_size(w * size[:, 0]), count)
        candidates = _size(np.take_along_axis(w, first, 1)[:, :, None] * size[first])
        kept = _largest(candidates.reshape(len(rows), -1), count)
        through, rank = np.take_along_axis(first, kept // size.shape[1], 1), kept % size.shape[1]
        here = np.broadcast_to(rows[:, None, None], (*kept.shape, 1))
        routes = np.concatenate([here, routes[through, rank]], 2)
        steep = run.slope[below][example][rows][:, None]
        size = _size(np.take_along_axis(candidates.reshape(len(rows), -1), kept, 1) * steep)
    return [tuple(map(int, route)) for route in routes[0]]


def _size(values: np.ndarray) -> np.ndarray:
    return np.nan_to_num(np.abs(values), nan=np.inf, posinf=np.inf)


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Where the largest of each row stand, largest first, ties in order."""
    return np.argsort(-values, axis=1, kind="stable")[:, :count]
