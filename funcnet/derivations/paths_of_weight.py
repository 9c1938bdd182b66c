"""`explain`: the derivative by one weight as a sum over paths, and regrouped into error terms."""

import dataclasses
import math
from collections.abc import Sequence

import jax
import numpy as np

from funcnet._core import arguments, scalars
from funcnet._core.protocols import AnyLayer, ArrayLike, Loss, Params
from funcnet._core.weighting import Reduction
from funcnet.derivations.addresses import Where, checked_weight
from funcnet.derivations.chain_numbers import Propagation, propagate
from funcnet.derivations.derivation import Derivation
from funcnet.derivations.error_terms import came_in, headings, part_of, steps
from funcnet.derivations.notation import Pen, Pens, checked_names, pens
from funcnet.derivations.routes import Route, factors_of_a_path, largest_of, largest_routes, number_of_routes
from funcnet.derivations.terms import Factor, Path


def explain(
    net: AnyLayer,
    loss: Loss,
    params: Params,
    x: ArrayLike,
    y: ArrayLike,
    weight: Where,
    *,
    weights: ArrayLike | None = None,
    reduction: Reduction = "mean",
    example: int | None = None,
    notation: str = "θ",
    names: Sequence[Sequence[str] | None] | None = None,
    largest: int = 8,
    digits: int = 6,
) -> Derivation:
    """The derivative of the cost by one weight, path by path, with every factor's name and number.

    ∂J/∂θ = Σ over paths of ∂J/∂a · ∂a/∂z · ∂z/∂a · … · ∂z/∂θ, which regrouped is δ · a with the error
    terms δ = ∂J/∂z. For a chain of `Dense` layers and elementwise activations, and any loss; a penalty's
    derivative, which no path runs through, is not part of it.

    Args:
        net: the chain; chains may nest.
        loss: the cost of an output against its target.
        params: the network's parameters.
        x: (m, features).
        y: targets, as the loss wants them.
        weight: (layer, from, to). Layers are counted from 1 over those with parameters; from and to are
            array indices and count from 0, as in `w[from, to]`; a from of None is the bias of unit `to`.
            The printed label θ^{(layer)}_{to,from} counts units from 1.
        weights: (m,), as for `cost`.
        reduction: "mean" or "sum", as for `cost`.
        example: index of the one example whose cost J_i is derived; None derives J, over all of them.
        notation: "θ" or "w", the letter of a weight.
        names: the units' names, a list for the input and one for each layer with parameters; None in
            place of a list numbers that layer's units.
        largest: how many paths are written out. Beyond, the largest are, and the rest is summed.
        digits: significant digits of the printed numbers, of float32 parameters no more than float32 has.

    Returns:
        A `Derivation`, in float64: products of the numbers that the library computed.

    Raises:
        ValueError: a weight that does not exist; a layer that is not covered; names that do not fit;
            weights together with example; else as `cost`.
        TypeError: as `cost`; a call under `jit`.

    Cost:
        One forward and one backward propagation; the largest paths are found in time proportional to the weights above,
        times `largest`, for every example.

    Source: the worked derivations of Rumelhart, Hinton and Williams, 1986.

    Example:
        >>> import funcnet as fn
        >>> net = fn.Chain(fn.Dense(1, 1), fn.Tanh(), fn.Dense(1, 2))
        >>> params = fn.from_weights(net, [[[0.0]], [[2.0, 4.0]]])
        >>> derivation = fn.explain(net, fn.SquaredError(), params, [[3.0]], [[0.5, 1.0]], weight=(1, 0, 0))
        >>> for path in derivation.paths:
        ...     print(*(factor.value for factor in path.factors), "->", path.product)
        -0.5 1.0 2.0 1.0 3.0 -> -3.0
        -1.0 1.0 4.0 1.0 3.0 -> -12.0
        >>> derivation.value, derivation.difference, derivation.factor_count
        (-15.0, 0.0, 10)
    """
    if example is not None:
        x, y = _one_example(x, y, weights, example)
    run = propagate("explain", net, loss, params, x, y, weights, reduction)
    return derive(run, weight, reduction, example, notation, names, largest, digits)


def derive(
    run: Propagation,
    weight: Where,
    reduction: Reduction = "mean",
    example: int | None = None,
    notation: str = "θ",
    names: Sequence[Sequence[str] | None] | None = None,
    largest: int = 8,
    digits: int = 6,
) -> Derivation:
    """`explain` for a propagation that is there already. With `example` it is of that one alone."""
    where = layer, source, to = checked_weight("weight", run.layers[1:], weight)
    scalars.integer("largest", largest, "how many paths to write out, 1 or more", 1)
    write = pens(notation, checked_names(names, run.sizes), digits, run.dtype)
    m, one = len(run.costs), run.one
    with np.errstate(all="ignore"):
        paths = [_path(run, write, where, i, route, one) for i, route in _largest_paths(run, where, largest)]
        parts = tuple(part_of(run, where, i) for i in range(m))
    path_count, shown = m * number_of_routes(run.sizes, layer), sum(path.product for path in paths)
    rest = sum(part.value for part in parts) - shown if path_count > len(paths) else 0.0
    gradient = run.w_gradient[layer][source, to] if source is not None else run.b_gradient[layer][to]
    if example is not None:
        paths = [dataclasses.replace(path, example=example) for path in paths]
        parts = tuple(dataclasses.replace(part, example=example) for part in parts)
    return Derivation(
        value=float(gradient),
        paths=tuple(paths),
        rest=rest,
        path_count=path_count,
        factor_count=number_of_routes(run.sizes, layer) * factors_of_a_path(layer, run.depth),
        difference=shown + rest - float(gradient),
        steps=tuple(steps(run, write, where)) if one else (),
        parts=parts,
        label=write(lambda pen: pen.parameter(*where)),
        title=write(lambda pen: pen.partial(pen.cost(None), pen.parameter(*where))),
        parameter=float(run.b[layer][to] if source is None else run.w[layer][source, to]),
        about=_about(run, write, where),
        of=f"example {example}" if example is not None else f"the {reduction} over {m} examples" if m > 1 else "",
        headings=tuple(write(line) for line in headings(run, where)),
        digits=digits,
        dtype=run.dtype,
    )


def _one_example(x: ArrayLike, y: ArrayLike, weights: ArrayLike | None, example: int) -> tuple[jax.Array, jax.Array]:
    x, y = arguments.as_array("x", x), arguments.as_array("y", y)
    if 0 in (x.ndim, y.ndim, len(x) if x.ndim else 0):
        raise ValueError(f"x, y: expected an example or more, first in both, got shapes {x.shape} and {y.shape}.")
    if weights is not None:
        raise ValueError("explain: weights have no use for one example. Leave out weights, or example.")
    scalars.integer("example", example, f"an index from 0 to {len(x) - 1}", 0, len(x) - 1)
    return x[example : example + 1], y[example : example + 1]


def _values(run: Propagation, where: Where, i: int, route: Route) -> list[float]:
    """The factors of a path from ∂J/∂J_i down to ∂z/∂θ."""
    layer, values = where[0], [run.shares[i], run.cost_slope[i, route[-1]]]
    for above in range(run.depth, layer - 1, -1):
        unit = route[above - layer]
        values.append(run.slope[above][i, unit])
        values += [run.w[above][route[above - layer - 1], unit]] if above > layer else []
    return [*map(float, values), came_in(run, where, i)]


def _largest_paths(run: Propagation, where: Where, count: int) -> list[tuple[int, Route]]:
    """The largest of all examples' paths, largest first; all in order if they are no more than that."""
    layer, _, to = where
    through = [[to], *map(range, run.sizes[layer + 1 :])]
    paths, products = [], []
    for i in range(len(run.costs)):
        *_, routes = largest_routes(run, i, through, count)
        paths += [(i, (to, *map(int, units))) for units in routes.units[0]]
        products += [run.shares[i] * product * came_in(run, where, i) for product in routes.products[0]]
    few = len(paths) <= count and number_of_routes(run.sizes, layer) <= count
    return paths if few else [paths[place] for place in largest_of(products, count)]


def _path(run: Propagation, write: Pens, where: Where, i: int, route: Route, one: bool) -> Path:
    layer = where[0]

    def symbols(pen: Pen) -> list[str]:
        """J, J_i, a, z, a, …, z, θ: each factor is the derivative of one by the next."""
        levels = [(above, route[above - layer]) for above in range(run.depth, layer - 1, -1)]
        units = [symbol for level in levels for symbol in (pen.at("a", *level), pen.at("z", *level))]
        return [pen.cost(None), *([] if one else [pen.cost(i)]), *units, pen.parameter(*where)]

    values = _values(run, where, i, route)[one:]  # J is the only example's cost itself
    factors = []
    for place, value in enumerate(values):
        name = write(lambda pen, place=place: pen.partial(*symbols(pen)[place : place + 2]))  # type: ignore[misc]
        factors.append(Factor(name.text, name.latex, name.html, value))
    return Path(tuple(factors), math.prod(values), route, i)


def _about(run: Propagation, write: Pens, where: Where) -> str:
    layer, source, to = where
    pen = write.text
    unit = f"unit {pen.unit(layer, to)}" if pen.names[layer] is None else pen.unit(layer, to)
    if source is None:
        return f"the bias of {unit}. It is layer {layer}, b[{to}]: the array counts from 0, the label units from 1."
    kind = "input" if layer == 1 else "unit"
    come = pen.unit(layer - 1, source)
    come = f"{kind} {come}" if pen.names[layer - 1] is None else come
    return (
        f"the weight to {unit} from {come}. It is layer {layer}, w[{source}, {to}]: the array counts from 0, "
        "from before to; the label counts units from 1, to before from."
    )
