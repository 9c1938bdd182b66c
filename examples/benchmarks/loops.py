"""What loops over trainings and long trainings take: memory maps, memory, compilations, and what a hook costs.

With funcnet installed, from the repository's root (Linux, which counts maps and memory in /proc):

    python examples/benchmarks/loops.py                     all of it
    python examples/benchmarks/loops.py --fits 100 --rows 1000000

    fits            one `fit` after the other, each with an optimiser of its own: maps and resident memory on the way.
                    A process has 65,530 maps, and dies where there are no more.
    folds           142 and 143 rows, 3, 4 and 5 epochs, another patience each: how many programs are compiled.
    on_epoch        an epoch of the smallest network with a function of one's own that notes each row, over one without:
                    the median of ratios, interleaved, and its quartiles.
    host            a training on a file of so many rows of 8 numbers: the peak of memory of its own and of all that is
                    resident, above what there was before, over the size of the data.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from memory import KINDS, memory, peaks_of

import funcnet as fn
from funcnet.train import training

LOSS, ADAM = fn.CrossEntropy(), optax.adam(1e-3)


def start(net: Any, optimizer: Any = ADAM) -> fn.TrainState:
    return fn.train_state(optimizer, fn.init(net, jax.random.key(0)), jax.random.key(1))


def examples(m: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    return draw.normal(size=(m, n)).astype(np.float32), draw.integers(0, 2, m).astype(np.int32)


def maps() -> int:
    with open("/proc/self/maps") as file:
        return sum(1 for _ in file)


def fits(number: int) -> None:
    net, data = fn.mlp((13, 16, 3)), examples(142, 13)
    for done in range(1, number + 1):
        optimizer = optax.adam(1e-3 * done)
        fn.fit(net, LOSS, optimizer, start(net, optimizer), data, epochs=3, batch_size=16)
        if done % max(1, number // 6) == 0:
            print(f"after {done:4} fits with {done} optimisers: {maps():6} maps, {memory():5.0f} MiB", flush=True)


def folds() -> None:
    net, (x, y) = fn.mlp((13, 17, 3)), examples(178, 13)
    before = len(training._run.kinds)
    for m, epochs in ((142, 3), (143, 4), (142, 5), (143, 3)):
        stopping = fn.EarlyStopping(patience=epochs)
        fn.fit(
            net, LOSS, ADAM, start(net), (x[:m], y[:m]), epochs=epochs, batch_size=16, validation=(x[m:], y[m:]),
            metrics=[fn.Accuracy()], early_stopping=stopping,
        )  # fmt: skip
    print(f"four folds of 142 and 143 rows: {len(training._run.kinds) - before} program(s)")


def on_epoch(rounds: int = 15, epochs: int = 4000) -> None:
    net, data = fn.mlp((4, 8, 3)), examples(150, 4)
    rows: list[Any] = []

    def took(**options: Any) -> float:
        began = time.perf_counter()
        fn.fit(net, LOSS, ADAM, start(net), data, epochs=epochs, batch_size=15, **options)
        return time.perf_counter() - began

    took()
    ratios = []
    for _ in range(rounds):
        plain = took()
        ratios.append(2 * took(on_epoch=lambda epoch, row: rows.append((epoch, row))) / (plain + took()))
    low, median, high = np.quantile(ratios, (0.25, 0.5, 0.75))
    print(f"on_epoch, {epochs} epochs of 4-8-3: {median - 1:+.1%} ({low - 1:+.1%} … {high - 1:+.1%})")


def host(rows: int) -> None:
    net = fn.mlp((8, 16, 2))
    with tempfile.TemporaryDirectory() as folder:
        file = np.memmap(Path(folder, "x"), np.float32, "w+", shape=(rows, 8))
        for begin in range(0, rows, 2**20):
            part = file[begin : begin + 2**20]
            part[:] = np.random.default_rng(begin).normal(size=part.shape)
        file.flush()
        del file
        x = np.memmap(Path(folder, "x"), np.float32, "r", shape=(rows, 8))
        y = np.random.default_rng(0).integers(0, 2, rows).astype(np.int32)
        small = x[:8192].copy().view(np.memmap), y[:8192]
        fn.fit(net, LOSS, ADAM, start(net), small, epochs=1, batch_size=4096)
        run = lambda: fn.fit(net, LOSS, ADAM, start(net), (x, y), epochs=1, batch_size=4096)  # noqa: E731
        before = {kind: memory(kind) for kind in KINDS}
        for kind, peak in peaks_of(KINDS, run).items():
            share = (peak - before[kind]) * 2**20 / (x.nbytes + y.nbytes)
            print(f"{rows:,} rows on the host: {share:.2f} × the data {KINDS[kind]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fits", type=int, default=600)
    parser.add_argument("--rows", type=int, default=10_000_000)
    chosen = parser.parse_args()
    folds()
    on_epoch()
    host(chosen.rows)
    fits(chosen.fits)
