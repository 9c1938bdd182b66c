"""What curvature pushes back through a network: columns of a square root of the loss's second derivative."""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from funcnet._core import arguments, scalars
from funcnet._core.context import Context
from funcnet._core.keys import typed
from funcnet._core.protocols import AnyLayer, Layer, Loss, Params, Tree
from funcnet._core.walkers import LeafFunction, contract, deltas_alone, layer_forward, pull

Kind = Literal["ggn", "sampled", "empirical"]

AT_ONCE, MOST = 2**20, 8  # numbers that the columns of one round of the loop may leave behind; columns in it


class Pushed(NamedTuple):
    """A tape, and every column that is pushed back through it.

    Attributes:
        tape: of the forward pass.
        sweep: `f` of every leaf layer for column number i, from one sweep down.
        number: how many columns there are.
        m: number of examples.
        positions: how many axes of positions count as examples.
        meet: whether positions may meet on the way down, so that a column is of one position alone.
    """

    tape: Tree
    sweep: Callable[[LeafFunction, Any], Tree]
    number: int
    m: int
    positions: int
    meet: bool = False


def propagated(net: AnyLayer, loss: Loss, params: Params, x: Any, y: Any, kind: Kind, key: jax.Array | None) -> Pushed:
    """One forward pass, and what a kind of curvature pushes back."""
    x, segments = arguments.unpacked(x)
    if y is None:
        arguments.check_loss(loss)
        params, x, _ = arguments.checked_input(net, params, x)
        arguments.refuse_non_finite("x", x)
    else:
        params, x, y, *_ = arguments.checked_batch(net, loss, params, x, y, segments=segments)
    arguments.refuse_mixing(net)
    output, tape = layer_forward(net, params, x, Context(None, segments))
    return pushed(net, params, tape, columns(loss, output, y, kind, key), kind)


def columns(loss: Loss, output: jax.Array, y: jax.Array | None, kind: Kind, key: jax.Array | None) -> jax.Array:
    """What to push back, stacked in front: (K, *output.shape)."""
    if kind == "empirical":
        if y is None:
            raise ValueError("y: kind 'empirical' is made of the gradients at the true targets. Give y.")
        return loss.delta(output, y)[None]
    function = function_of(loss, kind)
    if kind == "sampled":
        return loss.delta(output, function(key, output))[None]
    made: jax.Array = function(output, y)
    if made.shape[1:] != output.shape:
        raise ValueError(
            f"{loss}: hessian_columns gives shape {made.shape}, expected (C, *{output.shape}): every column is "
            "shaped like the output."
        )
    return made


def function_of(loss: Loss, kind: Kind) -> Callable[..., jax.Array]:
    """The loss's function that a kind of curvature is made of."""
    name = {"ggn": "hessian_columns", "sampled": "sample", "empirical": "delta"}[kind]
    function: Any = getattr(loss, name, None)
    if function is None:
        raise TypeError(
            f"loss: {loss} has no {name}, which this kind of curvature is made of. (AbsoluteError has no "
            "Gauss-Newton matrix: its second derivative is 0 wherever there is one.) Use another loss, such as "
            "SquaredError(), or what is made of true targets: kind 'empirical', fn.empirical_fisher_diagonal."
        )
    return function


def pushed(net: AnyLayer, params: Params, tape: Tree, columns: jax.Array, kind: Kind) -> Pushed:
    """The columns pushed back.

    A column is of one output of one position. Columns of all positions go together only where positions do not
    meet on the way down: there their gradients would add up before they are squared. Drawn targets
    may go together everywhere, since what meets is independent and has mean 0.
    """
    K, m, *positions = columns.shape[:-1]
    by_position = getattr(net, "by_position", False)
    passes = 1 if by_position or kind != "ggn" else math.prod(positions)

    def sweep(f: LeafFunction, i: Any) -> Tree:
        column = columns[i // passes]
        if passes > 1:
            here = jnp.arange(passes) == i % passes
            column = jnp.where(here.reshape(1, *positions, 1), column, 0)
        return pull(net, f, params, tape, column)[1]

    # The empirical gradient of an example is that of all its positions together.
    return Pushed(tape, sweep, K * passes, m, len(positions) if by_position and kind != "empirical" else 0, passes > 1)


def summed(net: AnyLayer, pushed: Pushed, each: LeafFunction, last: LeafFunction, several: bool = False) -> Tree:
    """`last(leaf, tape, sums, deltas)` at every leaf layer: sums over the columns of what `each` gave there.

    Of the deltas that `last` is handed only the shapes are a column's; they hold zeros.

    One column after the other: measured faster than all of them side by side, whose deltas no cache
    holds, and in the memory of one. `several` small ones in each round of the loop are faster still, where `each`
    makes little.
    """

    def of(i: Any) -> Tree:
        return pushed.sweep(lambda leaf, tape, deltas: each(leaf, folded(tape), folded(deltas)), i)

    def folded(tree: Tree) -> Tree:
        return _as_examples(tree, pushed.positions)

    def add(sums: Tree, i: jax.Array) -> tuple[Tree, None]:
        return jax.tree.map(jnp.add, sums, of(i)), None

    if pushed.number == 1:
        sums = of(0)
    else:
        shapes = jax.eval_shape(of, 0)
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        room = AT_ONCE // max(sum(s.size for s in jax.tree.leaves(shapes)), 1)
        unroll = min(max(room, 1), MOST, pushed.number) if several and not pushed.meet else 1
        sums, _ = jax.lax.scan(add, zeros, jnp.arange(pushed.number), unroll=unroll)
    shapes = jax.eval_shape(lambda: pushed.sweep(deltas_alone, 0))
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def at_leaf(leaf: Layer, tape: Tree, sums: Tree, _: Tree, zeros: Tree) -> Tree:
        return last(leaf, folded(tape), sums, folded(zeros))

    return contract(net, at_leaf, pushed.tape, sums, pushed.tape, zeros)


def _as_examples(tree: Tree, positions: int) -> Tree:
    """Tape or deltas with this many axes of positions taken for examples."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[1 + positions :]), tree) if positions else tree


def check_kind(kind: str, kinds: tuple[str, ...]) -> None:
    scalars.choice("kind", kind, kinds)


def check_key(kind: str, key: Any) -> None:
    if kind != "sampled" and key is not None:
        raise ValueError(f"key: kind {kind!r} draws no random numbers, so a key has no use. Leave key out.")
    if kind == "sampled" and not (arguments.is_key(key) and typed(key).ndim == 0):
        raise TypeError(
            f"key: kind 'sampled' draws targets. Give one, jax.random.key(seed); got {arguments.shown(key)}."
        )
