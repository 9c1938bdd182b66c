"""What the training benchmarks share: networks, data, and clocks that are read interleaved."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import funcnet as fn
from funcnet._core import workarounds

sys.path.append(str(Path(__file__).parents[1]))
import idx  # examples/idx.py

LEARNING_RATE = 1e-3
LOSS = fn.CrossEntropy()

Run = Callable[[int], Any]  # trains for so many epochs more
Clock = Callable[[], float]  # seconds per epoch, measured now
Data = tuple[np.ndarray, np.ndarray]


class Case(NamedTuple):
    """A network, how it is trained, and how many times faster than the best peer it ought to be."""

    sizes: tuple[int, ...]
    batch_size: int
    rows: int
    goal: float

    @property
    def name(self) -> str:
        return f"{'-'.join(map(str, self.sizes))}, batch {self.batch_size}, {self.rows} rows"


CASES = (
    Case((16, 16, 10), 32, 20_000, 3.0),
    Case((784, 128, 10), 128, 60_000, 1.2),
    Case((784, 512, 512, 10), 1024, 60_000, 1.0),
)


def load(case: Case, folder: Path) -> tuple[Data, Data, str]:
    """Training rows, held-out rows (a sixth as many), and what they are."""
    held, why = case.rows // 6, "random"
    if case.sizes[0] == 784:
        try:
            (x, y), (held_x, held_y) = (idx.load(folder, part) for part in ("train", "t10k"))
            return (x[: case.rows], y[: case.rows]), (held_x[:held], held_y[:held]), "Fashion-MNIST"
        except FileNotFoundError:
            why = f"random, since Fashion-MNIST is not in {folder}"
    random = np.random.default_rng(0)
    x = random.standard_normal((case.rows + held, case.sizes[0]), dtype=np.float32)
    y = random.integers(0, case.sizes[-1], case.rows + held, dtype=np.int32)
    return (x[: case.rows], y[: case.rows]), (x[case.rows :], y[case.rows :]), why


def interleaved(clocks: dict[str, Clock], rounds: int) -> dict[str, np.ndarray]:
    """Each clock once a round, in an order drawn anew for each, so that none always follows the same one."""
    random, found = np.random.default_rng(0), {name: [] for name in clocks}
    for _ in range(rounds):
        for name in random.permutation(list(clocks)).tolist():
            found[name].append(clocks[name]())
    return {name: np.array(seconds) for name, seconds in found.items()}


def seconds(run: Run, epochs: int) -> float:
    start = time.perf_counter()
    run(epochs)
    return time.perf_counter() - start


def per_epoch(run: Run, epochs: int) -> float:
    return seconds(run, epochs) / epochs


def epochs_to_fill(turn: float, run: Run) -> int:
    """How many epochs last so long. The first, which compiles, is over then."""
    run(1)
    return max(1, round(turn / seconds(run, 1)))


def against(found: dict[str, np.ndarray], name: str, base: str) -> np.ndarray:
    """Median and quartiles of the ratios within the rounds."""
    return np.percentile(found[name] / found[base], (50, 25, 75))


# Single programs: their clocks, what they need, and a table of them


def compiled(function: Callable[..., Any], *arguments: Any) -> tuple[Callable[[], Any], str]:
    began = time.perf_counter()
    program = jax.jit(function).lower(*arguments).compile()
    seconds = time.perf_counter() - began
    with workarounds.set_aside():
        counted = jax.jit(lambda *a: function(*a)).lower(*arguments).cost_analysis()
    flops = (counted or {}).get("flops", float("nan"))
    memory = program.memory_analysis().temp_size_in_bytes / 2**20
    note = f"{flops / 1e9:6.2f} Gflop  memory {memory:5.0f} MiB  compile {seconds:4.1f} s"
    return lambda: jax.block_until_ready(program(*arguments)), note


def clock(run: Callable[[], Any], number: int) -> Callable[[], float]:
    """Seconds of one of so many steps. The first run, which may compile, is over then."""
    run()

    def read() -> float:
        began = time.perf_counter()
        run()
        return (time.perf_counter() - began) / number

    return read


def report(
    title: str, clocks: dict[str, Callable[[], float]], rounds: int, notes: dict[str, str] | None = None
) -> dict[str, Any]:
    found = interleaved(clocks, rounds)
    base = next(iter(clocks))
    print(f"  {title:<34}{'ms':>9}   over {base}", flush=True)
    for name, seconds in found.items():
        middle, low, high = against(found, name, base)
        ratio = f"{middle:6.2f} ({low:.2f} … {high:.2f})"
        print(f"  {name:<34}{1e3 * np.median(seconds):9.1f}   {ratio:<24}{(notes or {}).get(name, '')}", flush=True)
    return {name: {"seconds": seconds.tolist(), "note": (notes or {}).get(name)} for name, seconds in found.items()}


# What every script begins and ends with


def parser_of(doc: str, rounds: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=rounds, help=f"timed rounds of a table; {rounds} unless told")
    parser.add_argument("--quick", action="store_true", help="little data and few rounds: does it run?")
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file too")
    return parser


def parser_of_cases(doc: str, rounds: int, turn: float) -> argparse.ArgumentParser:
    parser = parser_of(doc, rounds)
    parser.add_argument("--turn", type=float, default=turn, help="seconds that a turn lasts, one epoch at least")
    parser.add_argument("--networks", metavar="TEXT", default="", help="only those whose sizes contain this: 512")
    parser.add_argument("--data", type=Path, default=idx.DEBIAN, help="folder of Fashion-MNIST's IDX files")
    return parser


def chosen_cases(options: argparse.Namespace) -> list[Case]:
    cases = [case for case in CASES if options.networks in "-".join(map(str, case.sizes))]
    if not cases:
        raise SystemExit(f"--networks {options.networks}: no network's sizes contain it")
    return [case._replace(rows=case.rows // 8) for case in cases] if options.quick else cases


def lengths(options: argparse.Namespace) -> tuple[int, float]:
    return (3, 0.05) if options.quick else (options.rounds, options.turn)


def machine() -> dict[str, Any]:
    """What the figures were measured on; printed, and float32 set, before anything is measured."""
    jax.config.update("jax_enable_x64", False)
    device = jax.devices()[0]
    found = {"jax": jax.__version__, "device": f"{device.platform}, {device.device_kind}", "cores": os.cpu_count()}
    print(", ".join(f"{name} {value}" for name, value in found.items()), flush=True)
    return found


def write(path: str | None, on: dict[str, Any], results: Any) -> None:
    if path:
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"machine": on, "results": results}, file, indent=1)
