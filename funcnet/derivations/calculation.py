"""The sections of a worksheet: each says what is computed, and by which numbers."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from funcnet._core.protocols import Loss
from funcnet.derivations import formulas
from funcnet.derivations.addresses import Where
from funcnet.derivations.chain_numbers import Propagation
from funcnet.derivations.cost_terms import cost_slope, costs
from funcnet.derivations.error_terms import error_term
from funcnet.derivations.notation import NOTHING, Equation, Pen, Pens, Written

ALL = 10**9  # no sum is shortened on a worksheet


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading, what is computed under it, and perhaps a sentence before that."""

    title: str
    equations: tuple[Equation, ...]
    note: Written = NOTHING


def forward(run: Propagation, write: Pens, loss: Loss) -> Iterator[Section]:
    """What is given, then z and a of every layer and the cost, for every example."""
    yield Section("The parameters", tuple(_parameters(run, write)), write(lambda pen: _index_rule(run, pen)))
    for i in range(len(run.costs)):
        yield Section(f"Inputs and targets{_of(run, i)}", tuple(_given(run, write, i)))
        for layer in range(1, run.depth + 1):
            yield Section(f"Forward propagation, layer {layer}{_of(run, i)}", tuple(_layer(run, write, layer, i)))
        yield Section(f"The cost{_of(run, i)}", tuple(costs(run, write, loss, i)))
    if not run.one:
        formula = write(lambda pen: pen.over_examples(pen.dot(pen.share(), pen.symbol("J", None, ["i"]))))
        pairs = [(float(share), float(cost)) for share, cost in zip(run.shares, run.costs)]
        numbers = write(lambda pen: " + ".join(pen.sum_of_products(pairs)))
        whole = Equation(write(lambda pen: pen.cost(None)), formula, numbers, run.J)
        yield Section("The cost of all examples", (whole,))


def backward(run: Propagation, write: Pens, loss: Loss) -> Iterator[Section]:
    """Layer by layer from the last: the error terms of every example, then the gradient."""
    for layer in range(run.depth, 0, -1):
        for i in range(len(run.costs)):
            yield Section(f"Error terms, layer {layer}{_of(run, i)}", tuple(_errors(run, write, loss, layer, i)))
        yield Section(
            f"Gradient, layer {layer}", tuple(_derivative(run, write, where) for where in _places(run, layer))
        )


def update(
    run: Propagation, write: Pens, learning_rate: float, updated: list[Any], rates: list[Any], after: float
) -> Iterator[Section]:
    """θ - η ∂J/∂θ for every parameter that is trained, and the cost that comes of it."""
    lines = [Equation(write(lambda pen: pen.symbol("η")), NOTHING, NOTHING, learning_rate, given=True)]
    for layer in range(1, run.depth + 1):
        for where in _places(run, layer):
            name = "b" if where[1] is None else "w"
            if rates[layer - 1][name]:
                new = float(np.asarray(updated[layer - 1][name])[_index(where)])
                lines.append(_updated(run, write, learning_rate, where, new))
    yield Section("Update, all parameters at once", tuple(lines))
    whole = write(lambda pen: pen.becomes(pen.cost(None)))
    yield Section("The cost after the update", (Equation(whole, NOTHING, NOTHING, after),))


def _of(run: Propagation, i: int) -> str:
    return "" if len(run.costs) == 1 else f", example {i}"


def _places(run: Propagation, layer: int) -> Iterator[Where]:
    """Every parameter of a layer as (layer, from, to): those into its first unit, then the next."""
    for to in range(run.sizes[layer]):
        yield from ((layer, source, to) for source in range(run.sizes[layer - 1]))
        if run.b[layer] is not None:
            yield layer, None, to


def _index(where: Where) -> tuple[int, ...]:
    return where[2:] if where[1] is None else where[1:]  # type: ignore[return-value]


def _value(where: Where, w: list[Any], b: list[Any]) -> float:
    """A parameter's entry, or its derivative's."""
    return float((b if where[1] is None else w)[where[0]][_index(where)])


def _index_rule(run: Propagation, pen: Pen) -> str:
    """Which weight is which, in a sentence."""
    layer, to, source = (pen.inline(pen.symbol(letter)) for letter in "lji")
    weight, bias = pen.symbol(pen.letter, "l", ["j", "i"]), pen.symbol("b", "l", ["j"])
    biases = f"; {pen.inline(bias)} is the bias of unit {to}" if any(b is not None for b in run.b) else ""
    named = " Names stand in the place of numbers where units have them." if any(pen.names) else ""
    return (
        f"{pen.inline(weight)} is the weight to unit {to} of layer {layer} from unit {source} of the layer before (for "
        f"{pen.inline(pen.symbol('l') + ' = 1')} from input {source}), which params hold as "
        f"{pen.inline('w[i - 1, j - 1]')} of w[from, to]{biases}.{named}"
    )


def _parameters(run: Propagation, write: Pens) -> Iterator[Equation]:
    for layer in range(1, run.depth + 1):
        for where in _places(run, layer):
            name = write(lambda pen, where=where: pen.parameter(*where))  # type: ignore[misc]
            yield Equation(name, NOTHING, NOTHING, _value(where, run.w, run.b), given=True)


def _given(run: Propagation, write: Pens, i: int) -> Iterator[Equation]:
    for unit, value in enumerate(run.a[0][i]):
        name = write(lambda pen, unit=unit: pen.activation(0, unit, run.direct))  # type: ignore[misc]
        yield Equation(name, NOTHING, NOTHING, float(value), given=True)
    if run.y.ndim == 1:
        yield Equation(write(lambda pen: pen.symbol("y")), NOTHING, NOTHING, float(run.y[i]), given=True)
    for unit, value in enumerate([] if run.targets is None else run.targets[i]):
        name = write(lambda pen, unit=unit: pen.target(run.depth, unit))  # type: ignore[misc]
        yield Equation(name, NOTHING, NOTHING, float(value), given=True)
    if not run.one:
        share = write(lambda pen: pen.partial(pen.cost(None), pen.cost(i)))
        yield Equation(share, NOTHING, NOTHING, float(run.shares[i]), given=True)


def _layer(run: Propagation, write: Pens, layer: int, i: int) -> Iterator[Equation]:
    for to in range(run.sizes[layer]):
        yield _weighted_sum(run, write, layer, to, i)
        yield _activation(run, write, layer, to, i)


def _weighted_sum(run: Propagation, write: Pens, layer: int, to: int, i: int) -> Equation:
    w, came_in = run.w[layer][:, to], run.a[layer - 1][i]
    biases = [] if run.b[layer] is None else [float(run.b[layer][to])]

    def symbols(pen: Pen) -> str:
        inputs = (
            pen.dot(pen.parameter(layer, source, to), pen.activation(layer - 1, source, run.direct))
            for source in range(len(w))
        )
        return " + ".join([*inputs, *(pen.parameter(layer, None, to) for _ in biases)])

    def numbers(pen: Pen) -> str:
        return " + ".join([*pen.sum_of_products(list(zip(w, came_in))), *map(pen.operand, biases)])

    name = write(lambda pen: pen.at("z", layer, to))
    return Equation(name, write(symbols), write(numbers), float(run.z[layer][i, to]))


def _activation(run: Propagation, write: Pens, layer: int, to: int, i: int) -> Equation:
    function, formula, z = run.functions[layer], run.formulas[layer], float(run.z[layer][i, to])

    def symbols(pen: Pen) -> str:
        name = pen.applied(function, pen.at("z", layer, to))
        return f"{name} = {formulas.written(pen, formula[0], _symbols(pen, layer, to))}" if formula else name

    def numbers(pen: Pen) -> str:
        return formulas.written(pen, formula[0], {"z": z}) if formula else pen.applied(function, pen.number(z))

    name = write(lambda pen: pen.at("a", layer, to))
    return Equation(name, write(symbols), write(numbers) if function else NOTHING, float(run.a[layer][i, to]))


def _symbols(pen: Pen, layer: int, unit: int) -> dict[str, str]:
    """What an activation's formula speaks of."""
    return {letter: pen.at(letter, layer, unit) for letter in "za"}


def _errors(run: Propagation, write: Pens, loss: Loss, layer: int, i: int) -> Iterator[Equation]:
    for unit in range(run.sizes[layer]):
        if layer == run.depth:
            yield cost_slope(run, write, loss, unit, i)
        yield _slope(run, write, layer, unit, i)
        yield error_term(run, write, layer, unit, i, ALL)


def _slope(run: Propagation, write: Pens, layer: int, unit: int, i: int) -> Equation:
    function, formula = run.functions[layer], run.formulas[layer]
    z, a = float(run.z[layer][i, unit]), float(run.a[layer][i, unit])
    name = write(lambda pen: pen.partial(pen.at("a", layer, unit), pen.at("z", layer, unit)))

    def symbols(pen: Pen) -> str:
        if formula is None:
            return pen.applied(function, pen.at("z", layer, unit), "′")
        return formulas.written(pen, formula[1], _symbols(pen, layer, unit))

    def numbers(pen: Pen) -> str:
        if formula is None:
            return pen.applied(function, pen.number(z), "′")
        values = {"z": z, "a": a}
        return formulas.written(pen, formula[1], values | formulas.brackets(formula[1], values))

    written = (write(symbols), write(numbers)) if function else (NOTHING, NOTHING)
    return Equation(name, *written, float(run.slope[layer][i, unit]))


def _derivative(run: Propagation, write: Pens, where: Where) -> Equation:
    """∂J/∂θ = Σ over examples of share · δ · what came in."""
    layer, source, to = where
    columns = [] if run.one else [run.shares]
    columns += [run.delta[layer][:, to], *([] if source is None else [run.a[layer - 1][:, source]])]

    def symbols(pen: Pen) -> str:
        came_in = [] if source is None else [pen.activation(layer - 1, source, run.direct)]
        factors = [pen.at("δ", layer, to), *came_in]
        return pen.dot(*factors) if run.one else pen.over_examples(pen.dot(pen.share(), *factors))

    def numbers(pen: Pen) -> str:
        first, *others = zip(*columns)
        return " + ".join([pen.times(*first), *(pen.product([*map(pen.operand, row)]) for row in others)])

    value = _value(where, run.w_gradient, run.b_gradient)
    shown = NOTHING if len(columns) == 1 else write(numbers)  # ∂J/∂b = δ says it all
    return Equation(write(lambda pen: _named(pen, where)), write(symbols), shown, value)


def _updated(run: Propagation, write: Pens, learning_rate: float, where: Where, value: float) -> Equation:
    before, slope = _value(where, run.w, run.b), _value(where, run.w_gradient, run.b_gradient)
    formula = write(lambda pen: f"{pen.parameter(*where)} - {pen.dot(pen.symbol('η'), _named(pen, where))}")
    numbers = write(lambda pen: f"{pen.number(before)} - {pen.times(learning_rate, slope)}")
    return Equation(write(lambda pen: pen.becomes(pen.parameter(*where))), formula, numbers, value)


def _named(pen: Pen, where: Where) -> str:
    return pen.partial(pen.cost(None), pen.parameter(*where))
