"""Norms, squares and inner products of gradients that are products, Σ_t x_t δ_tᵀ, without forming them."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from funcnet._core import tokens
from funcnet._core.numerics import sum_of_products, total
from funcnet._core.protocols import Tree
from funcnet._core.workarounds import mirrored, sum_of_outer_products


class DenseForm(NamedTuple):
    """What a layer's `as_dense` gives: example i's gradient is the matrix Σ_t x_it δ_itᵀ.

    Its rows belong to `w`, flattened to (-1, g), and the last one, if there is a constant, to `b`.

    Attributes:
        inputs: x, (m, T, a); integers (m, T) are the places of the 1 in unit vectors.
        signals: δ, (m, T, g).
        constant: whether a constant 1 follows every input, for a bias.
    """

    inputs: jax.Array
    signals: jax.Array
    constant: bool = False

    @property
    def are_places(self) -> bool:
        return jnp.issubdtype(self.inputs.dtype, jnp.integer)

    @property
    def positions(self) -> int:
        return self.inputs.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        """Inputs (without the constant) and signals of a position."""
        return self.inputs.shape[2], self.signals.shape[2]


def square_norms(form: DenseForm) -> jax.Array | None:
    """‖g_i‖², with the bias as the weight of a constant unit 1: (‖x‖² + 1) ‖δ‖² (Goodfellow, 2015).

    Over T positions Σ_ts (x_t·x_s + 1)(δ_t·δ_s), in T² (a + g) products; None where forming the gradient, in T a g,
    is less.
    """
    x, delta, one, positions = form.inputs, form.signals, float(form.constant), form.positions
    a, g = form.size
    if positions > 1 and positions * (a + g) > a * g:
        return None
    x_squares, delta_squares = total(x * x, (2,)) + one, total(delta * delta, (2,))
    if positions == 1:
        return (x_squares * delta_squares)[:, 0]
    pairs = (_products(x, x, 1) + one) * _products(delta, delta, 1)
    # Positions that cancel leave rounding behind: a norm may be too large by it, never too small.
    rounding = 8 * jnp.finfo(x.dtype).eps * total(jnp.sqrt(x_squares * delta_squares), (1,)) ** 2
    return jnp.maximum(total(pairs, (1, 2)), 0) + rounding


def square_sum(form: DenseForm, shapes: Tree) -> Tree | None:
    """Σ_i g_i², entry by entry, in a tree of these shapes: without positions (x²)ᵀ δ², with them None."""
    if form.positions > 1:
        return None
    return from_squares(form, jnp.square(rows(form.signals)), shapes)


def from_squares(form: DenseForm, squares: jax.Array, shapes: Tree) -> Tree:
    """(x²)ᵀ s for s (m, g) without positions, in a tree of these shapes: s is δ², or a sum of several."""
    grads = {"w": sum_of_outer_products(jnp.square(rows(form.inputs)), squares).reshape(shapes["w"].shape)}
    return grads | {"b": total(squares, (0,))} if form.constant else grads


def inner(form: DenseForm, other: DenseForm, in_blocks: Callable[..., jax.Array]) -> jax.Array | None:
    """g_i·h_j = Σ_ts (x_it·x'_js + 1)(δ_it·δ'_js); None where forming the gradients is less."""
    x2, delta2, m, m2 = rows(other.inputs), rows(other.signals), len(form.inputs), len(other.inputs)
    positions, positions2 = form.positions, other.positions
    a, g = form.size
    lines, columns, single = m * positions, len(x2), positions * positions2 == 1
    without = lines * columns * (a + g)
    if not single and without > (lines + columns + m * m2) * a * g:
        return None

    def block(part: tuple[jax.Array, jax.Array]) -> jax.Array:
        x, delta = map(rows, part)
        pairs = (_products(x, x2, 0) + float(form.constant)) * _products(delta, delta2, 0)
        return pairs if single else total(pairs.reshape(len(part[0]), positions, m2, positions2), (1, 3))

    both = form.inputs, form.signals
    return block(both) if single else in_blocks(block, both, 2 * positions * columns)


def second_moment(form: DenseForm, size: int) -> jax.Array:
    """E[a aᵀ] over examples and positions, a the inputs with their constant; of unit vectors its diagonal."""
    if form.are_places:
        return tokens.second_moment(size, form.inputs, form.signals.dtype)
    values = rows(form.inputs)
    if form.constant:
        values = jnp.concatenate([values, jnp.ones((len(values), 1), values.dtype)], axis=1)
    return symmetric_product(values) / max(len(values), 1)


def symmetric_product(values: jax.Array) -> jax.Array:
    """valuesᵀ values. Of a large one three strips from the diagonal on, 2/3 of the products; the rest mirrors them."""
    n = values.shape[1]
    if n < 256:
        return sum_of_products(values, values, (0,), (0,))
    edges = [0, n // 3, 2 * n // 3, n]
    return mirrored([sum_of_products(values[:, i:j], values[:, i:], (0,), (0,)) for i, j in pairwise(edges)])


def rows(values: jax.Array) -> jax.Array:
    """(m, T, features) as (m T, features)."""
    return values.reshape(math.prod(values.shape[:-1]), values.shape[-1])


def _products(a: jax.Array, b: jax.Array, examples: int) -> jax.Array:
    """a_t·b_s over the features, for all pairs of rows (0), or of those within each example (1)."""
    each: Any = tuple(range(examples))
    over = (examples + 1,)
    return lax.dot_general(a, b, ((over, over), (each, each)), precision=lax.Precision.HIGHEST)
