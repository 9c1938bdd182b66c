"""What must not matter: parameters that backward may not read, a key that is not declared, another segment.

Another learning rule hands `backward` other parameters than the forward pass had. So the slopes come from the tape,
and the parameters do no more than multiply: moved alone, one entry θ changes what `backward` gives as
Σ_k φ_k(θ) c_k(tape, δ) with few functions φ_k, the same ones for all examples. θ itself is one, and its powers where
a recurrent layer uses it more than once; softplus(θ), or v/‖v‖ and 1/‖v‖, where the weight is made of the parameter.
A slope that is made again, such as tanh'(x θ), is another function of θ for each example.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from funcnet._core import arguments
from funcnet._core.context import Context
from funcnet._core.protocols import AnyLayer, Params, Tree
from funcnet._core.walkers import gradient_of_leaf, layer_forward, leaves, named_params, pull
from funcnet.check.comparisons import Failures, agreement
from funcnet.check.passes import Trial, floating
from funcnet.check.reports import Law

BIASES = "backward does not read additive parameters (b)"
REMADE = "backward makes nothing of the forward pass again from the parameters"
KEY = "without a declared key the output does not depend on one"
SEGMENTS = "another segment's input changes nothing"

MOVES = np.sign(np.linspace(-1, 1, 48)) * np.square(np.cos(np.pi * (np.arange(48) + 0.5) / 48))
"""How far an entry is moved, closer together near 0: times `FURTHEST`, times 1 and its own size."""

FURTHEST, ENTRIES = 8, 2  # `ENTRIES` of each parameter are moved, those of the largest gradients
DEGREE, WAYS, NOISE = 7, 3, 1e-8  # powers of one entry; other functions of it; what rounding is, beside the largest
FEW = 2  # positions along an axis, to keep a recurrent layer's powers low


def laws_of_backward(trial: Trial) -> tuple[Law, Law]:
    """`backward` on the tapes of the parameters, with others in their place."""
    flat, unravel = ravel_pytree(trial.params)  # as flat as the tree's leaves in order
    names = [name for name, _ in named_params(trial.params)]
    if not flat.size:
        return Law(BIASES, True, "no parameters"), Law(REMADE, True, "no parameters")
    shifts = jax.tree_util.tree_map_with_path(_where_bias, trial.params)
    biases = np.concatenate([shift.ravel() for shift in jax.tree.leaves(shifts)])
    at = np.asarray(flat)
    passes, short = _short_passes(trial)
    entries = _largest_entries(trial.first.grads)
    rows = [(0, 0.0, 0.0), (0, 0.0, 1.0)]
    rows += [(k, FURTHEST * (1 + abs(at[k])) * move, 0.0) for _, k in entries for move in MOVES]
    index, steps, shares = map(np.asarray, zip(*rows))

    def moved(row: Any) -> jax.Array:
        k, step, share = row
        params = unravel(jnp.asarray(at).at[k].add(step) + share * jnp.asarray(biases))
        return jnp.concatenate([_numbers(trial.layer, params, tape, jnp.asarray(delta)) for tape, delta in passes])

    with jax.debug_nans(False), jax.debug_infs(False):
        table = np.asarray(jax.jit(lambda rows: jax.lax.map(moved, rows))((index, steps, shares)))
    if biases.any():
        read = agreement(BIASES, table[1], table[0])
        if not read.held:
            read = Law(BIASES, False, "other biases give another error signal or gradient (`b` names what is added)")
    else:
        read = Law(BIASES, True, "no parameter is called b")
    if not short:
        return read, Law(REMADE, True, "not tried: the layer takes no fewer positions")
    ways: dict[str, int] = {}
    for (number, _), part in zip(entries, table[2:].reshape(len(entries), len(MOVES), -1), strict=True):
        ways[names[number]] = max(ways.get(names[number], 0), _ways(part))
    return read, _remade_law(ways)


def _remade_law(ways: dict[str, int]) -> Law:
    name = max(ways, key=lambda name: ways[name])
    if ways[name] > WAYS:
        evidence = f"one entry of {name}, moved alone, changes the examples in {ways[name]} ways and not by a factor"
        return Law(REMADE, False, evidence)
    return Law(REMADE, True, "every parameter multiplies what the tape holds")


def _ways(table: np.ndarray) -> int:
    """How many functions of the entry, beside its powers, the numbers (moves, numbers) are made of."""
    finite = np.isfinite(table).all(1)  # √θ has no value below 0
    if finite.sum() <= 2 * DEGREE:
        return 0
    table, moves = table[finite], MOVES[finite]
    powers, _ = np.linalg.qr(np.polynomial.chebyshev.chebvander(moves, DEGREE))
    rest = np.linalg.svd(table - powers @ (powers.T @ table), compute_uv=False)
    return int(np.sum(rest > NOISE * np.linalg.norm(table)))


def _numbers(layer: AnyLayer, params: Params, tape: Tree, delta: jax.Array) -> jax.Array:
    """Some sums over the error signal of each example, and over the gradient of each parameter."""
    input_delta, grads = pull(layer, gradient_of_leaf, params, tape, delta)
    parts = [_sums(a[None], 8).ravel() for a in jax.tree.leaves(grads)]
    if floating(input_delta):
        parts.append(_sums(input_delta, 4).ravel())
    return jnp.concatenate(parts)


def _sums(values: jax.Array, most: int) -> jax.Array:
    """(rows, …) as (rows, most or fewer) sums with random weights."""
    rows = values.reshape(len(values), -1)
    weights = np.random.default_rng(0).uniform(0.5, 1.5, rows.shape[1])
    padded = jnp.pad(rows * weights[None], ((0, 0), (0, -rows.shape[1] % most)))
    return padded.reshape(len(rows), most, -1).sum(-1)


def segments_law(trial: Trial) -> Law:
    """The first half of the positions is one segment, the second another: neither output nor error signal passes.

    Where the output has no positions of its own, the second half is padding.
    """
    takes = [getattr(leaf, "takes", None) or () for _, leaf in leaves(trial.layer)]
    axes = trial.x.ndim - (2 if floating(trial.x) else 1)
    size = trial.x.shape[1] if axes == 1 else 1
    if not any("segments" in names for names in takes) or size < 2:
        return Law(SEGMENTS, True, "not declared" if size > 1 else "not tried: x has not one axis of positions")
    start = size // 2
    keeps = trial.first.y.shape[1:2] == (size,)
    numbers = np.where(np.arange(size) < start, 1, 2 if keeps else 0).astype(np.int32)
    segments = np.broadcast_to(numbers, (len(trial.x), size))
    mixed = np.concatenate([trial.x[:, :start], trial.other_x[:, start:]], 1)

    def halves(x: jax.Array) -> tuple[jax.Array, ...]:
        y, tape = layer_forward(trial.layer, trial.params, x, Context(trial.keys, jnp.asarray(segments)))
        delta = jnp.ones_like(y)
        if keeps:
            rows = jnp.asarray(segments).reshape(*segments.shape, *[1] * (y.ndim - 2))
            y, delta = y[:, :start], jnp.where(rows == 1, delta, 0)
        input_delta, _ = trial.layer.backward(trial.params, tape, delta)
        return y, input_delta[:, :start], input_delta[:, start:]

    run = jax.jit(halves)
    y, first, second = run(trial.x)
    actual = *run(mixed)[:2], second
    return agreement(SEGMENTS, actual, (y, first, np.zeros(second.shape, second.dtype)), 1.0)


def _short_passes(trial: Trial) -> tuple[list[tuple[Tree, np.ndarray]], bool]:
    """Tape and δ of both passes, with few positions; or with all, where the layer takes no fewer and they are many."""
    inputs, short = (trial.x, trial.other_x), True
    positions = trial.x.shape[1:-1] if floating(trial.x) else trial.x.shape[1:]
    cut = (slice(None), *(slice(0, FEW) for _ in positions))

    def output(x: jax.Array) -> tuple[jax.Array, Tree]:
        return layer_forward(trial.layer, trial.params, x, Context(trial.keys))

    if any(size > FEW for size in positions):
        try:
            jax.eval_shape(output, trial.x[cut])
            inputs = trial.x[cut], trial.other_x[cut]
        except Failures:
            short = False
    passes, run = [], jax.jit(output)
    for x, seed in zip(inputs, (0, 1)):
        y, tape = run(x)
        passes.append((tape, np.random.default_rng(seed).normal(size=y.shape)))
    return passes, short


def _largest_entries(grads: Tree) -> list[tuple[int, int]]:
    """(parameter's number, place among all entries) of the entries of each that have the largest gradients."""
    places, start = [], 0
    for number, grad in enumerate(jax.tree.leaves(grads)):
        largest = np.argsort(-np.abs(np.asarray(grad)).ravel())[:ENTRIES]
        places += [(number, start + int(k)) for k in largest]
        start += grad.size
    return places


def _where_bias(path: tuple[Any, ...], leaf: jax.Array) -> np.ndarray:
    """What to add to a bias; 0 for other parameters."""
    is_bias = [getattr(step, "key", "") for step in path][-1:] == ["b"]
    return np.random.default_rng(0).normal(size=leaf.shape) if is_bias else np.zeros(leaf.shape)


def key_law(trial: Trial) -> Law:
    """A key for each example, handed to layers of which none declares that it takes one."""
    if trial.keys is not None or arguments.draws(trial.layer):
        return Law(KEY, True, "a key is declared")
    keys = jax.random.split(jax.random.key(0), len(trial.x))
    y = jax.jit(lambda params, x, keys: layer_forward(trial.layer, params, x, Context(keys))[0])(
        trial.params, trial.x, keys
    )
    law = agreement(KEY, y, trial.first.y)
    return law if law.held else Law(KEY, False, 'with a key the output is another: declare takes = ("key",)')
