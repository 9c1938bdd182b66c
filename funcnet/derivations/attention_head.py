"""One attention head by hand: every number of softmax(q kᵀ/√d) v and of its way back, position by position."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core import arguments, walkers
from funcnet._core.protocols import AnyLayer, ArrayLike, Loss, Params, Tree
from funcnet._core.weighting import Reduction, check_reduction, reduced, shares_of
from funcnet.derivations import formulas
from funcnet.derivations.calculation import Section
from funcnet.derivations.chains import links
from funcnet.derivations.formulas import Formula
from funcnet.derivations.notation import NOTHING, Equation, Pen, Pens
from funcnet.layers.attention import Attention
from funcnet.layers.dense import Dense

KINDS = {"q": "queries", "k": "keys", "v": "values"}
LETTERS = {"w": "θ", "b": "b"}

At = tuple[Any, ...]
"""One number: the letter of its array, "∂" before it for the derivative of J by it, and its indices from 0."""


@dataclasses.dataclass(frozen=True, eq=False)
class Head:
    """A head on one text of T positions.

    Attributes:
        numbers: arrays in float64 by their letters: q, k, v, o, y and, into a projection, x, position and feature;
            S and P, query and key; D, see `_back_to_scores`; a projection's θ, to and from, and b. "∂q" is ∂J/∂q.
        seen: (T, T), which keys a query sees.
        formula: what the loss says of itself.
        costs, shares: (T,), each position's cost J_t, and ∂J/∂J_t.
        J: the cost.
        gradient: ∂J/∂params, a tree like params.
    """

    numbers: Mapping[str, np.ndarray]
    seen: np.ndarray
    formula: Formula
    costs: np.ndarray
    shares: np.ndarray
    J: float
    gradient: Tree

    def __getitem__(self, at: At) -> float:
        return float(self.numbers[at[0]][at[1:]])

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Each query with each key that it sees."""
        return [(t, s) for t, s in np.ndindex(*self.seen.shape) if self.seen[t, s]]

    @property
    def parameters(self) -> list[At]:
        """Those into the first unit, then the next; none without a projection."""
        if "θ" not in self.numbers:
            return []
        each = (
            [*[("θ", to, source) for source in range(row.size)], ("b", to)] for to, row in enumerate(self.numbers["θ"])
        )
        return [at for places in each for at in places if at[0] in self.numbers]

    def all_of(self, letter: str) -> list[At]:
        return [(letter, *place) for place in np.ndindex(*self.numbers[letter].shape)]


def has_attention(net: AnyLayer) -> bool:
    """Whether a layer of it, however deep, is one."""
    return any(isinstance(leaf, Attention) for _, leaf in walkers.leaves(net))


def propagate(
    net: AnyLayer,
    loss: Loss,
    params: Params,
    x: ArrayLike,
    y: ArrayLike,
    weights: Any,
    reduction: Reduction,
    most: int,
) -> Head:
    """Forward and backward through a head, keeping all of it, if it is not more than so many numbers.

    The sums are those that the sheet writes, in float64 whatever came: in float32 what cancels would leave noise.
    """
    *before, head = (layer for (layer,) in links(net))
    if not isinstance(head, Attention) or head.heads != 1 or [type(layer) for layer in before] not in ([], [Dense]):
        raise ValueError(
            f"worksheet: {net} is not covered. Of attention it writes one head, Attention(d, 1), or one behind its "
            "projection, Chain(Dense(n, 3 * d), Attention(d, 1)). For every number of any network use fn.backprop."
        )
    check_reduction(reduction)
    batch = arguments.checked_batch(net, loss, params, x, y, weights)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(batch)):
        raise TypeError("worksheet: its numbers are written down, so it cannot be called under jit, vmap or grad.")
    if batch.x.ndim != 3 or len(batch.x) != 1 or not batch.x.shape[1]:
        raise ValueError(
            "x: of an attention head a worksheet takes one text of one position or more, (1, T, features), got shape "
            f"{batch.x.shape}. Take one: x[:1] and y[:1]."
        )
    T, d, n = batch.x.shape[1], head.n, batch.x.shape[2] if before else 0
    if (count := 3 * d * n * (2 * T + 4) + 8 * T * T * d + T * T * (T + 4 * d)) > most:
        raise ValueError(
            f"worksheet: {T} positions with heads of {d} features make about {count:,} numbers, more than the {most:,} "
            "that it writes. Take fewer positions or features; for the arrays of any network use fn.backprop."
        )
    numbers = {"y": _given(y, batch.y)}
    z = _given(x, batch.x)
    own = next(links(net, batch.params))[1] if before else {}
    if before:
        numbers |= {"x": z} | _by_letter(own)
        z = z @ numbers["θ"].T + numbers.get("b", 0)
    numbers |= zip(KINDS, np.split(z, 3, 1))
    seen = np.tri(T) > 0 if head.causal else np.ones((T, T), bool)
    numbers["S"] = np.where(seen, numbers["q"] @ numbers["k"].T / math.sqrt(d), -np.inf)
    powers = np.exp(numbers["S"] - numbers["S"].max(1, keepdims=True))
    numbers["P"] = powers / powers.sum(1, keepdims=True)
    numbers["o"] = numbers["P"] @ numbers["v"]

    o, targets = (jnp.asarray(numbers[letter])[None] for letter in "oy")
    costs, formula = loss.value(o, targets), formulas.formula_of(loss)
    if formula is None or hasattr(loss, "probabilities") or costs.shape != (1, T):
        raise ValueError(
            f"worksheet: {loss} is not covered behind an attention head. Use a loss that compares each output with "
            "its own target, such as SquaredError()."
        )
    shares = np.broadcast_to(np.asarray(shares_of(costs, batch.weights, reduction), np.float64), costs.shape)[0]
    numbers["∂o"] = np.asarray(loss.delta(o, targets), np.float64)[0] * shares[:, None]
    numbers["∂v"] = numbers["P"].T @ numbers["∂o"]
    numbers["∂P"] = numbers["∂o"] @ numbers["v"].T
    numbers["D"] = (numbers["∂o"] * numbers["o"]).sum(1)
    numbers["∂S"] = numbers["P"] * (numbers["∂P"] - numbers["D"][:, None])
    numbers["∂q"] = numbers["∂S"] @ numbers["k"] / math.sqrt(d)
    numbers["∂k"] = numbers["∂S"].T @ numbers["q"] / math.sqrt(d)
    if before:
        of_z = np.concatenate([numbers[f"∂{letter}"] for letter in KINDS], 1)
        numbers |= {"∂θ": of_z.T @ numbers["x"], "∂b": of_z.sum(0)}
    J = float(reduced(costs, batch.weights, reduction))
    slopes = [numbers[f"∂{LETTERS[name]}"].T for name in sorted(own)]  # as a tree has its leaves in order
    gradient = jax.tree.unflatten(jax.tree.structure(batch.params), slopes)
    gradient = jax.tree.map(lambda slope, leaf: jnp.asarray(slope, leaf.dtype), gradient, batch.params)
    return Head(numbers, seen, formula, np.asarray(costs, np.float64)[0], shares, J, gradient)


def _given(values: ArrayLike, checked: jax.Array) -> np.ndarray:
    """The text as it was given; where that is not finite, which only a weight of 0 allows, what took its place."""
    own, checked = (np.asarray(jnp.asarray(a), np.float64)[0] for a in (values, checked))
    return np.where(np.isfinite(own), own, checked)


def _by_letter(own: Params) -> dict[str, np.ndarray]:
    """A projection's parameters, or what is like them, by their letters: of θ to before from."""
    return {LETTERS[name]: np.asarray(values, np.float64).T for name, values in own.items()}


def forward(run: Head, write: Pens) -> Iterator[Section]:
    """What is given, then queries, keys and values, scores, weights, outputs and the cost."""
    T, d = run.numbers["o"].shape
    projected = bool(run.parameters)
    if projected:
        yield _section("The parameters", (_plain(run, write, at) for at in run.parameters))
    inputs = ["x"] if projected else [*KINDS]
    yield _section(
        "Inputs and targets", (_plain(run, write, at) for letter in (*inputs, "y") for at in run.all_of(letter))
    )
    for i, (letter, kind) in enumerate(KINDS.items() if projected else ()):
        yield _section(f"The {kind}", (_projected(run, write, at, i * d + at[2]) for at in run.all_of(letter)))
    yield _section(
        "The scores of each query with the keys that it sees",
        (_sum(run, write, ("S", t, s), [(("q", t, j), ("k", s, j)) for j in range(d)], d) for t, s in run.pairs),
    )
    yield _section(
        "The attention weights: a softmax of each query's scores", (_weight(run, write, t, s) for t, s in run.pairs)
    )
    yield _section(
        "The outputs",
        (
            _sum(run, write, ("o", t, j), [(("P", t, s), ("v", s, j)) for s in range(T) if run.seen[t, s]])
            for t in range(T)
            for j in range(d)
        ),
    )
    yield _section("The cost", [*(_cost(run, write, t) for t in range(T)), _whole_cost(run, write)])


def backward(run: Head, write: Pens) -> Iterator[Section]:
    """The same way back: ∂J by outputs, values, weights, scores, queries and keys, then the gradient."""
    T, d = run.numbers["o"].shape

    def over_pairs(title: str, name: str, factors: tuple[str, str], root: int = 0) -> Section:
        """∂J by a position's q, k or v: a sum over the positions that it meets, of queries for k and v."""
        of, by = factors
        lines = []
        for at in run.all_of(name):
            _, i, j = at
            meets = [(i, other) if name == "∂q" else (other, i) for other in range(T)]
            terms = [((of, t, s), (by, s if name == "∂q" else t, j)) for t, s in meets if run.seen[t, s]]
            lines.append(_sum(run, write, at, terms, root))
        return _section(title, lines)

    yield _section("Back to the outputs", (_of_output(run, write, at) for at in run.all_of("∂o")))
    yield over_pairs("Back to the values", "∂v", ("P", "∂o"))
    yield _section(
        "Back to the attention weights",
        (_sum(run, write, ("∂P", t, s), [(("∂o", t, j), ("v", s, j)) for j in range(d)]) for t, s in run.pairs),
    )
    yield _section(
        "Back to the scores, with D the mean of a query's derivatives by its weights",
        (line for t in range(T) for line in _back_to_scores(run, write, t)),
    )
    yield over_pairs("Back to the queries", "∂q", ("∂S", "k"), d)
    yield over_pairs("Back to the keys", "∂k", ("∂S", "q"), d)
    if run.parameters:
        yield _section("The gradient", (_of_parameter(run, write, at) for at in run.parameters))


def update(
    run: Head, write: Pens, net: AnyLayer, learning_rate: float, updated: Params, rates: Tree, after: float
) -> Iterator[Section]:
    """θ - η ∂J/∂θ for every parameter that is trained, and the cost that comes of it."""
    _, *trees = next(links(net, updated, rates))
    new, rate = map(_by_letter, trees)
    lines = [
        _updated(run, write, learning_rate, at, float(new[at[0]][at[1:]])) for at in run.parameters if rate[at[0]].any()
    ]
    eta = Equation(write(lambda pen: pen.symbol("η")), NOTHING, NOTHING, learning_rate)
    yield _section("Update, all parameters at once", [eta, *lines])
    whole = write(lambda pen: pen.becomes(pen.cost(None)))
    yield _section("The cost after the update", [Equation(whole, NOTHING, NOTHING, after)])


def _updated(run: Head, write: Pens, learning_rate: float, at: At, value: float) -> Equation:
    of = (f"∂{at[0]}", *at[1:])
    formula = write(lambda pen: f"{_symbol(pen, at)} - {pen.dot(pen.symbol('η'), _symbol(pen, of))}")
    numbers = write(lambda pen: f"{pen.number(run[at])} - {pen.times(learning_rate, run[of])}")
    return Equation(write(lambda pen: pen.becomes(_symbol(pen, at))), formula, numbers, value)


def _section(title: str, lines: Iterable[Equation]) -> Section:
    return Section(title, tuple(lines))


def _symbol(pen: Pen, at: At) -> str:
    letter = at[0].removeprefix("∂")
    symbol = pen.symbol(pen.letter if letter == "θ" else letter, None, [str(unit + 1) for unit in at[1:]])
    return pen.partial(pen.cost(None), symbol) if at[0][0] == "∂" else symbol


def _plain(run: Head, write: Pens, at: At) -> Equation:
    return Equation(write(lambda pen: _symbol(pen, at)), NOTHING, NOTHING, run[at])


def _sum(
    run: Head, write: Pens, at: At, terms: Sequence[tuple[At, At]], root: int = 0, bias: Sequence[At] = ()
) -> Equation:
    """A sum of products, perhaps with a bias, perhaps over the root of d."""

    def over(pen: Pen, whole: str, divisor: str) -> str:
        return f"({whole}) / {divisor}" if root > 1 else whole

    def symbols(pen: Pen) -> str:
        products = [pen.dot(_symbol(pen, a), _symbol(pen, b)) for a, b in terms]
        divisor = rf"\sqrt{{{root}}}" if pen.form == "latex" else f"√{root}"
        return over(pen, " + ".join([*products, *(_symbol(pen, one) for one in bias)]), divisor)

    def numbers(pen: Pen) -> str:
        products = pen.sum_of_products([(run[a], run[b]) for a, b in terms])
        return over(pen, " + ".join([*products, *(pen.operand(run[one]) for one in bias)]), pen.number(math.sqrt(root)))

    return Equation(write(lambda pen: _symbol(pen, at)), write(symbols), write(numbers), run[at])


def _projected(run: Head, write: Pens, at: At, to: int) -> Equation:
    """A feature of a query, a key or a value, which is column `to` of x θ + b."""
    terms = [(("θ", to, source), ("x", at[1], source)) for source in range(run.numbers["x"].shape[1])]
    return _sum(run, write, at, terms, bias=[("b", to)] if "b" in run.numbers else [])


def _of_parameter(run: Head, write: Pens, at: At) -> Equation:
    """A sum over the positions of what came in times ∂J by what came out."""
    kind, feature = divmod(at[1], run.numbers["o"].shape[1])
    of = [(f"∂{[*KINDS][kind]}", t, feature) for t in range(len(run.costs))]
    name = (f"∂{at[0]}", *at[1:])
    if at[0] == "θ":
        return _sum(run, write, name, [(one, ("x", t, at[2])) for t, one in enumerate(of)])
    symbols = write(lambda pen: " + ".join(_symbol(pen, one) for one in of))
    numbers = write(lambda pen: " + ".join([pen.number(run[of[0]]), *(pen.operand(run[one]) for one in of[1:])]))
    return Equation(write(lambda pen: _symbol(pen, name)), symbols, numbers, run[name])


def _weight(run: Head, write: Pens, t: int, s: int) -> Equation:
    keys = [("S", t, key) for key in range(len(run.costs)) if run.seen[t, key]]

    def written(pen: Pen, value: Callable[[At], str | float]) -> str:
        own, *all_of = (formulas.written(pen, "exp(z)", {"z": value(at)}) for at in (("S", t, s), *keys))
        return f"{own} / ({' + '.join(all_of)})"

    symbols = write(lambda pen: written(pen, lambda at: _symbol(pen, at)))
    return Equation(
        write(lambda pen: _symbol(pen, ("P", t, s))),
        symbols,
        write(lambda pen: written(pen, run.__getitem__)),
        run["P", t, s],
    )


def _cost(run: Head, write: Pens, t: int) -> Equation:
    formula = run.formula

    def written(pen: Pen, value: Callable[[At], str | float]) -> str:
        return formulas.summed([_compared(pen, formula[0], run, value, t, j) for j in range(run.numbers["o"].shape[1])])

    symbols = write(lambda pen: written(pen, lambda at: _symbol(pen, at)) + formulas.definition(pen, formula[0]))
    numbers = write(lambda pen: written(pen, run.__getitem__))
    return Equation(write(lambda pen: pen.cost(t)), symbols, numbers, float(run.costs[t]))


def _compared(pen: Pen, expression: str, run: Head, value: Callable[[At], str | float], t: int, j: int) -> str:
    """What a loss says of one output and its target."""
    values = {"a": value(("o", t, j)), "y": value(("y", t, j)), "C": str(run.numbers["o"].shape[1])}
    return formulas.written(pen, expression, values)


def _whole_cost(run: Head, write: Pens) -> Equation:
    positions = range(len(run.costs))
    symbols = write(lambda pen: " + ".join(pen.dot(_share(pen, t), pen.cost(t)) for t in positions))
    pairs = [(float(share), float(cost)) for share, cost in zip(run.shares, run.costs)]
    numbers = write(lambda pen: " + ".join(pen.sum_of_products(pairs)))
    return Equation(write(lambda pen: pen.cost(None)), symbols, numbers, run.J)


def _share(pen: Pen, t: int) -> str:
    return pen.partial(pen.cost(None), pen.cost(t))


def _of_output(run: Head, write: Pens, at: At) -> Equation:
    _, t, j = at
    formula, share = run.formula, float(run.shares[t])

    def symbols(pen: Pen) -> str:
        return pen.dot(_share(pen, t), f"({_compared(pen, formula[1], run, lambda at: _symbol(pen, at), t, j)})")

    def numbers(pen: Pen) -> str:
        return pen.product([pen.number(share), f"({_compared(pen, formula[1], run, run.__getitem__, t, j)})"])

    return Equation(write(lambda pen: _symbol(pen, at)), write(symbols), write(numbers), run[at])


def _back_to_scores(run: Head, write: Pens, t: int) -> Iterator[Equation]:
    """∂J/∂S = P (∂J/∂P - D), where D, the mean of ∂J/∂P by the weights, is the sum of ∂J/∂o · o."""
    yield _sum(run, write, ("D", t), [(("∂o", t, j), ("o", t, j)) for j in range(run.numbers["o"].shape[1])])
    yield from (_of_score(run, write, t, s) for s in range(len(run.costs)) if run.seen[t, s])


def _of_score(run: Head, write: Pens, t: int, s: int) -> Equation:
    P, of_P, D = ("P", t, s), ("∂P", t, s), ("D", t)
    symbols = write(lambda pen: pen.dot(_symbol(pen, P), f"({_symbol(pen, of_P)} - {_symbol(pen, D)})"))
    numbers = write(lambda pen: pen.product([pen.number(run[P]), f"({pen.number(run[of_P])} - {pen.operand(run[D])})"]))
    return Equation(write(lambda pen: _symbol(pen, ("∂S", t, s))), symbols, numbers, run["∂S", t, s])
