"""What an `explain_page` shows: the library's numbers at every moment of a descent, packed as text."""

import base64
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core.masks import flags_of, kept
from funcnet._core.protocols import AnyLayer, ArrayLike, Loss, Params, Tree
from funcnet.derivations import formulas
from funcnet.derivations.chain_numbers import Propagation, propagate
from funcnet.derivations.routes import largest_routes, number_of_routes

SHOWN = 8  # units; of a wider layer the first few and the last are drawn


class Descent:
    """Plain descent on the mean cost, from one start at several rates, and how to write it down.

    A moment is a point of the descent: its parameters and all that follows from them. Moment 0 is the
    start; those after 1 … steps steps follow, rate after rate.
    """

    def __init__(self, net: AnyLayer, loss: Loss, params: Params, x: ArrayLike, y: ArrayLike) -> None:
        self.start = propagate("explain_page", net, loss, params, x, y)
        self.net, self.loss, self.x, self.y = net, loss, jnp.asarray(x), jnp.asarray(y)
        self.params = jax.tree.map(jnp.asarray, params)
        self.dtype = np.result_type(*(np.asarray(leaf).dtype for leaf in jax.tree.leaves(self.params)), np.float32)
        self.shown = [shown_units(size) for size in self.start.sizes]

    def moments(self, rates: Sequence[float], steps: int, trainable: Tree | None, paths: int) -> list[dict[str, Any]]:
        """Every moment. Of the last of each rate only what the forward pass gives: no step follows."""
        written = [self._moment(self.start, paths, last=not steps)]
        for rate in rates:
            params, run = self.params, self.start
            for step in range(1, steps + 1):
                params = _stepped(params, run.gradient, rate, trainable)
                run = propagate("explain_page", self.net, self.loss, params, self.x, self.y)
                written.append(self._moment(run, paths, last=step == steps))
        return written

    def packed(self, values: Any) -> str:
        """Numbers as base64 of little-endian floats, as wide as they were computed; NaN and infinity among them."""
        kind = "<f8" if self.dtype == np.float64 else "<f4"
        with np.errstate(over="ignore"):
            return base64.b64encode(np.asarray(values).astype(kind).tobytes()).decode()

    def loss_in_words(self) -> dict[str, str | None]:
        """The loss as code, and what it says of the cost, of an output's part in it, of a class's, and of ∂J/∂a."""
        formula, of_class = formulas.formula_of(self.loss), getattr(self.loss, "class_formula", None)
        words: dict[str, str | None] = {"code": repr(self.loss), "general": f"{type(self.loss).__name__}(a, y)"}
        if formula is None:
            return words | {"cost": None, "ofClass": None, "slope": None}
        cost, slope = formula
        return words | {
            "general": formulas.over_outputs(cost),
            "cost": formulas.typeset(formulas.term_of(cost)),
            "ofClass": None if of_class is None else formulas.typeset(of_class),
            "slope": formulas.typeset(formulas.with_index(slope)),
        }

    def _moment(self, run: Propagation, paths: int, last: bool) -> dict[str, Any]:
        moment: dict[str, Any] = {"params": self._matrices(run.w, run.b), "cost": self.packed(run.J)}
        examples = [self._example(run, i, last) for i in range(len(run.costs))]
        if not last:
            moment["gradient"] = self._matrices(run.w_gradient, run.b_gradient)
            for i, example in enumerate(examples):
                deltas = [None, *(delta[i] for delta in run.delta[1:])]
                products = [None, *(np.outer(a[i], delta) for a, delta in zip(run.a, deltas[1:]))]
                biases = [None if b is None else delta for b, delta in zip(run.b, deltas)]
                example["gradient"] = self._matrices(products, biases)
                example["paths"] = self._paths(run, i, paths)
        return moment | {"examples": examples}

    def _example(self, run: Propagation, i: int, last: bool) -> dict[str, Any]:
        names = ("z", "a") if last else ("z", "a", "slope", "delta")
        example: dict[str, Any] = {
            name: [self.packed(values[i][units]) for values, units in zip(getattr(run, name)[1:], self.shown[1:])]
            for name in names
        }
        example["cost"] = self.packed(run.costs[i])
        if not last:
            example["costSlope"] = self.packed(run.cost_slope[i][self.shown[-1]])
        if run.chances is not None:
            example["chances"] = self.packed(run.chances[i][self.shown[-1]])
        return example

    def _matrices(self, ws: list[Any], bs: list[Any]) -> list[str]:
        """Per layer the weights between drawn units, (from, to), and the biases as a last row."""
        written = []
        for layer, (w, b) in enumerate(zip(ws[1:], bs[1:]), 1):
            rows = w[np.ix_(self.shown[layer - 1], self.shown[layer])]
            written.append(self.packed(rows if b is None else np.concatenate([rows, b[self.shown[layer]][None]])))
        return written

    def _paths(self, run: Propagation, i: int, largest: int) -> list[dict[str, Any]]:
        """For every layer the largest paths of every weight between drawn units, and what all its others sum to."""
        written: list[dict[str, Any]] = []
        with np.errstate(all="ignore"):
            for place, routes in enumerate(largest_routes(run, i, self.shown[1:], largest)):
                layer = run.depth - place
                # All routes of a unit sum to its δ.
                rest = run.delta[layer][i][self.shown[layer]] - routes.products.sum(1)
                if routes.products.shape[1] == number_of_routes(run.sizes, layer):
                    rest = np.zeros_like(rest)
                rows = run.a[layer - 1][i][self.shown[layer - 1]]
                into = rows if run.b[layer] is None else np.append(rows, 1.0)  # ∂z/∂w = a, ∂z/∂b = 1
                products = self.packed(routes.products[None] * into[:, None, None])
                of_layer = {"units": routes.units.tolist(), "products": products}
                written.append(of_layer | {"rest": self.packed(rest[None] * into[:, None])})
        return written[::-1]


def shown_units(units: int) -> list[int]:
    """Which units of a layer are drawn."""
    return list(range(units)) if units <= SHOWN else [*range(SHOWN - 3), units - 1]


def _stepped(params: Params, grads: Tree, rate: float, trainable: Tree | None) -> Params:
    """θ - rate · ∂J/∂θ, where it may change."""
    steps = kept(flags_of(params, trainable), grads)
    return jax.tree.map(
        lambda p, g: p - jnp.asarray(rate, p.dtype) * g,
        params,
        steps,
    )
