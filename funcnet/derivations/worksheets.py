"""`worksheet`: one step of learning as one would compute it by hand, number by number."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from funcnet._core import arguments, scalars
from funcnet._core.masks import flags_of, kept
from funcnet._core.protocols import AnyLayer, ArrayLike, Loss, Params, Tree
from funcnet._core.weighting import Reduction
from funcnet.derivations import attention_head, calculation
from funcnet.derivations.calculation import Section
from funcnet.derivations.chain_numbers import propagate
from funcnet.derivations.chains import links, weighted_sums
from funcnet.derivations.head_numbers import has_attention, numbers_of_head
from funcnet.derivations.layouts import wrapped
from funcnet.derivations.notation import Equation, Pen, checked_names, pens
from funcnet.propagation import cost

MOST = 2000  # numbers on a worksheet

Batch = tuple[ArrayLike, ArrayLike, ArrayLike | None, Reduction]
Update = Callable[[float, Params, Tree, float], Iterable[Section]]


@dataclasses.dataclass(frozen=True, repr=False)
class Worksheet:
    """Every number of a step of learning in the order of a calculation by hand.

    Attributes:
        sections: what is given, forward propagation, the cost, then layer by layer from the last the
            error terms and the gradient, the update.
        digits: significant digits of the numbers as they are printed.
    """

    sections: tuple[Section, ...]
    digits: int

    def __str__(self) -> str:
        """Text for a terminal, about 100 columns wide."""
        pen, lines = Pen("text", "θ", (), self.digits), []
        for number, section in enumerate(self.sections, 1):
            heading = f"{number}. {section.title}"
            lines += ["", heading, "─" * len(heading)]
            width = max(len(line.name.text) for line in section.equations)
            for line in section.equations:
                name, *parts = _parts(line, "text", pen)
                whole = " = ".join(parts)
                if width + len(whole) <= 95 or len(parts) < 3:
                    lines += wrapped(f"{name:{width}} = ", whole)
                else:
                    lines += [*wrapped(f"{name:{width}} = ", parts[0])]
                    lines += [*wrapped(f"{'':{width}} = ", " = ".join(parts[1:]))]
        return "\n".join(lines[1:])

    __repr__ = __str__

    def to_markdown(self) -> str:
        """Headings, and the mathematics as LaTeX between double dollars, as GitHub and Jupyter show it."""
        pieces = [f"### {number}. {section.title}" for number, section in enumerate(self.sections, 1)]
        blocks = ["$$\n\\begin{aligned}\n" + self._rows(part) + "\n\\end{aligned}\n$$" for part in self.sections]
        return "\n\n".join(piece for pair in zip(pieces, blocks) for piece in pair) + "\n"

    def to_latex(self) -> str:
        """The body of a document that loads amsmath; `\\allowdisplaybreaks` lets long steps run over pages."""
        pieces = [
            f"\\subsection*{{{number}. {section.title}}}\n\\begin{{align*}}\n{self._rows(section)}\n\\end{{align*}}"
            for number, section in enumerate(self.sections, 1)
        ]
        return "\n\n".join(pieces) + "\n"

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    def _rows(self, section: Section) -> str:
        pen = Pen("latex", "θ", (), self.digits)
        rows = []
        for line in section.equations:
            name, first, *rest = _parts(line, "latex", pen)
            wide = len(line.formula.text) + len(line.numbers.text) > 60
            rows.append(f"{name} &= {first}")
            if rest:
                rows[-1 if not wide else len(rows) :] = [
                    f"&= {' = '.join(rest)}" if wide else f"{rows[-1]} = {' = '.join(rest)}"
                ]
        return " \\\\\n".join(rows)


def worksheet(
    net: AnyLayer,
    loss: Loss,
    params: Params,
    x: ArrayLike,
    y: ArrayLike,
    *,
    learning_rate: float | None = None,
    trainable: Tree | None = None,
    weights: ArrayLike | None = None,
    reduction: Reduction = "mean",
    notation: str = "θ",
    names: Sequence[Sequence[str] | None] | None = None,
    digits: int = 6,
) -> Worksheet:
    """Every z, a, J, δ, gradient and updated parameter of a small network, in the order of a calculation by hand.

    Of attention it writes one head on one text, `Attention(d, 1)`, or a head behind its projection,
    `Chain(Dense(n, 3 * d), Attention(d, 1))`, with a loss such as `SquaredError`: q, k, v, the scores S = q·k/√d, their
    softmax P and o = P v, position by position, then ∂J by each of them; D, the sum of ∂J/∂o · o, is the mean of ∂J/∂P
    by the weights P. The cost is that of the examples alone, without a penalty.

    Args:
        net, loss, params, x, y, weights, reduction, notation, names, digits: as for `explain`; of a head x is
            (1, T, features), and it has no names.
        learning_rate: η of one step of gradient descent, θ ← θ - η ∂J/∂θ; None ends with the gradient.
        trainable: True or False for every parameter, or for whole branches of params, as for `fit`:
            what is False stays as it is. None updates all.

    Returns:
        A `Worksheet`, which prints as text and gives Markdown and LaTeX.

    Raises:
        ValueError: a network and batch of more than 2000 numbers; else as `explain`.
        TypeError: as `explain`.

    Example:
        >>> import funcnet as fn
        >>> net = fn.Dense(1, 1, bias=False)
        >>> sheet = fn.worksheet(net, fn.SquaredError(), fn.from_weights(net, [[[2.0]]]), [[3.0]], [[5.0]])
        >>> print(str(sheet).split("\\n\\n")[4])
        5. Error terms, layer 1
        ───────────────────────
        ∂J/∂a⁽¹⁾₁     = a⁽¹⁾₁ - y₁ = 6 - 5 = 1
        ∂a⁽¹⁾₁/∂z⁽¹⁾₁ = 1
        δ⁽¹⁾₁         = ∂J/∂a⁽¹⁾₁ · ∂a⁽¹⁾₁/∂z⁽¹⁾₁ = 1 × 1 = 1
    """
    if learning_rate is not None:
        learning_rate = scalars.number(
            "learning_rate", learning_rate, "a positive number or None", lambda r: 0 < r < np.inf
        )
    if learning_rate is not None and not jax.tree.leaves(params):
        raise ValueError(f"learning_rate: {net} has no parameters to update. Leave learning_rate out.")
    arguments.check_layer_functions(net)
    written = _of_head if has_attention(net) else _of_chain
    sections, gradient, update = written(net, loss, params, (x, y, weights, reduction), notation, names, digits)
    if learning_rate is not None:
        rates = _rates(params, learning_rate, trainable)
        updated = jax.tree.map(lambda p, g, rate: p - rate * g, params, gradient, rates)
        after = float(cost(net, loss, updated, x, y, weights=weights, reduction=reduction))
        sections += update(learning_rate, updated, rates, after)
    return Worksheet(tuple(sections), digits)


def _of_chain(
    net: AnyLayer, loss: Loss, params: Params, batch: Batch, notation: str, names: Any, digits: int
) -> tuple[list[Section], Tree, Update]:
    layers = weighted_sums("worksheet", net)
    write = pens(notation, checked_names(names, [layers[0].n_in, *(layer.n_out for layer in layers)]), digits)
    m, pairs = max(len(np.asarray(batch[0])), 1), sum(layer.n_in * layer.n_out for layer in layers)
    if (count := (2 * m + 4) * pairs + 6 * m * sum(layer.n_out for layer in layers)) > MOST:
        raise ValueError(
            f"worksheet: {m} examples and {pairs:,} weights make about {count:,} numbers, more than the {MOST:,} "
            "that it writes. Take fewer examples, x[:1] and y[:1], or a smaller network; for one weight of this "
            "network use fn.explain, for its arrays fn.backprop."
        )
    run = propagate("worksheet", net, loss, params, *batch)

    def update(learning_rate: float, updated: Params, rates: Tree, after: float) -> Iterator[Section]:
        parts = [(new, rate) for _, new, rate in links(net, updated, rates) if new]
        new, kept = [new for new, _ in parts], [rate for _, rate in parts]
        return calculation.update(run, write, learning_rate, new, kept, after)

    sections = [*calculation.forward(run, write, loss), *calculation.backward(run, write, loss)]
    return sections, run.gradient, update


def _of_head(
    net: AnyLayer, loss: Loss, params: Params, batch: Batch, notation: str, names: Any, digits: int
) -> tuple[list[Section], Tree, Update]:
    if names is not None:
        raise ValueError(f"names: an attention head numbers positions and features; expected None, got {names!r}.")
    write, run = pens(notation, (), digits), numbers_of_head(net, loss, params, *batch, MOST)
    sections = [*attention_head.forward(run, write), *attention_head.backward(run, write)]
    return sections, run.gradient, partial(attention_head.update, run, write, net)


def _rates(params: Params, learning_rate: float, trainable: Tree | None) -> Tree:
    """The learning rate of every parameter: 0 for what stays as it is."""
    return kept(flags_of(params, trainable), jax.tree.map(lambda _: learning_rate, params))


def _parts(line: Equation, form: str, pen: Pen) -> list[str]:
    """What stands between the equals signs, without what there is none of, and nothing twice in a row."""
    written = [getattr(piece, form) for piece in (line.name, line.formula, line.numbers)]
    parts = [*(piece for piece in written if piece), pen.number(line.value)]
    return [part for place, part in enumerate(parts) if place == 0 or part != parts[place - 1]]
