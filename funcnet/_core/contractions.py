"""What a leaf layer's tape and deltas hold of each example: functions of one leaf, for `contract` and `pull`.

A layer may have a cheaper form of its own (`example_gradients`, `square_norms`, `square_sum`, `inner`), or say that an
example's gradient is a product of matrices (`as_dense`), from which the last three follow. Where it has none of these,
or declines by None, the generic form serves: `gradient` of one example after the other, a block of them at a time. A
block's gradients take no more room than the layer's tape and deltas do.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from funcnet._core import products
from funcnet._core.numerics import sum_of_products, total, wide
from funcnet._core.protocols import Layer, Tree
from funcnet._core.weighting import replaced, weighted
from funcnet._core.workarounds import masked_before_use

ROOM = 1.25  # of a block of gradients, in that of tape and deltas: a bias must not make it two blocks


# ------------------------------------------------------------------ sums over examples
def weighted_sum(leaf: Layer, tape: Tree, deltas: Tree, weights: jax.Array) -> Tree:
    """Σ_i w_i g_i, like params; an example of weight 0 contributes exactly nothing, whatever its tape holds."""
    if not parameter_count(leaf, tape, deltas):
        return leaf.gradient(tape, deltas)
    if not are_small(leaf, tape, deltas):
        return leaf.gradient(*_weighted_pass(tape, deltas, weights))
    each, counts = gradients(leaf, *jax.tree.map(wide, (tape, deltas))), weights != 0

    def summed(each: Tree) -> Tree:
        return jax.tree.map(lambda g: _over_examples(weights, g), each)

    def masked(each: Tree) -> Tree:
        return summed(jax.tree.map(lambda g: weighted(g, counts.astype(weights.dtype)), each))

    return lax.cond(counts.all(), summed, masked, each)  # the mask is a pass over them all


def _weighted_pass(tape: Tree, deltas: Tree, weights: jax.Array) -> tuple[Tree, Tree]:
    """Tape and deltas in which example i counts weights[i] times: at 0 exactly nothing, whatever they hold."""
    counts = weights != 0
    tape, deltas = jax.tree.map(wide, (tape, deltas))
    kept = masked_before_use(jax.tree.map(lambda a: replaced(a, counts) if _floating(a) else a, tape))
    return kept, jax.tree.map(lambda a: weighted(a, weights) if _floating(a) else a, deltas)


def gradient_sum(leaf: Layer, tape: Tree, deltas: Tree) -> Tree:
    """Σ_i g_i, like params: `gradient`, or from the examples' gradients where they are formed anyway."""
    if not parameter_count(leaf, tape, deltas) or not are_small(leaf, tape, deltas):
        return leaf.gradient(tape, deltas)
    return jax.tree.map(lambda g: _over_examples(jnp.ones(len(g)), wide(g)), gradients(leaf, tape, deltas))


def are_small(leaf: Layer, tape: Tree, deltas: Tree) -> bool:
    """Whether the examples' gradients take no more room together than tape and deltas do, as they may with positions.

    Then they are formed once, and whatever else is asked of them costs next to nothing.
    """
    return _blocks((tape, deltas), parameter_count(leaf, tape, deltas))[0] is None


# ------------------------------------------------------------------ of each example
def gradients(leaf: Layer, tape: Tree, deltas: Tree) -> Tree:
    """The gradient of each example: arrays (m, …)."""
    own = cheaper(leaf, "example_gradients", tape, deltas)
    return gradients_of_rows(leaf, tape, deltas) if own is None else own


def gradients_of_rows(leaf: Layer, tape: Tree, deltas: Tree) -> Tree:
    """`gradient` of every row of tape and deltas: arrays (m, …)."""

    def one(tape: Tree, deltas: Tree) -> Tree:
        return leaf.gradient(*jax.tree.map(lambda a: a[None], (tape, deltas)))

    # A layer may keep nothing of its examples. Then it has no parameters, either.
    return jax.vmap(one)(tape, deltas) if jax.tree.leaves((tape, deltas)) else leaf.gradient(tape, deltas)


def square_norms(leaf: Layer, tape: Tree, deltas: Tree) -> Any:
    """Σ g_i² over a layer's parameters: (m,), or `()` for a layer without parameters."""
    count = parameter_count(leaf, tape, deltas)
    if not count:
        return ()
    norms = cheaper(leaf, "square_norms", tape, deltas)
    if norms is None and (form := product_form(leaf, tape, deltas)):
        norms = products.square_norms(form)
    return _generic_square_norms(leaf, tape, deltas, count) if norms is None else norms


def square_norms_before_sum(leaf: Layer, tape: Tree, deltas: Tree) -> Any:
    """`square_norms` where `weighted_sum` of the same follows: from the gradients that it forms, if it does."""
    count = parameter_count(leaf, tape, deltas)
    if count and are_small(leaf, tape, deltas):
        return _generic_square_norms(leaf, tape, deltas, count)
    return square_norms(leaf, tape, deltas)


def square_sum(leaf: Layer, tape: Tree, deltas: Tree) -> Tree:
    """Σ_i g_i², entry by entry: like params."""
    if not parameter_count(leaf, tape, deltas):
        return leaf.gradient(tape, deltas)
    sums = cheaper(leaf, "square_sum", tape, deltas)
    if sums is None and (form := product_form(leaf, tape, deltas)):
        sums = products.square_sum(form, gradient_shapes(leaf, tape, deltas))
    return _generic_square_sum(leaf, tape, deltas) if sums is None else sums


def inner(leaf: Layer, tape: Tree, deltas: Tree, tape2: Tree, deltas2: Tree) -> Any:
    """Σ g_i h_j over a layer's parameters: (m, m'), or `()` for a layer without parameters."""
    count = parameter_count(leaf, tape, deltas)
    if not count:
        return ()
    pairs = cheaper(leaf, "inner", tape, deltas, tape2, deltas2)
    if pairs is None and (form := product_form(leaf, tape, deltas)) and (other := product_form(leaf, tape2, deltas2)):
        pairs = products.inner(form, other, in_blocks)
    return _generic_inner(leaf, tape, deltas, tape2, deltas2, count) if pairs is None else pairs


def strip(leaf: Layer, tape: Tree, deltas: Tree, start: int, height: int) -> Any:
    """The rows start, …, start + height - 1 of `inner` of a batch with itself, from the diagonal on to the right."""
    below = jax.tree.map(lambda a: a[start:], (tape, deltas))
    rows = jax.tree.map(lambda a: a[:height], below)
    return inner(leaf, *rows, *below)


def inner_by_example(leaf: Layer, tape: Tree, deltas: Tree, tape2: Tree, deltas2: Tree) -> Any:
    """Σ g_i h_i over a layer's parameters, example by example: (m,), or `()` for a layer without parameters."""
    count = parameter_count(leaf, tape, deltas)
    if not count:
        return ()

    def one(*example: Tree) -> jax.Array:
        return inner(leaf, *jax.tree.map(lambda a: a[None], example)).reshape(())

    return in_blocks(lambda part: jax.vmap(one)(*part), (tape, deltas, tape2, deltas2), count)


# ------------------------------------------------------------------ what a layer says of itself
def cheaper(leaf: Layer, name: str, *kept: Tree) -> Any:
    """A layer's own form of a contraction, or None where it has none or declines."""
    function = getattr(leaf, name, None)
    return None if function is None else function(*kept)


def dense_form(leaf: Layer, tape: Tree, deltas: Tree) -> products.DenseForm | None:
    """The product that is an example's gradient, in the accumulation type, if the layer has such a form."""
    form = cheaper(leaf, "as_dense", tape, deltas)
    return None if form is None else products.DenseForm(wide(form[0]), wide(form[1]), any(form[2:]))


def product_form(leaf: Layer, tape: Tree, deltas: Tree) -> products.DenseForm | None:
    """`dense_form`, unless its inputs are the places of unit vectors, with which there is nothing to multiply."""
    form = dense_form(leaf, tape, deltas)
    return None if form is None or form.are_places else form


def gradient_shapes(leaf: Layer, tape: Tree, deltas: Tree) -> Tree:
    """Shapes and types of a layer's gradient."""
    return jax.eval_shape(leaf.gradient, tape, deltas)


def parameter_count(leaf: Layer, tape: Tree, deltas: Tree) -> int:
    """How many parameters a layer has, from the shapes of its gradient."""
    return sum(g.size for g in jax.tree.leaves(gradient_shapes(leaf, tape, deltas)))


# ------------------------------------------------------------------ generic forms
def _generic_square_norms(leaf: Layer, tape: Tree, deltas: Tree, count: int) -> jax.Array:
    def norms(part: tuple[Tree, Tree]) -> jax.Array:
        return jnp.sum(jnp.stack([total(g * g, (1,)) for g in _flat(gradients(leaf, *part))]), 0)

    return in_blocks(norms, (tape, deltas), count)


def _generic_square_sum(leaf: Layer, tape: Tree, deltas: Tree) -> Tree:
    def squares(part: tuple[Tree, Tree]) -> Tree:
        return jax.tree.map(lambda g: _over_examples(jnp.ones(len(g)), jnp.square(wide(g))), gradients(leaf, *part))

    blocks, last = _blocks((tape, deltas), parameter_count(leaf, tape, deltas))
    if blocks is None:
        return squares(last)
    start = squares(last)
    return lax.scan(lambda sums, block: (jax.tree.map(jnp.add, sums, squares(block)), None), start, blocks)[0]


def _generic_inner(leaf: Layer, tape: Tree, deltas: Tree, tape2: Tree, deltas2: Tree, count: int) -> jax.Array:
    def rows(part: tuple[Tree, Tree]) -> jax.Array:
        first = _flat(gradients(leaf, *part))

        def columns(other: tuple[Tree, Tree]) -> jax.Array:
            second = _flat(gradients(leaf, *other))
            return jnp.sum(jnp.stack([sum_of_products(h, g, (1,), (1,)) for g, h in zip(first, second)]), 0)

        return in_blocks(columns, (tape2, deltas2), count).T

    return in_blocks(rows, (tape, deltas), count)


def in_blocks(f: Callable[[Any], jax.Array], examples: Tree, size: int) -> jax.Array:
    """f(examples), an array (m, …), from blocks of them: f holds `size` numbers for each, and no more at
    once than the examples take themselves."""
    blocks, last = _blocks(examples, size)
    if blocks is None:
        return f(last)
    results = lax.map(f, blocks)
    return jnp.concatenate([results.reshape(-1, *results.shape[2:]), f(last)])


def _blocks(examples: Tree, size: int) -> tuple[Tree | None, Tree]:
    """Blocks of equal size, (number, rows, …), None if one holds all, and the block that is left."""
    leaves = jax.tree.leaves(examples)
    m = len(leaves[0])
    rows = max(1, min(m, int(ROOM * sum(a.size for a in leaves)) // max(size, 1)))
    number = -(-m // rows) - 1
    if number < 1:
        return None, examples
    whole = number * rows
    return (
        jax.tree.map(lambda a: a[:whole].reshape(number, rows, *a.shape[1:]), examples),
        jax.tree.map(lambda a: a[whole:], examples),
    )


def _flat(grads: Tree) -> list[jax.Array]:
    return [wide(g).reshape(len(g), math.prod(g.shape[1:])) for g in jax.tree.leaves(grads)]


def _over_examples(weights: jax.Array, values: jax.Array) -> jax.Array:
    """Σ_i w_i values_i, as a product of matrices: XLA's plain sums over the first axis can be slow on CPUs."""
    weights = weights.astype(values.dtype)
    return lax.dot_general(weights, values, (((0,), (0,)), ((), ())), precision=lax.Precision.HIGHEST)


def _floating(values: jax.Array) -> bool:
    return jnp.issubdtype(values.dtype, jnp.floating)
