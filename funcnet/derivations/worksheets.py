"""`worksheet`: one step of learning as one would compute it by hand, number by number."""

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
from funcnet.derivations.notation import checked_names, pens, type_of
from funcnet.derivations.sheets import Worksheet
from funcnet.propagation import cost

MOST = 2000  # numbers on a worksheet

Batch = tuple[ArrayLike, ArrayLike, ArrayLike | None, Reduction]
Update = Callable[[float, Params, Tree, float], Iterable[Section]]


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
    blank: bool = False,
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
        blank: a line to be filled in stands where a number is to be computed. Given are parameters, inputs, targets, η
            and the formulas; `.solution` is the sheet with its numbers.

    Returns:
        A `Worksheet`, which prints as text, gives Markdown, LaTeX and HTML, and has `.save(path)`. Numbers of float32
        parameters are written with float32's digits.

    Raises:
        ValueError: a network and batch of more than 2000 numbers; else as `explain`.
        TypeError: `blank` that is no flag; else as `explain`.

    Example:
        >>> import funcnet as fn
        >>> net = fn.Dense(1, 1, bias=False)
        >>> sheet = fn.worksheet(net, fn.SquaredError(), fn.from_weights(net, [[[2.0]]]), [[3.0]], [[5.0]])
        >>> print(str(sheet).split("\\n\\n")[5])
        5. Error terms, layer 1
        ───────────────────────
        ∂J/∂a⁽¹⁾₁     = a⁽¹⁾₁ - y₁ = 6 - 5 = 1
        ∂a⁽¹⁾₁/∂z⁽¹⁾₁ = 1
        δ⁽¹⁾₁         = ∂J/∂a⁽¹⁾₁ · ∂a⁽¹⁾₁/∂z⁽¹⁾₁ = 1 × 1 = 1
        >>> task = fn.worksheet(
        ...     net, fn.SquaredError(), fn.from_weights(net, [[[2.0]]]), [[3.0]], [[5.0]], learning_rate=0.1, blank=True
        ... )
        >>> print(str(task).split("\\n\\n")[-2])
        7. Update, all parameters at once
        ─────────────────────────────────
        η           = 0.1
        new θ⁽¹⁾₁,₁ = θ⁽¹⁾₁,₁ - η · ∂J/∂θ⁽¹⁾₁,₁ = ______
    """
    scalars.flag("blank", blank)
    if learning_rate is not None:
        learning_rate = scalars.number(
            "learning_rate", learning_rate, "a positive number or None", lambda r: 0 < r < np.inf
        )
    arguments.check_layer_functions(net)
    arguments.as_params(net, params, None)
    if not arguments.as_array("x", arguments.unpacked(x)[0]).ndim:
        raise ValueError(f"x: expected (m, features), got {arguments.shown(x)}.")
    if learning_rate is not None and not jax.tree.leaves(params):
        raise ValueError(f"learning_rate: {net} has no parameters to update. Leave learning_rate out.")
    written = _of_head if has_attention(net) else _of_chain
    sections, gradient, update = written(net, loss, params, (x, y, weights, reduction), notation, names, digits)
    if learning_rate is not None:
        rates = _rates(params, learning_rate, trainable)
        updated = jax.tree.map(lambda p, g, rate: p - rate * g, params, gradient, rates)
        after = float(cost(net, loss, updated, x, y, weights=weights, reduction=reduction))
        sections += update(learning_rate, updated, rates, after)
    return Worksheet(tuple(sections), digits, type_of(params, x), blank)


def _of_chain(
    net: AnyLayer, loss: Loss, params: Params, batch: Batch, notation: str, names: Any, digits: int
) -> tuple[list[Section], Tree, Update]:
    layers = weighted_sums("worksheet", net)
    write = pens(
        notation,
        checked_names(names, [layers[0].n_in, *(layer.n_out for layer in layers)]),
        digits,
        type_of(params, batch[0]),
    )
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
    write = pens(notation, (), digits, type_of(params, batch[0]))
    run = numbers_of_head(net, loss, params, *batch, MOST)
    sections = [*attention_head.forward(run, write), *attention_head.backward(run, write)]
    return sections, run.gradient, partial(attention_head.update, run, write, net)


def _rates(params: Params, learning_rate: float, trainable: Tree | None) -> Tree:
    """The learning rate of every parameter: 0 for what stays as it is."""
    return kept(flags_of(params, trainable), jax.tree.map(lambda _: learning_rate, params))
