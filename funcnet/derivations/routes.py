"""Paths from a unit to the cost: how many there are, and which are the largest."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from funcnet._core.protocols import AnyLayer
from funcnet.derivations.chain_numbers import Propagation
from funcnet.derivations.chains import weighted_sums

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
    layers = weighted_sums("factor_counts", net)
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


class Routes(NamedTuple):
    """The largest routes from some units of a layer to the cost.

    Attributes:
        units: (n, K, layers above), the units that each goes through, from the next layer to the output.
        products: (n, K), ∂J_i/∂a · ∂a/∂z · w · … · ∂a/∂z along each.
    """

    units: np.ndarray
    products: np.ndarray


def largest_routes(run: Propagation, example: int, through: Sequence[Sequence[int]], count: int) -> Iterator[Routes]:
    """For layer after layer, from the output down, each unit's `count` routes with the largest products.

    They come largest first; all in order of their units if there are no more. NaN counts as infinitely large. From
    the output down every unit keeps the largest products of what lies above it, which loses none: all routes through
    a unit are multiplied with the same factors further down. So the work grows with the weights, not with the routes.

    Args:
        run: the pass.
        example: which of its examples.
        through: the units that routes may go through, of the output layer and as many below it as are wanted, the
            output's last.
        count: how many are kept.

    Yields:
        One `Routes` for each layer in `through`, the output's first.
    """
    above = np.asarray(through[-1])
    products = (run.cost_slope[example] * run.slope[-1][example])[above][:, None]
    routes = Routes(np.empty((len(above), 1, 0), int), products)
    yield routes
    for place in range(2, len(through) + 1):
        layer, units = run.depth + 1 - place, np.asarray(through[-place])
        w = run.w[layer + 1][np.ix_(units, above)]
        # A next unit whose largest product is not among the `count` largest has none that is.
        best = _size(w) * _size(routes.products).max(1)
        first = np.sort(_largest(best, count), 1)
        candidates = (np.take_along_axis(w, first, 1)[:, :, None] * routes.products[first]).reshape(len(units), -1)
        kept = np.broadcast_to(np.arange(candidates.shape[1]), candidates.shape)
        if candidates.shape[1] > count:
            kept = _largest(candidates, count)
        step, rank = np.divmod(kept, routes.products.shape[1])
        step = np.take_along_axis(first, step, 1)
        routes = Routes(
            np.concatenate([above[step][..., None], routes.units[step, rank]], 2),
            np.take_along_axis(candidates, kept, 1) * run.slope[layer][example][units][:, None],
        )
        above = units
        yield routes


def largest_of(products: Sequence[float], count: int) -> list[int]:
    """Where the largest stand, largest first, ties in order."""
    return [int(place) for place in _largest(np.asarray(products)[None], count)[0]]


def _size(values: np.ndarray) -> np.ndarray:
    return np.nan_to_num(np.abs(values), nan=np.inf, posinf=np.inf)


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Where the largest of each row stand, largest first, ties in order."""
    return np.argsort(-_size(values), axis=1, kind="stable")[:, :count]
