"""Every number of one attention head, softmax(q kᵀ/√d) v, and of its way back, ready to be written down."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core import arguments, walkers
from funcnet._core.protocols import AnyLayer, ArrayLike, Loss, Params, Tree
from funcnet._core.weighting import Reduction, check_reduction, reduced, shares_of
from funcnet.derivations import formulas
from funcnet.derivations.chains import links
from funcnet.derivations.formulas import Formula
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
            S and P, query and key; D, query, the mean of ∂J/∂P by the weights; a projection's θ, to and from, and b.
            "∂q" is ∂J/∂q.
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


def numbers_of_head(
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
        numbers |= {"x": z} | by_letter(own)
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


def by_letter(own: Params) -> dict[str, np.ndarray]:
    """A projection's parameters, or what is like them, by their letters: of θ to before from."""
    return {LETTERS[name]: np.asarray(values, np.float64).T for name, values in own.items()}
