"""What contractions of one backward pass cost, against the plain gradient: by funcnet and by other libraries.

Norms, clipped and private gradients, variance, Gram matrix and curvature, each with the forward and backward pass it
needs, over `fn.value_and_grad`. All are jitted, in float32, data as arguments, and measured in one run, interleaved:
once a round each, in an order drawn anew for each round. With funcnet installed, from the repository's root:

    python examples/benchmarks/per_example.py                        all networks, half an hour or so
    python examples/benchmarks/per_example.py --quick                few rounds: does it run?
    python examples/benchmarks/per_example.py --networks 512-512 --json figures.json

    time    one call over one of the library's own plain gradient: the median of the ratios within the rounds,
            and in brackets their quartiles. "plain again" is a second compilation of the plain gradient.
    goal    what it ought to be at most, where there is one
    flops   the same ratio of floating-point operations, as the compiler counts them; a loop's body times its length
    memory  the same ratio of bytes that a program needs beside arguments and results. Below the table that of clipping
            in a training step, which takes its batch from the data: a copy of x may lie in its place there.
    ms      one call, the median

    telemetry       an epoch of fn.fit with telemetry every 10 steps over one without, less 1
    vmap(grad)      plain JAX: the gradients of all examples, and what is made of them
    Opacus, BackPACK    PyTorch on the CPU, eager, each program with one thread or as many as PyTorch takes by itself,
                    whichever was faster before. Their plain gradient is PyTorch's, without them.

A peer's line ends with how many times faster funcnet is, in milliseconds and by the two ratios.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from clocks import LEARNING_RATE, LOSS, Run, against, epochs_to_fill, interleaved, machine, parser_of, per_epoch, write
from jax.extend.core import jaxpr_as_fun
from per_example_peers import Peer, Program, peers

import funcnet as fn

PLAIN, EVERY, BATCHES = "plain gradient", 10, 40


class Case(NamedTuple):
    """A network and a batch, and what the curvature and the Gram matrix ought to cost."""

    sizes: tuple[int, ...]
    m: int
    positions: tuple[int, ...]
    goals: dict[str, float]

    @property
    def name(self) -> str:
        return f"{'-'.join(map(str, self.sizes))}, batch {self.m}" + "".join(f", {t} positions" for t in self.positions)

    def batch(self, rows: int) -> tuple[np.ndarray, np.ndarray]:
        random, shape = np.random.default_rng(0), (rows, *self.positions)
        x = random.standard_normal((*shape, self.sizes[0]), dtype=np.float32)
        return x, random.integers(0, self.sizes[-1], shape, dtype=np.int32)


DENSE = {"norms": 0.7, "clipped": 1.05, "private": 1.05, "moments": 1.4}
SEQUENCE = {"norms": 1.0, "clipped": 1.4, "private": 1.4, "moments": 1.4}


def products(factors: float, diagonal: float, gram: float) -> dict[str, float]:
    kinds = {f"Kronecker factors, {kind}": factors for kind in ("empirical", "sampled")}
    return DENSE | {"Gram": gram, "GGN diagonal, exact": diagonal} | kinds


CASES = (
    Case((784, 128, 10), 128, (), DENSE),
    Case((784, 128, 10), 1024, (), products(2.0, 1.1, 3.0)),
    Case((784, 512, 512, 10), 128, (), DENSE),
    Case((784, 512, 512, 10), 1024, (), products(1.5, 3.3, 1.8)),
    Case((256, 256, 256, 10), 32, (128,), SEQUENCE),
)


def quantities(net: fn.Chain, m: int) -> dict[str, Callable[..., Any]]:
    """Functions of parameters, x, y and a key."""

    def of(f: Callable[..., Any]) -> Callable[..., Any]:
        def with_backprop(params: Any, x: jax.Array, y: jax.Array, key: jax.Array) -> Any:
            bp = fn.backprop(net, LOSS, params, x, y)
            return bp.costs.sum(), f(net, bp, key)

        return with_backprop

    def plain(params: Any, x: jax.Array, y: jax.Array, key: jax.Array) -> Any:
        return fn.value_and_grad(net, LOSS, params, x, y)

    def curvature(f: Callable[..., Any], kind: str) -> Callable[..., Any]:
        def at(params: Any, x: jax.Array, y: jax.Array, key: jax.Array) -> Any:
            return f(net, LOSS, params, x, y, kind=kind, key=key if kind == "sampled" else None)

        return at

    private = {"max_norm": 1.0, "noise_multiplier": 1.0, "expected_batch_size": m}
    return {
        PLAIN: plain,
        "plain again": plain,
        "norms": of(lambda net, bp, key: fn.example_square_norms(net, bp)),
        "clipped": of(lambda net, bp, key: fn.clipped_gradient(net, bp, 1.0)),
        "private": of(lambda net, bp, key: fn.private_gradient(net, bp, key, **private)),
        "moments": of(lambda net, bp, key: fn.gradient_moments(net, bp)),
        "Gram": of(lambda net, bp, key: fn.example_gram(net, bp)),
        "GGN diagonal, exact": curvature(fn.ggn_diagonal, "exact"),
        "Kronecker factors, empirical": curvature(fn.kronecker_factors, "empirical"),
        "Kronecker factors, sampled": curvature(fn.kronecker_factors, "sampled"),
        "Kronecker factors, GGN": curvature(fn.kronecker_factors, "ggn"),
    }


def flops(program: Any, jaxpr: Any) -> float:
    """What the compiler counts in a program, and for loops, whose body it counts once, the rest of their rounds."""
    analysis = program.cost_analysis()
    found = (analysis[0] if isinstance(analysis, list) else analysis)["flops"]
    for equation in jaxpr.eqns:
        inside = equation.params.get("jaxpr")
        if equation.primitive.name == "scan":
            body = jax.jit(jaxpr_as_fun(inside)).lower(*inside.in_avals).compile()
            found += (equation.params["length"] - 1) * flops(body, inside.jaxpr)
        elif inside is not None:
            found += flops(program, getattr(inside, "jaxpr", inside)) - flops(program, jaxpr.replace(eqns=[]))
    return found


def fit_run(case: Case, net: fn.Chain, telemetry: int) -> Run:
    x, y = jax.device_put(case.batch(BATCHES * case.m))
    optimizer = optax.adam(LEARNING_RATE)
    first = fn.train_state(optimizer, fn.init(net, jax.random.key(0)), jax.random.key(1))

    def run(epochs: int) -> None:
        options = {"epochs": epochs, "batch_size": case.m, "telemetry": telemetry}
        jax.block_until_ready(fn.fit(net, LOSS, optimizer, first, (x, y), **options)[0])

    return run


def repeated(program: Program) -> Run:
    def run(calls: int) -> None:
        for _ in range(calls):
            program()

    return run


def after_one(run: Run, calls: int) -> float:
    """Seconds per call, after as many that put right what the program before it left behind (a slow one does alone)."""
    if calls > 1:
        run(calls)
    return per_epoch(run, calls)


def memory_in_step(f: Callable[..., Any], params: Any, x: jax.Array, y: jax.Array, key: jax.Array) -> int:
    """Bytes that f needs in a program which takes its batch from the data."""

    def step(params: Any, x: jax.Array, y: jax.Array, key: jax.Array, rows: jax.Array) -> Any:
        return f(params, x[rows], y[rows], key)

    program = jax.jit(step).lower(params, x, y, key, np.arange(len(x))).compile()
    return program.memory_analysis().temp_size_in_bytes


def measure(case: Case, rounds: int, turn: float) -> dict[str, Any]:
    """Every figure of one network, as plain numbers."""
    net, (x, y) = fn.mlp(case.sizes, fn.ReLU()), case.batch(case.m)
    arguments = jax.device_put((fn.init(net, jax.random.key(0)), x, y, jax.random.key(1)))
    runs: dict[str, Run] = {}
    costs: dict[str, tuple[float, int]] = {}
    for name, f in quantities(net, case.m).items():
        traced = jax.jit(f).trace(*arguments)
        program = traced.lower().compile()
        costs[name] = flops(program, traced.jaxpr.jaxpr), program.memory_analysis().temp_size_in_bytes
        runs[name] = repeated(partial(lambda program: jax.block_until_ready(program(*arguments)), program))
    functions = quantities(net, case.m)
    in_step = memory_in_step(functions["clipped"], *arguments) / memory_in_step(functions[PLAIN], *arguments)
    of_peers: list[tuple[Peer, str]] = []
    for library in peers(case.sizes, x, y):
        of_peers += [(peer, library[0].name) for peer in library]
        runs |= {peer.name: repeated(peer.run) for peer in library}
    fits = {"fit": fit_run(case, net, 0), "telemetry": fit_run(case, net, EVERY)}

    found = interleaved(
        {name: partial(after_one, run, epochs_to_fill(turn, run)) for name, run in runs.items()}, rounds
    )
    epochs = epochs_to_fill(10 * turn, fits["fit"])
    for run in fits.values():
        run(epochs)
    in_fit = interleaved({name: partial(per_epoch, run, epochs) for name, run in fits.items()}, rounds)
    row = {
        name: {
            "time": against(found, name, PLAIN).tolist(),
            "ms": 1e3 * float(np.median(found[name])),
            "flops": used / costs[PLAIN][0],
            "memory": memory / max(costs[PLAIN][1], 1),
            "goal": case.goals.get(name),
        }
        for name, (used, memory) in costs.items()
    }
    beside = {
        peer.name: {
            "time": against(found, peer.name, base).tolist(),
            "ms": 1e3 * float(np.median(found[peer.name])),
            "faster": float(np.median(found[peer.name] / found[peer.same_as or PLAIN])),
        }
        for peer, base in of_peers
    }
    for peer, _ in of_peers:
        if peer.same_as:
            beside[peer.name]["better"] = beside[peer.name]["time"][0] / row[peer.same_as]["time"][0]
    telemetry = against(in_fit, "telemetry", "fit").tolist()
    return {"case": case.name, "funcnet": row, "in step": in_step, "telemetry": telemetry, "peers": beside}


def shown(ratios: list[float]) -> str:
    middle, low, high = ratios
    return f"{middle:8.2f}  {f'[{low:.2f}-{high:.2f}]':<17}"


def print_table(found: dict[str, Any]) -> None:
    print(f"\n{found['case']}\n{'':36}{'time':>8}  {'quartiles':<17}{'goal':>6}{'flops':>8}{'memory':>8}{'ms':>10}")
    for name, row in found["funcnet"].items():
        goal = f"{row['goal']:.2f}" if row["goal"] else ""
        missed = "*" if row["goal"] and row["time"][0] > row["goal"] else " "
        figures = f"{goal:>6}{missed}{row['flops']:7.2f}{row['memory']:8.2f}{row['ms']:10.2f}"
        print(f"  {name:<34}{shown(row['time'])}{figures}")
    middle, low, high = found["telemetry"]
    goal = f"{' ':<11}+10%{'*' if middle > 1.1 else ' '}"
    print(f"  {'telemetry in fit':<34}{middle - 1:+8.1%}  {f'[{low - 1:+.1%} {high - 1:+.1%}]':<17}{goal:>7}")
    print(f"  memory of clipping in a training step: {found['in step']:.2f}")
    for name, row in found["peers"].items():
        times = f"{row['faster']:8.1f} times the time" + (f", {row['better']:.1f} the ratio" if "better" in row else "")
        print(f"  {name:<34}{shown(row['time'])}{'':22}{row['ms']:10.2f}{times}", flush=True)


def main() -> None:
    parser = parser_of(__doc__, rounds=15)
    parser.add_argument("--networks", metavar="TEXT", default="", help="only those whose name contains this: 512-512")
    parser.add_argument("--turn", type=float, default=0.05, help="seconds that a turn lasts, one call at least")
    options: argparse.Namespace = parser.parse_args()
    rounds, turn = (3, 0.01) if options.quick else (options.rounds, options.turn)
    on, results = machine(), []
    for case in [case for case in CASES if options.networks in case.name]:
        results.append(measure(case, rounds, turn))
        print_table(results[-1])
    write(options.json, on, results)


if __name__ == "__main__":
    main()
