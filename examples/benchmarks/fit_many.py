"""Many trainings at once: fit_many against scikit-learn's fits one after another, and how it grows with the lanes.

Every training is of a (64, 32, 10) network on scikit-learn's 1797 digits for 20 epochs: ReLU, cross-entropy, Adam,
float32; 8 seeds, each with 8 learning rates. Both sides are measured in one run, interleaved. With funcnet and
scikit-learn installed, from the repository's root:

    python examples/benchmarks/fit_many.py             8 of scikit-learn's 64 fits, one of each rate; times 8
    python examples/benchmarks/fit_many.py --full      all 64
    python examples/benchmarks/fit_many.py --quick     2 epochs, few rounds and lanes: does it run?

    first call      fit_many with its compilation, as one pays who calls it once
    fit_many        a call after that: the lanes' starting weights, the trainings, the histories
    ratio           scikit-learn / fit_many: the median of the ratios within the rounds, and their quartiles

The second table takes 1 to 512 lanes: seconds of a call, seconds per lane, those beside one lane alone, and
what a call for 0 epochs takes, which is set-up and no training.
"""

import time
import warnings
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from clocks import LOSS, against, interleaved, machine, parser_of, write

import funcnet as fn

try:
    from sklearn.datasets import load_digits
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
except ImportError:
    raise SystemExit("This benchmark needs scikit-learn: pip install scikit-learn") from None

HIDDEN, EPOCHS = 32, 20
RATES = tuple(float(rate) for rate in np.geomspace(1e-4, 1e-2, 8).round(6))
BATCHES_AND_GOALS = ((32, 8.0), (200, 4.0))
LANES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

NET = fn.mlp((64, HIDDEN, 10), fn.ReLU())
ADAM = optax.inject_hyperparams(optax.adam)(learning_rate=1e-3)


def digits() -> tuple[np.ndarray, np.ndarray]:
    x, y = load_digits(return_X_y=True)
    return (x / 16).astype(np.float32), y.astype(np.int32)


def many(data: Any, batch_size: int, epochs: int, seeds: int, rates: tuple[float, ...]) -> float:
    """Seconds of one fit_many: seeds x rates trainings."""
    start = time.perf_counter()
    found = fn.fit_many(
        NET, LOSS, ADAM, data, epochs=epochs, batch_size=batch_size, seeds=range(seeds), sweep={"learning_rate": rates}
    )
    jax.block_until_ready(found.states.params)
    return time.perf_counter() - start


def one_after_another(data: Any, batch_size: int, epochs: int, seeds: int) -> float:
    """Seconds that 8 seeds of every rate take scikit-learn, measured on fewer seeds."""
    start = time.perf_counter()
    options = {"batch_size": batch_size, "max_iter": epochs, "alpha": 0.0, "tol": 0.0, "n_iter_no_change": 10**9}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it was not asked to converge
        for seed in range(seeds):
            for rate in RATES:
                MLPClassifier((HIDDEN,), learning_rate_init=rate, random_state=seed, **options).fit(*data)
    return (time.perf_counter() - start) * 8 / seeds


def against_sklearn(batch_size: int, goal: float, epochs: int, seeds: int, rounds: int) -> dict[str, Any]:
    data = digits()
    on_device = tuple(map(jnp.asarray, data))
    first = many(on_device, batch_size, epochs, 8, RATES)
    one_after_another(data, batch_size, 1, 1)
    clocks = {
        "fit_many": partial(many, on_device, batch_size, epochs, 8, RATES),
        "scikit-learn": partial(one_after_another, data, batch_size, epochs, seeds),
    }
    found = interleaved(clocks, rounds)
    ratios = against(found, "scikit-learn", "fit_many").tolist()
    medians = {name: float(np.median(times)) for name, times in found.items()}
    return {"batch": batch_size, "goal": goal, "first": first, "seconds": medians, "ratio": ratios}


def growth(batch_size: int, epochs: int, lanes: tuple[int, ...], rounds: int) -> list[dict[str, float]]:
    """Calls of 1 to 512 lanes, interleaved; up to 8 lanes one seed, beyond that 8 rates of each seed."""
    data = tuple(map(jnp.asarray, digits()))
    clocks = {}
    for count in lanes:
        seeds, rates = max(1, count // 8), RATES[: min(count, 8)]
        for name, some in ((f"{count}", epochs), (f"{count} set-up", 0)):
            clocks[name] = partial(many, data, batch_size, some, seeds, rates)
            clocks[name]()
    found = interleaved(clocks, rounds)
    return [
        {
            "lanes": count,
            "seconds": float(np.median(found[f"{count}"])),
            "set-up": float(np.median(found[f"{count} set-up"])),
            "share": float(against(found, f"{count}", f"{lanes[0]}")[0] / count * lanes[0]),
        }
        for count in lanes
    ]


def print_against(row: dict[str, Any], seeds: int) -> None:
    middle, low, high = row["ratio"]
    measured = "all 64 measured" if seeds == 8 else f"{8 * seeds} fits measured, times {8 // seeds}"
    verdict = "reached" if middle >= row["goal"] else "missed"
    own, others = row["seconds"].values()
    print(
        f"batch {row['batch']:3}: fit_many {own:.3f} s (first call {row['first']:.2f} s), scikit-learn {others:.2f} s "
        f"({measured}): ratio {middle:.1f} [{low:.1f}-{high:.1f}], goal {row['goal']:g}: {verdict}",
        flush=True,
    )


def print_growth(batch_size: int, rows: list[dict[str, float]]) -> None:
    print(f"\nfit_many, batch {batch_size}\n lanes   s a call   ms a lane   / one lane's   set-up, ms a call")
    for row in rows:
        each, setup = 1e3 * row["seconds"] / row["lanes"], 1e3 * row["set-up"]
        print(f"{row['lanes']:6} {row['seconds']:10.3f} {each:11.2f} {row['share']:14.3f} {setup:19.1f}")


def main() -> None:
    parser = parser_of(__doc__, rounds=5)
    parser.add_argument("--full", action="store_true", help="all 64 of scikit-learn's fits, not 8 of them")
    options = parser.parse_args()
    epochs, rounds, lanes = (2, 2, LANES[:4]) if options.quick else (EPOCHS, options.rounds, LANES)
    seeds = 8 if options.full else 1
    on = machine()
    print(f"\n64 trainings of 64-{HIDDEN}-10, {epochs} epochs of 1797 digits")
    results: dict[str, Any] = {"against": [], "growth": {}}
    for batch_size, goal in BATCHES_AND_GOALS:
        results["against"].append(against_sklearn(batch_size, goal, epochs, seeds, rounds))
        print_against(results["against"][-1], seeds)
    for batch_size, _ in BATCHES_AND_GOALS:
        results["growth"][batch_size] = growth(batch_size, epochs, lanes, rounds)
        print_growth(batch_size, results["growth"][batch_size])
    write(options.json, on, results)


if __name__ == "__main__":
    main()
