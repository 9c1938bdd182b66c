"""Sequences: a GPT's training step, its gradient, and its per-example quantities; deep stacks; recurrent layers.

A GPT of 4 blocks × 128 features, context 128, 16 sequences of random tokens a batch, float32. All in one run,
interleaved: once a round each, in an order drawn anew for each round. With funcnet and its extra `bench` installed,
from the repository's root:

    python examples/benchmarks/sequences.py                  ten minutes or so
    python examples/benchmarks/sequences.py --quick          few rounds and steps: does it run?
    python examples/benchmarks/sequences.py --tables "alone deep" --json figures.json

    ms          one step, or one call: the median over the rounds
    ratio       over funcnet's own: the median of the ratios within the rounds, and in brackets their quartiles
    flops       floating-point operations as XLA counts them, all turns of loops included where funcnet has the loop
    memory      MiB that a program needs beside arguments and results
    compile     seconds to trace and compile it

"jax.grad" differentiates the same network in plain JAX with `jax.nn.dot_product_attention` (sequence_networks.py), on
the same parameters.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from clocks import clock, compiled, machine, parser_of, report, write
from jax import lax
from sequence_networks import LOSS, RATE, Shape, plain_cost, plain_recurrent, plain_stacked_cost, tokens
from sequence_peers import peers_of

import funcnet as fn

OPTIMIZER = optax.adam(RATE)
SHORT, LONG = Shape(), Shape(length=512, batch_size=4)


def main() -> None:
    parser = parser_of(__doc__, rounds=9)
    parser.add_argument("--steps", type=int, default=20, help="batches of a timed training; 20 unless told")
    parser.add_argument("--tables", metavar="TEXT", default="training alone deep example recurrent classes")
    chosen = parser.parse_args()
    on = machine()
    rounds, steps = (2, 2) if chosen.quick else (chosen.rounds, chosen.steps)
    tables: dict[str, Callable[[int], dict[str, Any]]] = {
        "training": partial(training, SHORT, steps),
        "alone": partial(several, (partial(alone, SHORT), partial(alone, LONG))),
        "deep": partial(several, tuple(partial(deep, remat) for remat in (False, True))),
        "example": partial(per_example, SHORT),
        "recurrent": partial(several, tuple(partial(recurrent, kind) for kind in ("GRU", "LSTM"))),
        "classes": classes,
    }
    write(chosen.json, on, {name: table(rounds) for name, table in tables.items() if name in chosen.tables})


def several(tables: tuple[Callable[[int], dict[str, Any]], ...], rounds: int) -> list[dict[str, Any]]:
    return [table(rounds) for table in tables]


def started(net: Any) -> Any:
    return jax.jit(lambda key: fn.init(net, key))(jax.random.key(0))


# ------------------------------------------------------------------ a training step
def training(shape: Shape, steps: int, rounds: int) -> dict[str, Any]:
    """Seconds of a step, of whole trainings of so many."""
    print(f"\n{shape}")
    (x, y), net = tokens(shape, steps), shape.net()
    params, on_device = started(net), (jnp.asarray(x), jnp.asarray(y))
    batches = tuple(a.reshape(steps, shape.batch_size, shape.length) for a in on_device)

    def by_fit() -> None:
        state = fn.train_state(OPTIMIZER, params, jax.random.key(1))
        state, _ = fn.fit(net, LOSS, OPTIMIZER, state, on_device, epochs=1, batch_size=shape.batch_size)
        jax.block_until_ready(state.params)

    def step(carry: Any, batch: Any) -> tuple[Any, None]:
        params, opt_state = carry
        updates, opt_state = OPTIMIZER.update(jax.grad(partial(plain_cost, shape))(params, *batch), opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), None

    loop, one = jax.jit(lambda carry: lax.scan(step, carry, batches)[0]), jax.jit(lambda *pair: step(*pair)[0])

    def step_by_step() -> None:
        carry = params, OPTIMIZER.init(params)
        for i in range(steps):
            carry = one(carry, tuple(a[i] for a in batches))
        jax.block_until_ready(carry)

    runs: dict[str, Callable[[], Any]] = {
        "fn.fit": by_fit,
        "jax.grad in a loop": lambda: jax.block_until_ready(loop((params, OPTIMIZER.init(params)))),
        "jax.grad step by step": step_by_step,
    }
    runs |= dict(peers_of("training", shape, x, y, steps))
    return report("training, a step", {name: clock(run, steps) for name, run in runs.items()}, rounds)


# ------------------------------------------------------------------ one gradient alone
def alone(shape: Shape, rounds: int) -> dict[str, Any]:
    """A gradient by itself, and the cost alone."""
    print(f"\n{shape}")
    net = shape.net()

    def cost(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return fn.cost(net, LOSS, params, x, y)

    plain = partial(plain_cost, shape)
    functions = {
        "fn.value_and_grad": lambda params, x, y: fn.value_and_grad(net, LOSS, params, x, y),
        "the same, remat=True": of_net(shape.net(remat=True)),
        "jax.value_and_grad": lambda params, x, y: jax.value_and_grad(plain)(params, x, y),
        "jax.value_and_grad of fn.cost": jax.value_and_grad(cost),
        "fn.cost": cost,
        "the same cost, plain": plain,
    }
    return timed("one gradient, or one cost, alone", functions, started(net), tokens(shape), rounds)


def of_net(net: Any) -> Callable[..., Any]:
    return lambda params, x, y: fn.value_and_grad(net, LOSS, params, x, y)


def timed(title: str, functions: dict[str, Callable[..., Any]], params: Any, batch: Any, rounds: int) -> dict[str, Any]:
    programs, notes = {}, {}
    for name, function in functions.items():
        run, notes[name] = compiled(function, params, *map(jnp.asarray, batch))
        programs[name] = clock(run, 1)
    return report(title, programs, rounds, notes)


# ------------------------------------------------------------------ deep stacks
def deep(remat: bool, rounds: int) -> dict[str, Any]:
    """48 blocks in one loop, their tapes kept or made again; what compiling 4 of them takes stands beside."""
    shape = Shape(depth=48, batch_size=4)
    print(f"\n{shape}, repeat=True, remat={remat}")
    few = shape._replace(depth=4)
    _, note = compiled(of_net(few.net(repeat=True, remat=remat)), started(few.net(repeat=True)), *tokens(few))
    print(f"  of 4 blocks: {note}")
    net, plain = shape.net(repeat=True, remat=remat), partial(plain_stacked_cost, shape, remat=remat)
    functions = {
        "fn.value_and_grad": of_net(net),
        "jax.value_and_grad": lambda params, x, y: jax.value_and_grad(plain)(params, x, y),
    }
    return timed("one gradient", functions, started(net), tokens(shape), rounds)


# ------------------------------------------------------------------ per example
def per_example(shape: Shape, rounds: int) -> dict[str, Any]:
    """Norms, clipped gradient and moments, over the plain gradient."""
    print(f"\n{shape}, not tied")
    net = shape.net(tied=False)

    def of(f: Callable[[fn.Backprop], Any]) -> Callable[..., Any]:
        def run(params: Any, x: jax.Array, y: jax.Array) -> Any:
            bp = fn.backprop(net, LOSS, params, x, y)
            return bp.costs.sum(), f(bp)

        return run

    def clipped_by_vmap(params: Any, x: jax.Array, y: jax.Array) -> Any:
        def one(x: jax.Array, y: jax.Array) -> Any:
            return jax.grad(lambda params: fn.cost(net, LOSS, params, x[None], y[None], reduction="sum"))(params)

        grads = jax.vmap(one)(x, y)
        squares = sum(jnp.sum(jnp.square(g.reshape(len(x), -1)), 1) for g in jax.tree.leaves(grads))
        factor = jnp.minimum(1, 1 / jnp.sqrt(squares))
        return jax.tree.map(lambda g: jnp.tensordot(factor, g, 1), grads)

    functions = {
        "plain gradient": of_net(net),
        "norms": of(lambda bp: fn.example_square_norms(net, bp)),
        "clipped": of(lambda bp: fn.clipped_gradient(net, bp, 1.0)),
        "moments": of(lambda bp: fn.gradient_moments(net, bp)),
        "vmap(grad): clipped": clipped_by_vmap,
    }
    x, y = tokens(shape)
    programs, notes, params = {}, {}, started(net)
    for name, function in functions.items():
        run, notes[name] = compiled(function, params, jnp.asarray(x), jnp.asarray(y))
        programs[name] = clock(run, 1)
    programs |= {name: clock(run, 1) for name, run in peers_of("example", shape, x, y)}
    return report("per example", programs, rounds, notes)


# ------------------------------------------------------------------ recurrent layers
def recurrent(kind: str, rounds: int) -> dict[str, Any]:
    """∂(Σ y²) by parameters and input: 32 sequences of 128 positions, 64 features, 128 units."""
    layer = getattr(fn, kind)(64, 128)
    x = np.random.default_rng(0).normal(size=(32, 128, 64)).astype(np.float32)
    print(f"\n{layer}, 32 sequences of 128")

    def by_hand(params: Any, x: jax.Array) -> Any:
        y, tape = layer.forward(params, x)
        input_delta, deltas = layer.backward(params, tape, 2 * y)
        return layer.gradient(tape, deltas), input_delta

    def automatic(params: Any, x: jax.Array) -> Any:
        return jax.grad(lambda params, x: jnp.sum(jnp.square(plain_recurrent(kind, params, x))), (0, 1))(params, x)

    programs, notes, params = {}, {}, started(layer)
    for name, function in (("by hand", by_hand), ("jax.grad", automatic)):
        run, notes[name] = compiled(function, params, jnp.asarray(x))
        programs[name] = clock(run, 1)
    programs |= {name: clock(run, 1) for name, run in peers_of("recurrent", kind, x, 128)}
    return report("forward and backward", programs, rounds, notes)


# ------------------------------------------------------------------ many classes
def classes(rounds: int, rows: int = 128, number: int = 32768) -> dict[str, Any]:
    """Cross-entropy and its derivative for a large vocabulary, beside targets written out as vectors."""
    print(f"\ncross-entropy, {rows} rows of {number} classes")
    logits = np.random.default_rng(0).normal(size=(rows, number)).astype(np.float32)
    y = np.arange(rows) * 97 % number

    def by_class(logits: jax.Array, y: jax.Array) -> Any:
        return LOSS.value(logits, y), LOSS.delta(logits, y)

    def by_vectors(logits: jax.Array, y: jax.Array) -> Any:
        return by_class(logits, jax.nn.one_hot(y, number, dtype=logits.dtype))

    return timed("cost and derivative", {"classes": by_class, "vectors": by_vectors}, logits, (y,), rounds)


if __name__ == "__main__":
    main()
