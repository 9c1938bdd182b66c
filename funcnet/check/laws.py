"""The laws of a layer, on which every contraction of a backward pass rests."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from funcnet.check.report import Law
from funcnet.layers.combinators import contract
from funcnet.protocols import AnyLayer, Layer, Params, Tree

TOLERANCE = 1e-9


class Pass(NamedTuple):
    """A forward and a backward propagation of Σ δ ⊙ y, and their contraction."""

    y: jax.Array
    tape: Tree
    input_delta: jax.Array
    deltas: Tree
    grads: Tree


def propagate(layer: AnyLayer, params: Params, x: jax.Array, delta: jax.Array, keys: jax.Array | None) -> Pass:
    """All that a layer's four functions give for one batch."""
    y, tape = layer.forward(params, x, keys)
    input_delta, deltas = layer.backward(params, tape, delta)
    if jnp.issubdtype(x.dtype, jnp.floating) and input_delta.shape != x.shape:
        raise ValueError(f"{layer}: backward gives input_delta shaped {input_delta.shape}, expected x's {x.shape}.")
    return Pass(y, tape, input_delta, deltas, _gradient(layer, tape, deltas))


compiled = jax.jit(propagate)


def laws(
    layer: AnyLayer, params: Params, x: jax.Array, delta: np.ndarray, other: np.ndarray, keys: jax.Array | None
) -> Iterator[Law]:
    """Each law, tried on this batch (float64, two examples or more, a key per example or None)."""
    whole = compiled(layer, params, x, delta, keys)
    inputs, kept = np.asarray(x), jax.tree.map(np.asarray, (whole.tape, whole.deltas))
    rows = [slice(i, i + 1) for i in range(len(x))]

    first = _examples_first(layer, whole.tape, whole.deltas, len(x))
    yield first

    mixed, second = (compiled(layer, params, x, d, keys) for d in (2 * delta - 3 * other, other))
    combined = jax.tree.map(lambda a, b: 2 * np.asarray(a) - 3 * np.asarray(b), _down(whole), _down(second))
    terms = np.abs(delta).max(initial=0) + np.abs(other).max(initial=0)  # what may cancel within a layer
    yield _same("backward and gradient are linear in delta", _down(mixed), combined, float(terms))

    alone = [compiled(layer, params, inputs[i], delta[i], None if keys is None else keys[i]) for i in rows]
    yield _same("an example's output does not depend on its batch", whole.y, np.concatenate([one.y for one in alone]))
    input_deltas = np.concatenate([one.input_delta for one in alone])
    yield _same("an example's error signal does not depend on its batch", whole.input_delta, input_deltas)
    summed = _sum([one.grads for one in alone])
    yield _same("the gradient of a batch is the sum of those of its examples", whole.grads, summed)

    if first.held:
        summed = _sum([jax.jit(_gradient)(layer, *jax.tree.map(lambda leaf, i=i: leaf[i], kept)) for i in rows])
        yield _same("a row of tape and deltas holds all of its example", whole.grads, summed)

    again = jax.jit(lambda *batch: propagate(layer, *batch))(params, x, delta, keys)
    yield _same("the same call gives the same value: no state", (again.y, again.grads), (whole.y, whole.grads))
    yield _type_kept(layer, params, x, delta, keys)


def _down(found: Pass) -> Tree:
    """What came of delta; integers have no derivative."""
    floating = jnp.issubdtype(found.input_delta.dtype, jnp.floating)
    return (found.input_delta, found.grads) if floating else found.grads


def _gradient(layer: AnyLayer, tape: Tree, deltas: Tree) -> Tree:
    return contract(layer, lambda leaf, kept, seen: leaf.gradient(kept, seen), tape, deltas)


def _sum(trees: Any) -> Tree:
    return jax.tree.map(lambda *leaves: np.sum(leaves, axis=0), *trees)


def _examples_first(layer: AnyLayer, tape: Tree, deltas: Tree, m: int) -> Law:
    wrong: list[str] = []

    def look(leaf: Layer, kept: Tree, seen: Tree) -> tuple[()]:
        for what, tree in (("tape", kept), ("deltas", seen)):
            wrong.extend(
                f"{leaf}: {what} holds shape {np.shape(a)}" for a in jax.tree.leaves(tree) if np.shape(a)[:1] != (m,)
            )
        return ()

    contract(layer, look, tape, deltas)
    evidence = wrong[0] if wrong else f"first axis {m} throughout"
    return Law("every array in tape and deltas has examples first", not wrong, evidence)


def _same(name: str, found: Tree, expected: Tree, least: float = 0.0) -> Law:
    if str(jax.tree.structure(found)) != str(jax.tree.structure(expected)):
        return Law(name, False, "the two have different structures")
    worst = 0.0
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        if np.shape(a) != np.shape(b):
            return Law(name, False, f"shapes {np.shape(a)} and {np.shape(b)}")
        a, b = np.asarray(a), np.asarray(b)
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            return Law(name, False, "not finite")
        if b.size:
            gap, size = np.abs(a - b).max(), max(np.abs(b).max(), least)
            worst = max(worst, float(gap / size) if size > 0 else float(gap))
    return Law(name, bool(worst <= TOLERANCE), f"largest difference {worst:.1e}")


def _type_kept(layer: AnyLayer, params: Params, x: jax.Array, delta: np.ndarray, keys: jax.Array | None) -> Law:
    narrow: Any = jax.tree.map(
        lambda leaf: leaf.astype(jnp.float32) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, (params, x, delta)
    )
    found = jax.eval_shape(lambda p, a, d: propagate(layer, p, a, d, keys), *narrow)
    kept = found.input_delta.dtype == jnp.float32 or not jnp.issubdtype(x.dtype, jnp.floating)
    held = found.y.dtype == jnp.float32 and kept
    return Law("float32 stays float32", held, f"output {found.y.dtype}, error signal {found.input_delta.dtype}")
