"""The sections of the worksheet of one attention head: there and back, position by position."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from funcnet._core.protocols import AnyLayer, Params, Tree
from funcnet.derivations import formulas
from funcnet.derivations.calculation import Section
from funcnet.derivations.chains import links
from funcnet.derivations.head_numbers import KINDS, At, Head, by_letter
from funcnet.derivations.notation import NOTHING, Equation, Pen, Pens, Written


def forward(run: Head, write: Pens) -> Iterator[Section]:
    """What is given, then queries, keys and values, scores, weights, outputs and the cost."""
    T, d = run.numbers["o"].shape
    projected = bool(run.parameters)
    if projected:
        yield _section("The parameters", (_plain(run, write, at) for at in run.parameters), write(_rule_of_weights))
    inputs = ["x"] if projected else [*KINDS]
    given = [_plain(run, write, at) for letter in (*inputs, "y") for at in run.all_of(letter)]
    shares = [
        Equation(write(lambda pen, t=t: _share(pen, t)), NOTHING, NOTHING, float(share), given=True)  # type: ignore[misc]
        for t, share in enumerate(run.shares)
    ]
    yield _section("Inputs and targets", [*given, *shares], write(_rule_of_positions))
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
    new, rate = map(by_letter, trees)
    lines = [
        _updated(run, write, learning_rate, at, float(new[at[0]][at[1:]])) for at in run.parameters if rate[at[0]].any()
    ]
    eta = Equation(write(lambda pen: pen.symbol("η")), NOTHING, NOTHING, learning_rate, given=True)
    yield _section("Update, all parameters at once", [eta, *lines])
    whole = write(lambda pen: pen.becomes(pen.cost(None)))
    yield _section("The cost after the update", [Equation(whole, NOTHING, NOTHING, after)])


def _updated(run: Head, write: Pens, learning_rate: float, at: At, value: float) -> Equation:
    of = (f"∂{at[0]}", *at[1:])
    formula = write(lambda pen: f"{_symbol(pen, at)} - {pen.dot(pen.symbol('η'), _symbol(pen, of))}")
    numbers = write(lambda pen: f"{pen.number(run[at])} - {pen.times(learning_rate, run[of])}")
    return Equation(write(lambda pen: pen.becomes(_symbol(pen, at))), formula, numbers, value)


def _section(title: str, lines: Iterable[Equation], note: Written = NOTHING) -> Section:
    return Section(title, tuple(lines), note)


def _rule_of_weights(pen: Pen) -> str:
    """Which weight is which, in a sentence."""
    to, source = (pen.inline(pen.symbol(letter)) for letter in "ji")
    weight, bias = pen.symbol(pen.letter, None, ["j", "i"]), pen.symbol("b", None, ["j"])
    return (
        f"{pen.inline(weight)} is the weight to output {to} of the projection from feature {source} of x, which params "
        f"hold as {pen.inline('w[i - 1, j - 1]')} of w[from, to]; {pen.inline(bias)} is the bias of output {to}. "
        "The first third of the outputs is q, the second k, the last v."
    )


def _rule_of_positions(pen: Pen) -> str:
    t, s = (pen.inline(pen.symbol(letter)) for letter in "ts")
    feature, score = (pen.inline(pen.symbol(letter, None, units)) for letter, units in (("q", "tj"), ("S", "ts")))
    return (
        f"{feature} is feature {pen.inline(pen.symbol('j'))} of position {t}, and so with other letters; {score} is of "
        f"the query at position {t} and the key at position {s}."
    )


def _symbol(pen: Pen, at: At) -> str:
    letter = at[0].removeprefix("∂")
    symbol = pen.symbol(pen.letter if letter == "θ" else letter, None, [str(unit + 1) for unit in at[1:]])
    return pen.partial(pen.cost(None), symbol) if at[0][0] == "∂" else symbol


def _plain(run: Head, write: Pens, at: At) -> Equation:
    return Equation(write(lambda pen: _symbol(pen, at)), NOTHING, NOTHING, run[at], given=True)


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
        return formulas.softmax(pen, value(("S", t, s)), [*map(value, keys)])

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
