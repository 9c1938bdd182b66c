"""The hand-written gradient against the automatic one: what it asks of the compiler and of the machine.

Two programs compute the same cost and the same gradient from the same arguments: `fn.value_and_grad`,
which propagates backwards by hand, and `jax.value_and_grad` of `fn.cost`, which is plain JAX. Both are
compiled by `jax.jit` and measured in one run, interleaved, in float32. With funcnet installed, from the
repository's root:

    python examples/benchmarks/gradient.py                      all cells
    python examples/benchmarks/gradient.py --quick              the small networks only
    python examples/benchmarks/gradient.py --networks 2048 --json figures.json
    python examples/benchmarks/gradient.py --compilations 1     where compiling is slow, as on a GPU

Every figure is hand-written / automatic: 1.00 is a draw, below 1.00 the hand-written program needs less.

    flops, transc   floating-point operations and transcendental functions, as the compiler counts them in
                    the finished program. The same on every run of one machine and version.
    memory          bytes that the program needs beside its arguments and results, as the compiler plans them.
    trace           time to trace and lower the function, with JAX's caches cleared before. funcnet remembers
                    shapes that it has checked; both programs find these there already.
    compile         time of the compiler proper.
    time            one call, from calling until the result is there: the median over rounds of the ratios
                    within a round, in which automatic, hand-written and automatic again take turns in all
                    six orders.
    noise           automatic again / automatic in the same rounds: the median and, in brackets, the quartiles.
                    The two are compiled separately, so what differs between two compilations of one program is
                    in it. A time above the brackets is marked *: slower than automatic varies against itself.
    ms              medians of one call of each program, in milliseconds.

0/0 stands where neither program needs any, n/a where this machine's compiler does not say. On a GPU float32
products run at the precision that JAX takes by default. The last lines count how often equal networks trace,
and compare the largest cell with the speed of a bare matrix product.
"""

import argparse
import gc
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import cycle, islice, pairwise, permutations
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import funcnet as fn

NETWORKS = ((2, 3, 1), (64, 64, 10), (784, 128, 10), (784, 512, 512, 10), (784, 2048, 2048, 2048, 10))
QUICK = NETWORKS[:3]
BATCH_SIZES = (128, 1024)
ACTIVATIONS = (fn.Tanh(), fn.ReLU(), fn.GELU())
COUNTS = ("flops", "transcendentals", "memory")
CLOCKED = ("trace", "compile", "time")

SHORTEST_TIMING = 2e-3  # seconds; quick programs are called often enough to fill it
CELL_SECONDS = 6.0  # what the timed rounds of one cell may take
FEWEST_ROUNDS = 6  # each order of the three programs once

Program = Callable[..., Any]


class Case(NamedTuple):
    """One row of the table: a network, what it is trained on, and how many examples at once."""

    sizes: tuple[int, ...]
    batch_size: int
    activation: fn.Layer

    @property
    def products(self) -> int:
        """Products of a weight and an activation in one forward propagation: how large the case is."""
        return self.batch_size * sum(n_in * n_out for n_in, n_out in pairwise(self.sizes))

    @property
    def loss(self) -> fn.Loss:
        return fn.SquaredError() if self.sizes[-1] == 1 else fn.CrossEntropy()

    @property
    def name(self) -> str:
        return f"{'-'.join(map(str, self.sizes))} {self.batch_size} {type(self.activation).__name__}"

    def hand(self) -> Program:
        return partial(fn.value_and_grad, fn.mlp(self.sizes, self.activation), self.loss)

    def automatic(self) -> Program:
        return jax.value_and_grad(partial(fn.cost, fn.mlp(self.sizes, self.activation), self.loss))

    def arguments(self) -> tuple[Any, jax.Array, jax.Array]:
        for_x, for_y, for_params = jax.random.split(jax.random.key(0), 3)
        x = jax.random.normal(for_x, (self.batch_size, self.sizes[0]))
        if self.sizes[-1] == 1:
            y = jax.random.normal(for_y, (self.batch_size, 1))
        else:
            y = jax.random.randint(for_y, (self.batch_size,), 0, self.sizes[-1])
        return fn.init(fn.mlp(self.sizes, self.activation), for_params), x, y


# One case, measured


def measure(case: Case, rounds: int, compilations: int) -> dict[str, Any]:
    """Every figure of one case, as plain numbers."""
    arguments = case.arguments()
    automatic, hand, again, preparing = prepared(case, arguments, compilations)
    calls = calls_to_fill(SHORTEST_TIMING, automatic, arguments)
    timers = [partial(seconds_per_call, program, arguments, calls) for program in (automatic, hand, again)]
    one_round = 3 * calls * timers[0]()
    affordable = max(FEWEST_ROUNDS, int(CELL_SECONDS / one_round))
    running = np.array(interleaved(timers, min(rounds, affordable)))
    row = {"case": case.name, "calls": calls, "rounds": len(running)}
    row["counts"] = {"hand": counts(hand), "automatic": counts(automatic)}
    for name, seconds in (("trace", preparing[..., 0]), ("compile", preparing[..., 1]), ("time", running)):
        row[name] = {
            "seconds": np.median(seconds, axis=0).tolist(),
            "ratio": float(np.median(seconds[:, 1] / seconds[:, 0])),
            "noise": np.percentile(seconds[:, 2] / seconds[:, 0], (50, 25, 75)).tolist(),
        }
    return row


def prepared(case: Case, arguments: tuple[Any, ...], repeats: int) -> tuple[Program, Program, Program, np.ndarray]:
    """Automatic, hand-written and automatic again, compiled; and the seconds (repeats, 3, 2) that it took."""
    programs: dict[int, Program] = {}

    def prepare(slot: int, build: Callable[[], Program]) -> tuple[float, float]:
        jax.clear_caches()
        gc.collect()
        function = jax.jit(build())
        start = time.perf_counter()
        lowered = function.lower(*arguments)
        middle = time.perf_counter()
        programs[slot] = lowered.compile()
        return middle - start, time.perf_counter() - middle

    builders = [partial(prepare, slot, build) for slot, build in enumerate((case.automatic, case.hand, case.automatic))]
    interleaved(builders, 1)  # so that what is remembered across clear_caches is there for all three
    seconds = np.array(interleaved(builders, repeats))
    return programs[0], programs[1], programs[2], seconds


def counts(program: Any) -> dict[str, float | None]:
    """What the compiler says of its program; None where it does not say."""
    analysis = program.cost_analysis() or {}
    analysis = analysis[0] if isinstance(analysis, list) else analysis
    memory = program.memory_analysis()
    return {
        "flops": analysis.get("flops"),
        "transcendentals": analysis.get("transcendentals", 0.0 if "flops" in analysis else None),
        "memory": getattr(memory, "temp_size_in_bytes", None),
    }


def interleaved(measurements: Sequence[Callable[[], Any]], rounds: int) -> list[list[Any]]:
    """Each measurement once a round, in another order every round. Results stand in the order given."""
    table = []
    for order in islice(cycle(permutations(range(len(measurements)))), rounds):
        results = {i: measurements[i]() for i in order}
        table.append([results[i] for i in range(len(measurements))])
    return table


def seconds_per_call(program: Program, arguments: tuple[Any, ...], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        jax.block_until_ready(program(*arguments))
    return (time.perf_counter() - start) / calls


def calls_to_fill(seconds: float, program: Program, arguments: tuple[Any, ...]) -> int:
    """How many calls last so long together. The first calls, which are slower, are over then."""
    seconds_per_call(program, arguments, 3)
    return max(1, math.ceil(seconds / seconds_per_call(program, arguments, 3)))


# The table and what it comes to


def ratio(row: dict[str, Any], figure: str) -> float:
    """Hand-written / automatic, NaN where there is none."""
    if figure in CLOCKED:
        return row[figure]["ratio"]
    hand, automatic = (row["counts"][which][figure] for which in ("hand", "automatic"))
    if hand is None or automatic is None or hand == automatic == 0:
        return math.nan
    return hand / automatic if automatic else math.inf


def is_slower(row: dict[str, Any]) -> bool:
    """Whether the time lies above the upper quartile of automatic against automatic."""
    return row["time"]["ratio"] > row["time"]["noise"][2]


def shown(row: dict[str, Any], figure: str) -> str:
    if not math.isnan(value := ratio(row, figure)):
        return f"{value:.3f}" if figure in CLOCKED else f"{value:.4f}"
    return "n/a" if None in (row["counts"][which][figure] for which in ("hand", "automatic")) else "0/0"


def print_head() -> None:
    columns = " ".join(f"{name:>8}" for name in ("flops", "transc", "memory", "trace", "compile", "time"))
    print(f"{'network, batch size, activation':<38} {columns}   {'noise':<20} {'ms: hand':>10} {'automatic':>10}")


def print_row(row: dict[str, Any]) -> None:
    ratios = " ".join(f"{shown(row, figure):>8}" for figure in COUNTS + CLOCKED)
    middle, low, high = row["time"]["noise"]
    automatic, hand, _ = (f"{1e3 * seconds:10.3f}" for seconds in row["time"]["seconds"])
    noise = f"{middle:.3f} [{low:.3f}-{high:.3f}]"
    print(f"{row['case']:<38} {ratios}{'*' if is_slower(row) else ' '}  {noise:<20} {hand} {automatic}", flush=True)


def print_summary(rows: list[dict[str, Any]]) -> None:
    print("\nOver the cells:      geometric mean    median     above 1   worst")
    for figure in COUNTS + CLOCKED:
        found = [(value, row["case"]) for row in rows if not math.isnan(value := ratio(row, figure))]
        if not found:
            print(f"  {figure:<18} n/a")
            continue
        values = np.array([value for value, _ in found])
        worst, where = max(found)
        above = f"{np.sum(values > 1)} of {len(values)}"
        with np.errstate(divide="ignore"):
            mean = np.exp(np.log(values).mean())
        print(f"  {figure:<18} {mean:14.4f} {np.median(values):9.4f} {above:>11}   {worst:.4f} ({where})")
    for figure in CLOCKED:
        middles, lows, highs = np.array([row[figure]["noise"] for row in rows]).T
        print(
            f"  {figure + ', noise':<18} automatic / automatic: medians {middles.min():.3f} to {middles.max():.3f}, "
            f"quartiles of a typical cell {np.median(lows):.3f} to {np.median(highs):.3f}"
        )
    print(f"  slower than automatic varies against itself: {sum(map(is_slower, rows))} of {len(rows)} cells")


# Beside the table


def print_traces() -> None:
    """Three networks built apart, all equal, handed to one jitted function: how often is it traced?"""
    traced: list[str] = []

    def step(net: fn.Chain, loss: fn.Loss, *arguments: Any) -> Any:
        traced.append(repr(net))
        return fn.value_and_grad(net, loss, *arguments)

    jitted, case = jax.jit(step), Case((64, 64, 10), 128, fn.Tanh())
    for _ in range(3):
        net = fn.Chain(fn.Dense(64, 64), fn.Tanh(), fn.Dense(64, 10))
        jax.block_until_ready(jitted(net, fn.CrossEntropy(), *case.arguments()))
    print(f"\nThree equal networks, built separately: traces: {len(traced)}")


def print_share_of_machine(case: Case, rounds: int) -> None:
    """The hand-written program's speed beside that of a bare matrix product, interleaved."""
    arguments = case.arguments()
    hand = jax.jit(case.hand()).lower(*arguments).compile()
    side, product, matrices = square_product()
    timers = [partial(seconds_per_call, hand, arguments, 1), partial(seconds_per_call, product, matrices, 1)]
    own, bare = np.array(interleaved(timers, rounds)).T
    print(f"A {side} x {side} float32 matrix product: {2e-9 * side**3 / np.median(bare):.1f} GFLOP/s")
    # Counted from the sizes, since on a GPU the compiler does not count products that it hands to a library:
    # one product forward, one for the gradient, one backward, which the first layer does without.
    flops = 2 * (3 * case.products - case.batch_size * case.sizes[0] * case.sizes[1])
    low, middle, high = np.percentile((flops / own) / (2 * side**3 / bare), (25, 50, 75))
    print(f"{case.name}, hand-written: {1e-9 * flops / np.median(own):.1f} GFLOP/s")
    print(f"which is {middle:.0%} of the product's speed in the same round (quartiles {low:.0%} to {high:.0%})")


def square_product() -> tuple[int, Program, tuple[jax.Array, ...]]:
    """A product large enough to take a while on this machine: its side, the program and two matrices."""
    product = jax.jit(jnp.matmul)
    for side in (1024, 2048, 4096, 8192):
        matrices = tuple(jax.random.normal(jax.random.key(seed), (side, side)) for seed in (1, 2))
        seconds_per_call(product, matrices, 1)
        if seconds_per_call(product, matrices, 1) > 0.05:
            break
    return side, product, matrices


def cases(networks: Iterable[tuple[int, ...]]) -> list[Case]:
    return [Case(n, size, activation) for n in networks for size in BATCH_SIZES for activation in ACTIVATIONS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=200, help="timed rounds of a cell; slow cells get fewer")
    parser.add_argument("--compilations", type=int, default=6, help="how often each program is traced and compiled")
    parser.add_argument("--quick", action="store_true", help="the three small networks only")
    parser.add_argument("--networks", metavar="TEXT", help="only networks whose sizes contain this: 2048, or 64-64-10")
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file too")
    options = parser.parse_args()

    networks = [n for n in (QUICK if options.quick else NETWORKS) if (options.networks or "") in "-".join(map(str, n))]
    if not networks:
        parser.error(f"--networks {options.networks}: none of {', '.join('-'.join(map(str, n)) for n in NETWORKS)}")
    jax.config.update("jax_enable_compilation_cache", False)
    jax.config.update("jax_enable_x64", False)
    device = jax.devices()[0]
    machine = {"jax": jax.__version__, "device": f"{device.platform}, {device.device_kind}", "cores": os.cpu_count()}
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print_head()
    rows = []
    for case in cases(networks):
        rows.append(measure(case, options.rounds, options.compilations))
        print_row(rows[-1])
    print_summary(rows)
    print_traces()
    print_share_of_machine(max(cases(networks), key=lambda case: case.products), rounds=2 * FEWEST_ROUNDS)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"machine": machine, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
