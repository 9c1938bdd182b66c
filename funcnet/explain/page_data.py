"""What an `explain_page` shows: the library's numbers at every moment of a descent, packed as text."""

import base64
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet.backprop import value_and_grad
from funcnet.explain.page_paths import largest_paths
from funcnet.explain.propagation import Propagation, leaves_of, propagate
from funcnet.layers import Dense
from funcnet.protocols import AnyLayer, Loss, Params, Tree

SHOWN = 8  # units; of a wider layer the first few and the last are drawn


class Descent:
    """Plain descent on the mean cost, from one start at several rates, and how to write it down.

    A moment is a point of the descent: its parameters and all that follows from them. Moment 0 is the
    start; those after 1 … steps steps follow, rate after rate.
    """

    def __init__(self, net: AnyLayer, loss: Loss, params: Params, x: Any, y: Any) -> None:
        self.net, self.loss, self.x, self.y = net, loss, jnp.asarray(x), jnp.asarray(y)
        self.start = propagate("explain_page", net, loss, params, x, y)
        self.params = jax.tree.map(jnp.asarray, params)
        self.dtype = np.result_type(*(np.asarray(leaf).dtype for leaf in jax.tree.leaves(self.params)), np.float32)
        self.shown = [shown_units(size) for size in self.start.sizes]

    def moments(self, rates: Sequence[float], steps: int, trainable: Tree | None, paths: int) -> list[dict[str, Any]]:
        """Every moment. Of the last of each rate only what the forward pass gives: no step follows."""
        written = [self._moment(self.params, self.start, paths, last=not steps)]
        for rate in rates:
            params, now = self.params, self.start
            for step in range(1, steps + 1):
                params = _stepped(params, now.gradient, rate, trainable)
                now = propagate("explain_page", self.net, self.loss, params, self.x, self.y)
                written.append(self._moment(params, now, paths, last=step == steps))
        return written

    def packed(self, values: Any) -> str:
        """Numbers as base64 of little-endian floats, as wide as they were computed; NaN and infinity among them."""
        kind = "<f8" if self.dtype == np.float64 else "<f4"
        with np.errstate(over="ignore"):
            return base64.b64encode(np.asarray(values).astype(kind).tobytes()).decode()

    def _moment(self, params: Params, now: Propagation, paths: int, last: bool) -> dict[str, Any]:
        moment: dict[str, Any] = {"params": self._matrices(now.w, now.b), "cost": self.packed(now.J)}
        examples = [self._example(now, i, last) for i in range(len(now.costs))]
        if not last:
            moment["gradient"] = self._matrices(now.w_gradient, now.b_gradient)
            for i, example in enumerate(examples):
                _, grads = value_and_grad(self.net, self.loss, params, self.x[i : i + 1], self.y[i : i + 1])
                dense = [own for leaf, own in leaves_of(self.net, grads) if isinstance(leaf, Dense)]
                ws, bs = ([None, *(None if n not in own else np.asarray(own[n]) for own in dense)] for n in "wb")
                example["gradient"] = self._matrices(ws, bs)
                example["paths"] = self._paths(now, i, paths)
        return moment | {"examples": examples}

    def _example(self, now: Propagation, i: int, last: bool) -> dict[str, Any]:
        names = ("z", "a") if last else ("z", "a", "slope", "delta")
        example: dict[str, Any] = {
            name: [self.packed(values[i][units]) for values, units in zip(getattr(now, name)[1:], self.shown[1:])]
            for name in names
        }
        example["cost"] = self.packed(now.costs[i])
        if not last:
            example["costSlope"] = self.packed(now.cost_slope[i][self.shown[-1]])
        if hasattr(self.loss, "probabilities"):
            output = jnp.asarray(now.a[-1][i], self.dtype)
            example["chances"] = self.packed(np.asarray(self.loss.probabilities(output))[self.shown[-1]])
        return example

    def _matrices(self, ws: list[Any], bs: list[Any]) -> list[str]:
        """Per layer the weights between drawn units, (from, to), and the biases as a last row."""
        written = []
        for layer, (w, b) in enumerate(zip(ws[1:], bs[1:]), 1):
            rows = w[np.ix_(self.shown[layer - 1], self.shown[layer])]
            written.append(self.packed(rows if b is None else np.concatenate([rows, b[self.shown[layer]][None]])))
        return written

    def _paths(self, now: Propagation, i: int, largest: int) -> list[dict[str, Any]]:
        written = []
        for layer, found in enumerate(largest_paths(now, i, self.shown, largest), 1):
            rows = now.a[layer - 1][i][self.shown[layer - 1]]
            into = rows if now.b[layer] is None else np.append(rows, 1.0)  # ∂z/∂w = a, ∂z/∂b = 1
            with np.errstate(all="ignore"):
                products = found.products[None] * into[:, None, None]
                rest = found.rest[None] * into[:, None]
            written.append(
                {"units": found.units.tolist(), "products": self.packed(products), "rest": self.packed(rest)}
            )
        return written


def shown_units(units: int) -> list[int]:
    """Which units of a layer are drawn."""
    return list(range(units)) if units <= SHOWN else [*range(SHOWN - 3), units - 1]


def _stepped(params: Params, grads: Tree, rate: float, trainable: Tree | None) -> Params:
    """θ - rate · ∂J/∂θ, where it may change."""
    kept = jax.tree.map(lambda leaf: True, params) if trainable is None else trainable
    return jax.tree.map(
        lambda keep, branch, slopes: jax.tree.map(
            lambda p, g: jnp.where(keep, p - jnp.asarray(rate, p.dtype) * g, p), branch, slopes
        ),
        kept,
        params,
        grads,
    )
