"""A derivative regrouped: the error terms from the output down, then δ times what came in."""

from collections.abc import Callable, Iterator

import numpy as np

from funcnet.derivations.addresses import Where
from funcnet.derivations.chain_numbers import Propagation
from funcnet.derivations.notation import Equation, Pen, Pens
from funcnet.derivations.terms import Part

SHOWN = 6  # terms of a sum, and error terms of a layer, that are written out


def came_in(run: Propagation, where: Where, i: int) -> float:
    """∂z/∂θ: what comes in through the weight."""
    layer, source, _ = where
    return 1.0 if source is None else float(run.a[layer - 1][i, source])


def part_of(run: Propagation, where: Where, i: int) -> Part:
    share, delta, came = float(run.shares[i]), float(run.delta[where[0]][i, where[2]]), came_in(run, where, i)
    return Part(i, share, delta, came, share * delta * came)


def headings(run: Propagation, where: Where) -> list[Callable[[Pen], str]]:
    layer, source, to = where
    return [
        lambda pen: pen.share(),
        lambda pen: pen.at("δ", layer, to),
        lambda pen: "1" if source is None else pen.activation(layer - 1, source, run.direct),
    ]


def steps(run: Propagation, write: Pens, where: Where) -> Iterator[Equation]:
    """δ of the output layer, then of each layer down to the weight's, then the derivative, for the only example."""
    layer, _, to = where
    for here in range(run.depth, layer - 1, -1):
        delta = run.delta[here][0]
        largest = np.argsort(-np.nan_to_num(np.abs(delta), nan=np.inf), kind="stable")[:SHOWN]
        units = [to] if here == layer else sorted(map(int, largest))
        left_out = 0 if here == layer else len(delta) - len(units)
        for unit in units:
            note = f"and {left_out} smaller ones in layer {here}" if left_out and unit == units[-1] else ""
            yield error_term(run, write, here, unit, note=note)
    part = part_of(run, where, 0)
    yield Equation(
        write(lambda pen: pen.partial(pen.cost(None), pen.parameter(*where))),
        write(lambda pen: pen.dot(pen.at("δ", layer, to), headings(run, where)[2](pen))),
        write(lambda pen: pen.times(part.delta, part.input)),
        part.value,
    )


def error_term(
    run: Propagation, write: Pens, layer: int, unit: int, i: int = 0, most: int = SHOWN, note: str = ""
) -> Equation:
    """δ of a unit: from the cost at the output, elsewhere from the (at `most` so many) error terms above."""
    name = write(lambda pen: pen.at("δ", layer, unit))
    steep, value = float(run.slope[layer][i, unit]), float(run.delta[layer][i, unit])
    of_cost = None if run.one else i

    def slope(pen: Pen) -> str:
        return pen.partial(pen.at("a", layer, unit), pen.at("z", layer, unit))

    if layer == run.depth:
        cost = float(run.cost_slope[i, unit])
        formula = write(lambda pen: pen.dot(pen.partial(pen.cost(of_cost), pen.at("a", layer, unit)), slope(pen)))
        return Equation(name, formula, write(lambda pen: pen.times(cost, steep)), value, note)
    deltas, w = run.delta[layer + 1][i], run.w[layer + 1][unit]
    if len(w) <= most:
        terms = range(len(w))
        formula = write(
            lambda pen: pen.dot(
                pen.plus([pen.dot(pen.at("δ", layer + 1, k), pen.parameter(layer + 1, unit, k)) for k in terms]),
                slope(pen),
            )
        )
        pairs = [(float(deltas[k]), float(w[k])) for k in terms]
        numbers = write(lambda pen: pen.product([pen.plus(pen.sum_of_products(pairs)), pen.operand(steep)]))
        return Equation(name, formula, numbers, value, note)
    with np.errstate(all="ignore"):
        along = float(deltas @ w)
    formula = write(lambda pen: pen.dot(pen.sum_over(layer + 1, unit), slope(pen)))
    return Equation(name, formula, write(lambda pen: pen.times(along, steep)), value, note)
