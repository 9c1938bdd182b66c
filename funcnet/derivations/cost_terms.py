"""The lines of a worksheet that a loss has a part in: the cost of an example, and its derivative by an output."""

from collections.abc import Iterator, Sequence

import numpy as np

from funcnet._core.protocols import Loss
from funcnet.derivations import formulas
from funcnet.derivations.chain_numbers import Propagation
from funcnet.derivations.notation import NOTHING, Equation, Pen, Pens, Written


def costs(run: Propagation, write: Pens, loss: Loss, i: int) -> Iterator[Equation]:
    """The outputs' probabilities where the cost is written with them, and the cost."""
    units = range(run.sizes[-1])
    formula, targets = formulas.formula_of(loss), run.targets
    name = write(lambda pen: pen.cost(None if run.one else i))
    value = float(run.costs[i])
    if formula is None or targets is None:
        yield _applied_cost(run, write, loss, name, i)
        return
    if run.chances is not None:
        yield from (_probability(run, write, formulas.defined(formula[0], "p"), unit, i) for unit in units)
    of_class = getattr(loss, "class_formula", None) if run.of_classes else None
    if of_class is not None:
        units = range(int(run.y[i]), int(run.y[i]) + 1)
    expression = of_class or formula[0]

    def symbols(pen: Pen) -> str:
        terms = [formulas.written(pen, expression, _output_symbols(run, pen, unit)) for unit in units]
        return formulas.summed(terms) + formulas.definition(pen, formula[0])

    def numbers(pen: Pen) -> str:
        return formulas.summed([formulas.written(pen, expression, _output_numbers(run, i, unit)) for unit in units])

    yield Equation(name, write(symbols), write(numbers), value)


def _applied_cost(run: Propagation, write: Pens, loss: Loss, name: Written, i: int) -> Equation:
    """The cost of a loss that says no formula."""
    a, y = run.a[-1][i], np.reshape(run.y[i], -1).astype(np.float64)

    def symbols(pen: Pen) -> str:
        outputs = ", ".join(pen.at("a", run.depth, unit) for unit in range(len(a)))
        targets = [pen.target(run.depth, unit) if run.y.ndim > 1 else pen.symbol("y") for unit in range(len(y))]
        return pen.applied(repr(loss), f"{outputs}; {', '.join(targets)}")

    def numbers(pen: Pen) -> str:
        return pen.applied(repr(loss), f"{', '.join(map(pen.number, a))}; {', '.join(map(pen.number, y))}")

    return Equation(name, write(symbols), write(numbers), float(run.costs[i]))


def cost_slope(run: Propagation, write: Pens, loss: Loss, unit: int, i: int) -> Equation:
    """∂J/∂a of an output."""
    name = write(lambda pen: pen.partial(pen.cost(None if run.one else i), pen.at("a", run.depth, unit)))
    formula, value = formulas.formula_of(loss), float(run.cost_slope[i, unit])
    if formula is None or run.targets is None:
        return Equation(name, NOTHING, NOTHING, value)
    expression = formula[1]
    symbols = write(lambda pen: formulas.written(pen, expression, _output_symbols(run, pen, unit)))
    numbers = write(lambda pen: formulas.written(pen, expression, _output_numbers(run, i, unit)))
    return Equation(name, symbols, numbers, value)


def _probability(run: Propagation, write: Pens, defined: str, unit: int, i: int) -> Equation:
    """p of an output, by what the loss defines it as."""
    assert run.chances is not None
    units = range(run.sizes[-1])

    def of(pen: Pen, values: Sequence[str | float]) -> str:
        if defined == "softmax(a)":
            return formulas.softmax(pen, values[unit], values)
        return formulas.written(pen, defined, {"a": values[unit]})

    symbols = write(lambda pen: of(pen, [pen.at("a", run.depth, k) for k in units]))
    numbers = write(lambda pen: of(pen, [float(run.a[-1][i, k]) for k in units]))
    return Equation(write(lambda pen: _chance(run, pen, unit)), symbols, numbers, float(run.chances[i, unit]))


def _chance(run: Propagation, pen: Pen, unit: int) -> str:
    return pen.symbol("p", None, [pen.unit(run.depth, unit)], pen.names[run.depth] is not None)


def _output_symbols(run: Propagation, pen: Pen, unit: int) -> dict[str, str]:
    """What a loss's formula speaks of."""
    symbols = {"a": pen.at("a", run.depth, unit), "y": pen.target(run.depth, unit), "C": str(run.sizes[-1])}
    return symbols if run.chances is None else symbols | {"p": _chance(run, pen, unit)}


def _output_numbers(run: Propagation, i: int, unit: int) -> dict[str, str | float]:
    assert run.targets is not None
    numbers: dict[str, str | float] = {"a": float(run.a[-1][i, unit]), "y": float(run.targets[i, unit])}
    numbers["C"] = str(run.sizes[-1])
    return numbers if run.chances is None else numbers | {"p": float(run.chances[i, unit])}
