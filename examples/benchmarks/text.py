"""Text: time of a generated token, learning beside plain JAX, and a training from a file of 100 million tokens.

With funcnet installed, from the repository's root (Linux, which counts memory in /proc):

    python examples/benchmarks/text.py                       fifteen minutes or so
    python examples/benchmarks/text.py --quick               short ones: does it run?
    python examples/benchmarks/text.py --tables "generation file" --json figures.json

    generation    texts go on by 240 tokens, by `generate` with its cache, and by the plain JAX network (that of
                  sequence_networks.py) propagated over the whole text for each token, in one compiled loop, too.
                  Interleaved; ms of all 240 steps.
    learning      one GPT on Python's own library, a letter a byte, for three seeds: by `fit`, and by a `lax.scan` over
                  `jax.grad` of the plain network, with the same starting values and optimiser, each with its own order
                  of the same passages. Nats a letter of passages from other modules, and seconds without compilation.
    file          one epoch over `windows` of a memory-mapped file of uint16 tokens, of the smallest network (the file
                  is most of the work), over one with the same tokens in memory, interleaved; and the most memory that
                  each takes, the tokens included, in a process of its own.
"""

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from clocks import against, clock, interleaved, machine, parser_of, report, write
from jax import lax
from memory import KINDS, memory, peaks_of
from sequence_networks import LOSS, Shape, plain_cost, plain_logits

import funcnet as fn

sys.path.append(str(Path(__file__).parents[1]))
import texts  # examples/texts.py

SEEDS, ADAM = 3, optax.adam(1e-3)


def main() -> None:
    parser = parser_of(__doc__, rounds=5)
    parser.add_argument("--tables", metavar="TEXT", default="generation learning file")
    chosen = parser.parse_args()
    on, quick = machine(), chosen.quick
    rounds = 2 if quick else chosen.rounds
    tables: dict[str, Callable[[], Any]] = {
        "generation": partial(generation, 20 if quick else 240, rounds),
        "learning": partial(learning, 20 if quick else 1000),
        "file": partial(file, 10**6 if quick else 10**8, rounds),
    }
    write(chosen.json, on, {name: table() for name, table in tables.items() if name in chosen.tables})


# ------------------------------------------------------------------ generation
def generation(length: int, rounds: int) -> list[dict[str, Any]]:
    shape = Shape(vocabulary=256, length=length + 16)
    net = shape.net()
    params = fn.init(net, jax.random.key(0))

    def plain(prompts: jax.Array, key: jax.Array) -> jax.Array:
        start = jnp.pad(prompts, ((0, 0), (0, length)))

        def one(place: jax.Array, text: jax.Array) -> jax.Array:
            logits = jnp.take(plain_logits(shape, params, text), place, 1)
            new = jax.random.categorical(jax.random.fold_in(key, place), logits).astype(text.dtype)
            return lax.dynamic_update_slice_in_dim(text, new[:, None], place + 1, 1)

        return lax.fori_loop(prompts.shape[1] - 1, start.shape[1] - 1, one, start)

    whole, tables = jax.jit(plain), []
    for m in (1, 16):
        prompts = jnp.asarray(np.random.default_rng(m).integers(0, 256, (m, 16)))
        clocks = {
            "fn.generate": partial(fn.generate, net, params, prompts, length),
            "plain, the whole text for each": partial(whole, prompts),
        }
        ready = {
            name: clock(lambda run=run: jax.block_until_ready(run(jax.random.key(1))), 1)
            for name, run in clocks.items()
        }
        tables.append(report(f"{m} text(s) of 16 + {length}", ready, rounds))
    return tables


# ------------------------------------------------------------------ learning
def learning(steps: int) -> dict[str, Any]:
    shape = Shape(vocabulary=256, n=64, depth=2, length=64, batch_size=32)
    train, held = texts.passages(steps * shape.batch_size, 512, shape.length)
    x, y = map(jnp.asarray, train)
    net, optimizer = shape.net(), optax.adam(optax.warmup_cosine_decay_schedule(0.0, 4e-3, steps // 10, steps))

    def by_fit(params: fn.Params, seed: int) -> fn.Params:
        state = fn.train_state(optimizer, params, jax.random.key(seed))
        return fn.fit(net, LOSS, optimizer, state, (x, y), epochs=1, batch_size=shape.batch_size)[0].params

    @jax.jit
    def by_scan(params: fn.Params, seed: jax.Array) -> fn.Params:
        order = jax.random.permutation(jax.random.key(seed), len(x)).reshape(steps, -1)

        def step(carry: Any, rows: jax.Array) -> tuple[Any, None]:
            params, opt_state = carry
            grads = jax.grad(partial(plain_cost, shape))(params, x[rows], y[rows])
            updates, opt_state = optimizer.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), None

        return lax.scan(step, (params, optimizer.init(params)), order)[0][0]

    print(f"\n{shape}, {steps} updates on Python's library: nats a letter held out, and seconds", flush=True)
    ways: dict[str, Callable[..., fn.Params]] = {"fn.fit": by_fit, "plain JAX": by_scan}
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for seed in range(-1, SEEDS):  # the first compiles
        params = fn.init(net, jax.random.key(seed % SEEDS))
        for name, way in ways.items():
            began = time.perf_counter()
            trained = jax.block_until_ready(way(params, seed % SEEDS))
            took = time.perf_counter() - began
            if seed >= 0:
                results[name].append((float(fn.cost(net, LOSS, trained, *held)), took))
    for name, rows in results.items():
        cells = "  ".join(f"{cost:.3f} ({took:.0f} s)" for cost, took in rows)
        print(f"  {name:<12}{cells}   mean {np.mean([cost for cost, _ in rows]):.3f}", flush=True)
    return results


# ------------------------------------------------------------------ a file
def epoch(tokens: np.ndarray) -> None:
    net = fn.Chain(fn.Embedding(64, 16), fn.Dense(16, 64))
    state = fn.train_state(ADAM, fn.init(net, jax.random.key(0)), jax.random.key(1))
    state, _ = fn.fit(net, LOSS, ADAM, state, fn.windows(tokens, 128), epochs=1, batch_size=256)
    jax.block_until_ready(state.params)


KEPT: dict[str, Callable[[Path], np.ndarray]] = {
    "in memory": lambda path: np.fromfile(path, np.uint16),
    "from the file": lambda path: np.memmap(path, np.uint16, "r"),
}


def peaks(name: str, path: Path) -> dict[str, float]:
    """MiB of an epoch, the tokens included, above those of a process that has trained on a few."""
    epoch(KEPT[name](path)[: 10**5])
    before = {kind: memory(kind) for kind in KINDS}
    found = peaks_of(KINDS, lambda: epoch(KEPT[name](path)))
    return {told: found[kind] - before[kind] for kind, told in KINDS.items()}


def file(size: int, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path, draw = Path(folder, "tokens.bin"), np.random.default_rng(0)
        with path.open("wb") as out:
            for begin in range(0, size, 10**7):
                draw.integers(0, 64, min(10**7, size - begin), dtype=np.uint16).tofile(out)
        print(f"\n{size:,} tokens, an epoch of 16-64 in windows of 128")
        mib = {}
        for name in KEPT:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                mib[name] = process.submit(peaks, name, path).result()
            print(f"  {name}: {', '.join(f'{most:.0f} MiB {told}' for told, most in mib[name].items())}", flush=True)
        clocks = {name: clock(partial(epoch, kept(path)), 1) for name, kept in KEPT.items()} if rounds else {}
        seconds = interleaved(clocks, rounds)
    if rounds:
        middle, low, high = against(seconds, "from the file", "in memory")
        base = float(np.median(seconds["in memory"]))
        print(f"  in memory {base:.1f} s, from the file {middle:.3f} of it ({low:.3f} … {high:.3f})")
    return {"seconds": {name: values.tolist() for name, values in seconds.items()}, "MiB": mib}


if __name__ == "__main__":
    main()
