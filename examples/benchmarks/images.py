"""Image networks: a training step, a gradient alone, and per-example quantities, by funcnet, `jax.grad` and PyTorch.

A LeNet (conv 32, conv 64, two pools, dense) and a small ResNet (16-32-64 features, GroupNorm), float32, random images.
All in one run, interleaved: once a round each, in an order drawn anew for each round. With funcnet and its extra
`bench` installed, from the repository's root:

    python examples/benchmarks/images.py                     half an hour or so
    python examples/benchmarks/images.py --quick             few rounds and steps: does it run?
    python examples/benchmarks/images.py --networks ResNet --json figures.json

    ms          one step, or one call: the median over the rounds
    ratio       over funcnet's own: the median of the ratios within the rounds, and in brackets their quartiles
    flops       floating-point operations as XLA counts them, without loops around convolutions, where it counts wrongly
    memory      MiB that a program needs beside arguments and results
    compile     seconds, the first time

"jax.grad" differentiates the same network in plain lax and jax.nn (image_networks.py); "in a loop" is one lax.scan over
all batches, as `fn.fit` is, "step by step" a jitted program a batch. Where in a loop takes long it is given few steps.
PyTorch runs on the CPU, channels last.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from clocks import clock, compiled, machine, parser_of, report, write
from image_networks import CASES, LOSS, RATE, Case, data, plain_cost
from image_peers import peers_of
from jax import lax

import funcnet as fn

FEW = 4  # steps of the loop that is slow
OPTIMIZER = optax.adam(RATE)


def main() -> None:
    parser = parser_of(__doc__, rounds=7)
    parser.add_argument("--steps", type=int, default=30, help="batches of a timed training; 30 unless told")
    parser.add_argument("--networks", metavar="TEXT", default="", help="only those whose name contains this: ResNet")
    parser.add_argument("--tables", metavar="TEXT", default="training alone example", help="which tables")
    chosen = parser.parse_args()
    on = machine()
    rounds, steps = (2, FEW) if chosen.quick else (chosen.rounds, chosen.steps)
    results: dict[str, Any] = {}
    for case in CASES:
        if chosen.networks not in case.name:
            continue
        print(f"\n{case.name}", flush=True)
        tables = {"training": partial(training, steps=steps), "alone": alone, "example": per_example}
        for name, table in tables.items():
            if name in chosen.tables:
                results[f"{case.name}, {name}"] = table(case, rounds=rounds)
    write(chosen.json, on, results)


# ------------------------------------------------------------------ a training step
def training(case: Case, rounds: int, steps: int) -> dict[str, Any]:
    """Seconds of a step, of whole trainings of so many."""
    x, y = data(case, steps)
    params = fn.init(case.net, jax.random.key(0))
    on_device = jnp.asarray(x), jnp.asarray(y)
    scan, step = plain_loop(case), plain_step(case)
    batches = [tuple(a[i * case.batch_size :][: case.batch_size] for a in on_device) for i in range(steps)]
    stacked = tuple(a[: FEW * case.batch_size].reshape(FEW, case.batch_size, *a.shape[1:]) for a in on_device)

    def by_fit() -> None:
        state = fn.train_state(OPTIMIZER, params, jax.random.key(1))
        state, _ = fn.fit(case.net, LOSS, OPTIMIZER, state, on_device, epochs=1, batch_size=case.batch_size)
        jax.block_until_ready(state.params)

    def step_by_step() -> None:
        carry = params, OPTIMIZER.init(params)
        for batch in batches:
            carry = step(carry, batch)
        jax.block_until_ready(carry)

    runs: dict[str, tuple[Callable[[], Any], int]] = {
        "fn.fit": (by_fit, steps),
        "jax.grad in a loop": (lambda: jax.block_until_ready(scan((params, OPTIMIZER.init(params)), stacked)), FEW),
        "jax.grad step by step": (step_by_step, steps),
    }
    runs |= {name: (run, steps) for name, run in peers_of("training", case, x, y, steps)}
    return report("training, a step", {name: clock(run, number) for name, (run, number) in runs.items()}, rounds)


def plain_step(case: Case) -> Any:
    return jax.jit(partial(_step, case))


def plain_loop(case: Case) -> Any:
    return jax.jit(lambda carry, batches: lax.scan(lambda c, b: (_step(case, c, b), None), carry, batches)[0])


def _step(case: Case, carry: Any, batch: Any) -> Any:
    params, opt_state = carry
    updates, opt_state = OPTIMIZER.update(jax.grad(plain_cost(case))(params, *batch), opt_state, params)
    return optax.apply_updates(params, updates), opt_state


# ------------------------------------------------------------------ one gradient alone
def alone(case: Case, rounds: int) -> dict[str, Any]:
    """A gradient outside of any loop: time, operations, memory and compilation; and the cost alone."""
    x, y = map(jnp.asarray, data(case, 1))
    params = fn.init(case.net, jax.random.key(0))

    def by_hand(params: Any, x: jax.Array, y: jax.Array) -> Any:
        return fn.value_and_grad(case.net, LOSS, params, x, y)

    def cost(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return fn.cost(case.net, LOSS, params, x, y)

    functions = {
        "fn.value_and_grad": by_hand,
        "jax.value_and_grad": jax.value_and_grad(plain_cost(case)),
        "jax.value_and_grad of fn.cost": jax.value_and_grad(cost),
        "fn.cost": cost,
        "the same cost, plain": plain_cost(case),
    }
    programs, notes = {}, {}
    for name, function in functions.items():
        run, notes[name] = compiled(function, params, x, y)
        programs[name] = clock(run, 1)
    return report("one gradient, or one cost, alone", programs, rounds, notes)


# ------------------------------------------------------------------ per example
def per_example(case: Case, rounds: int, m: int = 128) -> dict[str, Any]:
    """Norms, clipped gradient and moments, over the plain gradient; batches of 128."""
    x, y = data(case._replace(batch_size=m), 1)
    params, net = fn.init(case.net, jax.random.key(0)), case.net

    def of(f: Callable[[fn.Backprop], Any]) -> Callable[..., Any]:
        def run(params: Any, x: jax.Array, y: jax.Array) -> Any:
            bp = fn.backprop(net, LOSS, params, x, y)
            return bp.costs.sum(), f(bp)

        return run

    functions = {
        "plain gradient": lambda params, x, y: fn.value_and_grad(net, LOSS, params, x, y),
        "norms": of(lambda bp: fn.example_square_norms(net, bp)),
        "clipped": of(lambda bp: fn.clipped_gradient(net, bp, 1.0)),
        "moments": of(lambda bp: fn.gradient_moments(net, bp)),
        "vmap(grad): norms": norms_of_vmap(case),
    }
    programs, notes = {}, {}
    for name, function in functions.items():
        run, notes[name] = compiled(function, params, jnp.asarray(x), jnp.asarray(y))
        programs[name] = clock(run, 1)
    programs |= {name: clock(run, 1) for name, run in peers_of("example", case, x, y, 1)}
    return report("per example", programs, rounds, notes)


def norms_of_vmap(case: Case) -> Callable[..., Any]:
    def one(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        grads = jax.grad(plain_cost(case))(params, x[None], y[None])
        return sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(grads))

    return jax.vmap(one, (None, 0, 0))


if __name__ == "__main__":
    main()
