"""What a layer says of itself beyond its four functions, held against the examples' own gradients."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core import contractions
from funcnet._core.context import Context
from funcnet._core.numerics import total
from funcnet._core.protocols import AnyLayer, Layer, Params, Tree
from funcnet._core.walkers import contract, examples_first, layer_forward, layer_params
from funcnet.check.comparisons import Failures, Pair, agreement, agreement_of_pairs, failure, unless_it_fails
from funcnet.check.passes import Pass, Trial, compiled, floating, propagate
from funcnet.check.reports import Law

ROWS = "a row of tape and deltas holds all of its example"
EACH = "example_gradients are those of the examples alone"
NORMS = "square_norms are those of the examples' own gradients"
SUMS = "square_sum is that of the examples' own gradients"
PRODUCTS = "inner gives the inner products of the examples' own gradients"
DENSE = "as_dense is the examples' own gradients"
FINITE = "what is not finite in one example stays in that example"
POSITIONS = "by_position is true: positions are as examples"


def _inner_with_fewer(leaf: Layer, tape: Tree, deltas: Tree, tape2: Tree, deltas2: Tree) -> Any:
    """`inner` of batches of two sizes: (m, m - 1)."""
    return contractions.inner(leaf, tape, deltas, *_fewer((tape2, deltas2)))


def _fewer(examples: Tree) -> Tree:
    """One example less, but two at the least."""
    return jax.tree.map(lambda a: a[: max(2, len(a) - 1)], examples)


def _gradients_of_form(leaf: Layer, tape: Tree, deltas: Tree) -> Tree:
    """The gradient of each example from `as_dense`; where the layer has none, from `gradient`."""
    form = contractions.dense_form(leaf, tape, deltas)
    if form is None:
        return contractions.gradients(leaf, tape, deltas)
    shapes = contractions.gradient_shapes(leaf, tape, deltas)
    if form.are_places:
        name, shape = next((name, s.shape) for name, s in shapes.items())
        units = jax.nn.one_hot(form.inputs, shape[0], dtype=form.signals.dtype)
        return {name: jnp.einsum("mta,mtg->mag", units, form.signals)}
    shape = shapes["w"].shape
    grads = {"w": jnp.einsum("mta,mtg->mag", form.inputs, form.signals).reshape(len(form.inputs), *shape)}
    return grads | {"b": total(form.signals, (1,))} if form.constant else grads


FUNCTIONS: dict[str, tuple[int, Callable[..., Tree]]] = {
    ROWS: (1, contractions.gradients_of_rows),
    EACH: (1, contractions.gradients),
    NORMS: (1, contractions.square_norms),
    SUMS: (1, contractions.square_sum),
    PRODUCTS: (2, _inner_with_fewer),
    DENSE: (1, _gradients_of_form),
}
"""For each law, of how many passes its function is, and the function of a leaf."""


@jax.jit
def _contracted(layer: AnyLayer, names: dict[str, None], first: Pass, second: Pass) -> dict[str, Tree]:
    return {name: _contraction(layer, name, first, second) for name in names}


def _contraction(layer: AnyLayer, name: str, first: Pass, second: Pass) -> Tree:
    passes, f = FUNCTIONS[name]
    kept = (first.tape, first.deltas, second.tape, second.deltas)[: 2 * passes]
    return examples_first(layer, f, *kept) if name in (ROWS, EACH, DENSE) else contract(layer, f, *kept)


def laws_of_functions(trial: Trial) -> Iterator[Law]:
    """The optional functions against the examples' own gradients, on finite examples and beside one that is not."""
    names: dict[str, None] = {}
    for name in FUNCTIONS:
        try:
            jax.eval_shape(partial(_contraction, trial.layer, name), trial.first, trial.second)
            names[name] = None
        except Failures as error:
            yield Law(name, False, failure(error))
    results = _contracted(trial.layer, names, trial.first, trial.second)
    for name, actual in results.items():
        yield _law_of_function(name, actual, trial)
    yield _finite_law(trial, names, results)


def _law_of_function(name: str, actual: Tree, trial: Trial) -> Law:
    own, others = trial.alone.grads, _fewer(trial.other_alone.grads)
    if name in (ROWS, EACH, DENSE):
        return agreement(name, actual, own)
    if name == SUMS:
        return agreement(name, actual, jax.tree.map(lambda g: np.sum(np.square(g), 0), own))
    rows, columns = (_rows_by_layer(trial, grads) for grads in (own, others))
    if len(rows) != len(jax.tree.leaves(actual)):
        return Law(name, False, f"{len(jax.tree.leaves(actual))} results for {len(rows)} layers with parameters")
    if name == NORMS:
        return agreement_of_pairs(name, map(Pair, jax.tree.leaves(actual), (np.sum(a * a, -1) for a in rows)))
    products = (a @ np.swapaxes(b, -1, -2) for a, b in zip(rows, columns))
    sizes = (_longest(a) * _longest(b) for a, b in zip(rows, columns))  # orthogonal gradients cancel
    return agreement_of_pairs(name, map(Pair, jax.tree.leaves(actual), products, sizes))


def _longest(rows: np.ndarray) -> float:
    return float(np.sqrt(np.sum(rows * rows, -1)).max(initial=0))


def _rows_by_layer(trial: Trial, grads: Tree) -> list[np.ndarray]:
    """Of each layer with parameters the examples' gradients as rows: (*stack, m, parameters)."""

    def scalar(leaf: Layer, *kept: Tree) -> Any:
        return jnp.zeros(()) if contractions.parameter_count(leaf, *kept) else ()

    depths = jax.eval_shape(lambda *kept: contract(trial.layer, scalar, *kept), trial.first.tape, trial.first.deltas)
    layers = (jax.tree.leaves(part) for part in layer_params(grads))
    learning = [arrays for arrays in layers if sum(a.size for a in arrays)]
    return [_rows(arrays, scalar.ndim) for arrays, scalar in zip(learning, jax.tree.leaves(depths), strict=True)]


def _rows(arrays: list[Any], depth: int) -> np.ndarray:
    moved = (np.moveaxis(np.asarray(a), 0, depth) for a in arrays)
    return np.concatenate([a.reshape(*a.shape[: depth + 1], math.prod(a.shape[depth + 1 :])) for a in moved], -1)


def _finite_law(trial: Trial, names: dict[str, None], clean: dict[str, Tree]) -> Law:
    """The first example's x is made infinite and its δ NaN, in both passes; the others' numbers must stay."""

    def poisoned(x: np.ndarray, delta: np.ndarray) -> Pass:
        x, delta = x.copy(), delta.copy()
        if floating(x):
            x[0] = np.inf
        delta[0] = np.nan
        return compiled(trial.layer, trial.params, x, delta, trial.keys)

    with jax.debug_nans(False), jax.debug_infs(False):
        first, second = poisoned(trial.x, trial.delta), poisoned(trial.other_x, trial.other_delta)
        results = _contracted(trial.layer, names, first, second)
        for name in ("y", "input_delta", *(name for name in names if name != SUMS)):
            if name in names:
                pair = results[name], clean[name]
            else:
                pair = getattr(first, name), getattr(trial.first, name)
            cut = jax.tree.map(lambda a, name=name: _without_first(np.asarray(a), name), pair)
            if not (law := agreement(FINITE, *cut)).held:
                what = {"y": "the output", "input_delta": "the error signal"}.get(name, name.split()[0])
                return Law(
                    FINITE,
                    False,
                    f"another example's part of {what if name not in (ROWS, EACH) else 'gradient'} changed",
                )
    return law


def _without_first(values: np.ndarray, name: str) -> np.ndarray:
    """What is of all examples but the first: examples are last in norms and products, else first."""
    if name == PRODUCTS:
        return values[..., 1:, 1:]
    return values[..., 1:] if name == NORMS else values[1:]


def positions_law(layer: AnyLayer, params: Params, x: np.ndarray, seed: int) -> Law:
    """A layer that says by_position gives the same with positions as examples of their own."""
    if not getattr(layer, "by_position", False):
        return Law(POSITIONS, True, "not claimed")
    return unless_it_fails(POSITIONS, lambda: _positions_law(layer, params, _with_positions(x), seed))


def _positions_law(layer: AnyLayer, params: Params, x: np.ndarray, seed: int) -> Law:
    rows = x.shape[:-1] if floating(x) else x.shape

    def folded(a: jax.Array) -> jax.Array:
        if a.shape[: len(rows)] != rows:
            raise ValueError(f"with x shaped {x.shape}, it keeps or gives an array shaped {a.shape}")
        return a.reshape(math.prod(rows), *a.shape[len(rows) :])

    def of_folded(leaf: Layer, *kept: Tree) -> Tree:
        return contractions.gradients(leaf, *jax.tree.map(folded, kept))

    def both(delta: jax.Array) -> tuple[Tree, Tree]:
        whole = propagate(layer, params, jnp.asarray(x), delta, None)
        flat_x = jnp.asarray(x.reshape(-1, x.shape[-1] if floating(x) else 1))
        flat_delta = folded(delta) if floating(x) else folded(delta)[:, None]
        flat = propagate(layer, params, flat_x, flat_delta, None)
        grads = contract(layer, of_folded, whole.tape, whole.deltas)
        other = contract(layer, contractions.gradients, flat.tape, flat.deltas)
        shape = folded(whole.y).shape
        return (
            (folded(whole.y), folded(whole.input_delta), grads, whole.grads),
            (flat.y.reshape(shape), flat.input_delta.reshape(folded(whole.input_delta).shape), other, flat.grads),
        )

    y = jax.eval_shape(lambda p, a: layer_forward(layer, p, a, Context())[0], params, x)
    delta = np.random.default_rng(seed).normal(size=y.shape)
    actual, expected = jax.jit(both)(delta)
    return agreement(POSITIONS, actual, expected, float(np.abs(delta).max(initial=0)))


def _with_positions(x: np.ndarray) -> np.ndarray:
    """x, or if it has no positions each example three times over, with different values."""
    if x.ndim > 2 or not floating(x):
        return x
    return np.stack([x, 0.9 * np.roll(x, 1, 0), 0.8 * x], 1)
