"""What a layer's tape and deltas hold of each example, in the layer's own cheap form or in the generic one.

The generic form is `gradient` of one example after the other, a block of them at a time. A block's
gradients take no more room than the layer's tape and deltas do.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from funcnet.arguments import replaced
from funcnet.precision import sum_of_products, total, wide
from funcnet.protocols import Layer, Tree
from funcnet.reduction import weighted

ROOM = 1.25  # of a block of gradients, in that of tape and deltas: a bias must not make it two blocks
STRIPS, LEAST = 4, 64  # of a Gram matrix, of which 10/16 is then computed; rows that make a strip worth it


def counted(tape: Tree, deltas: Tree, weights: jax.Array) -> tuple[Tree, Tree]:
    """Tape and deltas in which example i counts weights[i] times: at 0 exactly nothing, whatever they hold."""
    counts = weights != 0
    tape, deltas = jax.tree.map(wide, (tape, deltas))
    kept = jax.tree.map(lambda a: replaced(a, counts) if _floating(a) else a, tape)
    kept = lax.optimization_barrier(kept)  # XLA would transpose the tape while it masks it, which is slow on CPUs
    return kept, jax.tree.map(lambda a: weighted(a, weights) if _floating(a) else a, deltas)


def gradients(leaf: Layer, tape: Tree, deltas: Tree) -> Tree:
    """The gradient of each example: arrays (m, …)."""

    def one(tape: Tree, deltas: Tree) -> Tree:
        return leaf.gradient(*jax.tree.map(lambda a: a[None], (tape, deltas)))

    return jax.vmap(one)(tape, deltas)


def weighted_sum(leaf: Layer, tape: Tree, deltas: Tree, weights: jax.Array) -> Tree:
    """Σ_i w_i g_i, like params; an example of weight 0 contributes exactly nothing, whatever its tape holds."""
    if not are_small(leaf, tape, deltas):
        return leaf.gradient(*counted(tape, deltas, weights))
    each, counts = gradients(leaf, *jax.tree.map(wide, (tape, deltas))), weights != 0

    def summed(each: Tree) -> Tree:
        return jax.tree.map(lambda g: _over_examples(weights, g), each)

    def masked(each: Tree) -> Tree:
        return summed(jax.tree.map(lambda g: weighted(g, counts.astype(weights.dtype)), each))

    return lax.cond(counts.all(), summed, masked, each)  # the mask is a pass over them all


def gradient_sum(leaf: Layer, tape: Tree, deltas: Tree) -> Tree:
    """Σ_i g_i, like params: `gradient`, or from the examples' gradients where they are formed anyway."""
    if not are_small(leaf, tape, deltas):
        return leaf.gradient(tape, deltas)
    return jax.tree.map(lambda g: _over_examples(jnp.ones(len(g)), wide(g)), gradients(leaf, tape, deltas))


def are_small(leaf: Layer, tape: Tree, deltas: Tree) -> bool:
    """Whether the examples' gradients take no more room together than tape and deltas do, as they may with positions.

    Then they are formed once, and whatever else is asked of them costs next to nothing.
    """
    return _blocks((tape, deltas), parameter_count(leaf, tape, deltas))[0] is None


def square_norms(leaf: Layer, tape: Tree, deltas: Tree) -> Any:
    """Σ g_i² over a layer's parameters: (m,), or `()` for a layer without parameters."""
    if not parameter_count(leaf, tape, deltas):
        return ()
    own = getattr(leaf, "square_norms", None) or partial(generic_square_norms, leaf)
    return own(tape, deltas)


def square_norms_before_sum(leaf: Layer, tape: Tree, deltas: Tree) -> Any:
    """`square_norms` where `weighted_sum` of the same follows: from the gradients that it forms, if it does."""
    if parameter_count(leaf, tape, deltas) and are_small(leaf, tape, deltas):
        return generic_square_norms(leaf, tape, deltas)
    return square_norms(leaf, tape, deltas)


def square_sum(leaf: Layer, tape: Tree, deltas: Tree) -> Tree:
    """Σ_i g_i², entry by entry: like params."""
    own = getattr(leaf, "square_sum", None) or partial(generic_square_sum, leaf)
    return own(tape, deltas)


def inner(leaf: Layer, tape: Tree, deltas: Tree, tape2: Tree, deltas2: Tree) -> Any:
    """Σ g_i h_j over a layer's parameters: (m, m'), or `()` for a layer without parameters."""
    if not parameter_count(leaf, tape, deltas):
        return ()
    own = getattr(leaf, "inner", None) or partial(generic_inner, leaf)
    return own(tape, deltas, tape2, deltas2)


def strip(leaf: Layer, tape: Tree, deltas: Tree, start: int, height: int) -> Any:
    """The rows start, …, start + height - 1 of `inner` of a batch with itself, from the diagonal on to the right."""
    below = jax.tree.map(lambda a: a[start:], (tape, deltas))
    own = jax.tree.map(lambda a: a[:height], below)
    return inner(leaf, *own, *below)


def inner_by_example(leaf: Layer, tape: Tree, deltas: Tree, tape2: Tree, deltas2: Tree) -> Any:
    """Σ g_i h_i over a layer's parameters, example by example: (m,), or `()` for a layer without parameters."""
    count = parameter_count(leaf, tape, deltas)
    if not count:
        return ()

    def one(*example: Tree) -> jax.Array:
        return inner(leaf, *jax.tree.map(lambda a: a[None], example)).reshape(())

    return in_blocks(lambda part: jax.vmap(one)(*part), (tape, deltas, tape2, deltas2), count)


class Pair(NamedTuple):
    """An array of one batch and that of another, at one place of a tape or of deltas."""

    first: jax.Array
    second: jax.Array


def gram_of_pairs(leaf: Layer, tape: Tree, deltas: Tree) -> Any:
    """`inner` of two batches whose arrays come in pairs."""

    return inner(leaf, *one_of_pairs(0, tape, deltas), *one_of_pairs(1, tape, deltas))


def one_of_pairs(batch: int, tape: Tree, deltas: Tree) -> tuple[Tree, Tree]:
    """Tape and deltas of the first batch, or of the second."""
    return jax.tree.map(lambda pair: pair[batch], (tape, deltas), is_leaf=lambda part: isinstance(part, Pair))


def generic_square_norms(leaf: Layer, tape: Tree, deltas: Tree) -> jax.Array:
    def norms(part: tuple[Tree, Tree]) -> jax.Array:
        return jnp.sum(jnp.stack([total(g * g, (1,)) for g in _flat(gradients(leaf, *part))]), 0)

    return in_blocks(norms, (tape, deltas), parameter_count(leaf, tape, deltas))


def generic_square_sum(leaf: Layer, tape: Tree, deltas: Tree) -> Tree:
    def squares(part: tuple[Tree, Tree]) -> Tree:
        return jax.tree.map(lambda g: _over_examples(jnp.ones(len(g)), jnp.square(wide(g))), gradients(leaf, *part))

    blocks, last = _blocks((tape, deltas), parameter_count(leaf, tape, deltas))
    if blocks is None:
        return squares(last)
    start = squares(last)
    return lax.scan(lambda held, block: (jax.tree.map(jnp.add, held, squares(block)), None), start, blocks)[0]


def generic_inner(leaf: Layer, tape: Tree, deltas: Tree, tape2: Tree, deltas2: Tree) -> jax.Array:
    count = parameter_count(leaf, tape, deltas)

    def rows(part: tuple[Tree, Tree]) -> jax.Array:
        first = _flat(gradients(leaf, *part))

        def columns(other: tuple[Tree, Tree]) -> jax.Array:
            second = _flat(gradients(leaf, *other))
            return jnp.sum(jnp.stack([sum_of_products(h, g, (1,), (1,)) for g, h in zip(first, second)]), 0)

        return in_blocks(columns, (tape2, deltas2), count).T

    return in_blocks(rows, (tape, deltas), count)


def in_blocks(f: Callable[[Any], jax.Array], examples: Tree, held: int) -> jax.Array:
    """f(examples), an array (m, …), from blocks of them: f holds `held` numbers for each, and no more at
    once than the examples take themselves."""
    blocks, last = _blocks(examples, held)
    if blocks is None:
        return f(last)
    found = lax.map(f, blocks)
    return jnp.concatenate([found.reshape(-1, *found.shape[2:]), f(last)])


def parameter_count(leaf: Layer, tape: Tree, deltas: Tree) -> int:
    """How many parameters a layer has, from the shapes of its gradient."""
    return sum(g.size for g in jax.tree.leaves(jax.eval_shape(leaf.gradient, tape, deltas)))


def _blocks(examples: Tree, held: int) -> tuple[Tree | None, Tree]:
    """Blocks of equal size, (number, size, …), None if one holds all, and the block that is left."""
    leaves = jax.tree.leaves(examples)
    m = len(leaves[0])
    size = max(1, min(m, int(ROOM * sum(a.size for a in leaves)) // max(held, 1)))
    number = -(-m // size) - 1
    if number < 1:
        return None, examples
    whole = number * size
    return (
        jax.tree.map(lambda a: a[:whole].reshape(number, size, *a.shape[1:]), examples),
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
