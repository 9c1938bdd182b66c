"""The largest paths from the cost back to every drawn unit, and what all the others sum to."""

from typing import NamedTuple

import numpy as np

from funcnet.explain.propagation import Propagation

Ways = dict[int, list[tuple[float, tuple[int, ...]]]]
"""For every drawn unit its paths: the product so far, and the units above that it goes through."""


class UnitPaths(NamedTuple):
    """Of one layer and example.

    Attributes:
        units: (drawn, K, layers above): the units that a path goes through, from the next layer to the output.
        products: (drawn, K): ∂J_i/∂a · ∂a/∂z · w · … · ∂a/∂z along each: all in order
            of their units, or the largest, largest first.
        rest: (drawn,): what all other paths sum to.
    """

    units: np.ndarray
    products: np.ndarray
    rest: np.ndarray


def largest_paths(now: Propagation, example: int, shown: list[list[int]], largest: int) -> list[UnitPaths]:
    """For every layer, each drawn unit's `largest` paths by size among those through drawn units.

    The largest paths to a unit go through the largest to the units above it, since a path's size is a
    product: so one sweep from the output down finds them, and the rest, without listing every path.

    Args:
        now: the pass.
        example: which of its examples.
        shown: for every layer, the input first, the units that are drawn.
        largest: how many paths are kept.

    Returns:
        One `UnitPaths` for each layer with parameters.
    """
    found = []
    with np.errstate(all="ignore"):
        slope = now.slope[now.depth][example]
        ways: Ways = {j: [(now.cost_slope[example][j] * slope[j], ())] for j in shown[-1]}
        rest = np.zeros(len(slope))
        found.append(_written(ways, rest, shown[-1]))
        for layer in range(now.depth - 1, 0, -1):
            w, slope, above = now.w[layer + 1], now.slope[layer][example], shown[layer + 1]
            drawn = np.isin(np.arange(len(rest)), above)
            # What reaches a unit that is not drawn belongs to the rest as a whole.
            rest = (w @ np.where(drawn, rest, now.delta[layer + 1][example])) * slope
            below: Ways = {}
            for j in shown[layer]:
                every = [(value * w[j, k] * slope[j], (k, *way)) for k in above for value, way in ways[k]]
                if len(every) > largest:
                    every.sort(key=lambda pair: -np.nan_to_num(abs(pair[0]), nan=np.inf))
                below[j] = every[:largest]
                rest[j] += sum(value for value, _ in every[largest:])
            ways = below
            found.append(_written(ways, rest, shown[layer]))
    return found[::-1]


def _written(ways: Ways, rest: np.ndarray, drawn: list[int]) -> UnitPaths:
    units = np.array([[way for _, way in ways[j]] for j in drawn], int)
    return UnitPaths(units, np.array([[value for value, _ in ways[j]] for j in drawn]), rest[drawn])
