"""Somebody's own gradient: read into the form of the parameters, with what rounding explains in its precision."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core import contractions, walkers
from funcnet._core.protocols import AnyLayer, Loss, Params, Tree
from funcnet._core.weighting import Reduction, averaged, mass
from funcnet.check.reports import RIGHT
from funcnet.propagation import backprop, value_and_grad

ROUNDINGS = 64
"""How many times our own rounding, or the usual one of the leaf, an answer's may be: NumPy's in float32 came to 5 times
with layers of 500 and batches of 1000, and to 30 where units are saturated."""


class Answer(NamedTuple):
    """An answer's entries, like the parameters, and the coarser of its type and the parameters'."""

    grads: Tree
    dtype: Any


def answer_of(params: Params, grads: Tree, types: Sequence[Any]) -> Answer:
    """An answer as a tree like the parameters, which came in these types; or refused by layer and parameter."""
    parts = [walkers.layer_params(tree) for tree in (params, grads)]
    arrays = [part for part in parts[1] if not hasattr(part, "keys")]
    wanted, given = ([part for part in tree if not hasattr(part, "keys") or part] for tree in parts)
    if arrays or len(given) != len(wanted):
        got = f"{type(arrays[0]).__name__} outside a dict" if arrays else f"{len(given)} of them"
        raise ValueError(
            f"grads: expected a dict of arrays for each of the {len(wanted)} layers with parameters, in order, got "
            f"{got}. Give [{{'w': …, 'b': …}}, …], or a tree like params."
        )
    leaves: list[np.ndarray] = []
    for number, (expected, own) in enumerate(zip(wanted, given), 1):
        if expected.keys() != own.keys():
            raise ValueError(
                f"grads: layer {number} has {', '.join(map(repr, sorted(expected)))}, "
                f"got {', '.join(map(repr, sorted(own))) or 'nothing'}."
            )
        leaves += [_entries(f"layer {number}, {name}", own[name], np.shape(expected[name])) for name in sorted(own)]
    floating = [kind for kind in (*types, *(leaf.dtype for leaf in leaves)) if jnp.issubdtype(kind, jnp.floating)]
    coarsest = max(floating, key=lambda kind: float(jnp.finfo(kind).eps), default=np.dtype(np.float64))
    wide = [np.asarray(leaf, np.float64) for leaf in leaves]
    return Answer(jax.tree.unflatten(jax.tree.structure(params), wide), coarsest)


def _entries(name: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"grads: {name} is no array: {error}") from error
    if not (jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)):
        raise TypeError(f"grads: {name} is {array.dtype}, expected real numbers.")
    if array.shape != shape:
        turned = f" A matrix is w[from, to]: give {name.rpartition(' ')[2]}.T." if array.shape == shape[::-1] else ""
        raise ValueError(f"grads: {name} has shape {array.shape}, expected {shape}.{turned}")
    return array


def roundings(
    net: AnyLayer, loss: Loss, params: Params, x: Any, y: Any, options: Mapping[str, Any], dtype: Any, exact: Tree
) -> Tree:
    """How far each entry of a right gradient in `dtype` may be from the exact one.

    Our own pass in that type shows what this very network and batch lose. An entry's loss is a matter of chance, so
    that of the leaf is taken, too: the median of loss over size, where the size of an entry is that of its examples'
    terms, √(m Σ_i g_i²) ≥ Σ_i |g_i|, which a sum that cancels hides.
    """
    narrow = jax.tree.map(lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, (params, x, y))
    _, own = jax.jit(lambda at: value_and_grad(net, loss, *at, **options))(narrow)

    def sizes_of(params: Params) -> Tree:
        bp = backprop(net, loss, params, x, y, weights=options["weights"], key=options["key"])
        squares = walkers.contract(net, contractions.square_sum, bp.tape, bp.deltas)
        sizes = jax.tree.map(lambda square: jnp.sqrt(len(bp.costs) * square), squares)
        return averaged(sizes, loss.value(bp.output, y), options["weights"], options["reduction"])

    epsilon = float(jnp.finfo(dtype).eps)
    return jax.tree.map(lambda *leaf: _allowed(epsilon, *leaf), exact, own, jax.jit(sizes_of)(params))


def _allowed(epsilon: float, *leaf: jax.Array) -> np.ndarray:
    exact, own, size = (np.asarray(values, np.float64) for values in leaf)
    size = np.abs(exact) + np.maximum(size, 1e-2 * size.max(initial=0))
    with np.errstate(invalid="ignore"):
        lost = np.nan_to_num(np.abs(own - exact), nan=0, posinf=0)
    usual = max(float(np.median((lost / np.where(size > 0, size, 1))[size > 0])) if size.any() else 0.0, epsilon)
    return ROUNDINGS * (lost + usual * size) + RIGHT * size


def remarks(
    names: list[str], answer: Tree, exact: Tree, allowed: Tree, terms: float, reduction: Reduction
) -> tuple[str, ...]:
    """A mistake that explains all of an answer, or all of a matrix, in words."""
    leaves = [[np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree)] for tree in (answer, exact, allowed)]
    a, g, noise = (np.concatenate([np.zeros(0), *map(np.ravel, tree)]) for tree in leaves)
    if not (np.isfinite(a).all() and np.isfinite(g).all() and g.any()):
        return ()
    if (factor := float(a @ g / (g @ g))) and _is_near(a, factor * g, abs(factor) * noise):
        if abs(factor - 1) < 1e-3:
            return ()
        causes = {-1.0: "its sign is turned"}
        causes[terms if reduction == "mean" else 1 / terms] = (
            "it is the sum over the examples, not their mean" if reduction == "mean" else "it is the mean, not the sum"
        )
        cause = next((f": {why}" for value, why in causes.items() if abs(factor / value - 1) < 1e-3), "")
        return (f"The answer is {factor:.4g} times the gradient in every entry{cause}.",)
    turned = [
        name
        for name, own, right, near in zip(names, *leaves)
        if own.ndim == 2 and own.shape == own.T.shape
        and _is_near(own.T, right, near) and not _is_near(own, right, near)
    ]  # fmt: skip
    return tuple(f"{name} is transposed: its entries are w[from, to]." for name in turned)


def _is_near(a: np.ndarray, b: np.ndarray, allowed: np.ndarray) -> bool:
    return bool((np.abs(a - b) <= allowed + RIGHT * np.abs(b)).all())


def terms_of(net: AnyLayer, loss: Loss, params: Params, x: Any, y: Any, weights: Any) -> float:
    """What a mean divides the sum by."""
    costs = jax.eval_shape(lambda: loss.value(backprop(net, loss, params, x, y).output, y))
    return float(mass(costs.shape, weights, costs.dtype))
