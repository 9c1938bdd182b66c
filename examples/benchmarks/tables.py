"""funcnet.sklearn beside scikit-learn: accuracy in five folds, and the time of first calls, later calls, large data.

The same estimator by both, at scikit-learn's own settings (100 hidden units, ReLU, Adam, at most 200 epochs), in a
pipeline that scales the columns; outcomes of diabetes are scaled, too. Folds and seeds are the same for both; beside
the difference stands what the seeds alone change. With the extra `bench` installed, from the repository's root:

    python examples/benchmarks/tables.py                 some minutes on two cores
    python examples/benchmarks/tables.py --quick         one seed, part of Fashion-MNIST: does it run?

    first   a fit in a new process, imports apart: funcnet compiles (without a cache on disk)
    later   fits of further folds and seeds in one process, interleaved; a ratio above 1 says that scikit-learn takes
            so many times as long, with one BLAS thread or all, whichever suits it better on that table
    large   Fashion-MNIST, 784-100-10: seconds for an epoch, of 3 epochs less 1, in float32 and float64
"""

import argparse
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.neural_network as theirs
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import funcnet.sklearn as ours

sys.path.append(str(Path(__file__).parents[1]))
from idx import DEBIAN, load  # examples/idx.py

TABLES: dict[str, Callable[..., Any]] = {
    "digits": load_digits,
    "wine": load_wine,
    "breast cancer": load_breast_cancer,
    "diabetes": load_diabetes,
}
SIDES = {"funcnet": ours, "scikit-learn": theirs}


def estimator(side: str, table: str, seed: int) -> Any:
    kind = "MLPRegressor" if table == "diabetes" else "MLPClassifier"
    model = make_pipeline(StandardScaler(), getattr(SIDES[side], kind)(random_state=seed))
    return TransformedTargetRegressor(model, transformer=StandardScaler()) if table == "diabetes" else model


def folds_of(table: str, X: np.ndarray, y: np.ndarray) -> list[Any]:
    kind = KFold if table == "diabetes" else StratifiedKFold
    return list(kind(5, shuffle=True, random_state=0).split(X, y))


def fitted(side: str, table: str, seed: int, data: tuple[np.ndarray, np.ndarray], fold: Any) -> tuple[float, float]:
    """Score on the fold that is held out, and seconds of the fit."""
    X, y = data
    rows, held = fold
    began = time.perf_counter()
    model = estimator(side, table, seed).fit(X[rows], y[rows])
    took = time.perf_counter() - began
    return model.score(X[held], y[held]), took


def first_call(side: str, table: str) -> None:
    """What a new process prints: seconds of its first fit."""
    X, y = TABLES[table](return_X_y=True)
    print(fitted(side, table, 0, (X, y), folds_of(table, X, y)[0])[1])


def in_new_process(side: str, table: str) -> float:
    command = [sys.executable, "-W", "ignore", __file__, "--first", side, table]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": ""}
    return float(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


def best_threads(seconds: Callable[[], float]) -> int | None:
    """One BLAS thread, or None: all. Beside JAX's own threads, and for small products, one is often faster."""

    def with_threads(number: int | None) -> float:
        with threadpool_limits(number):
            return seconds()

    return min((1, None), key=with_threads)


def tables(seeds: int) -> None:
    print(f"{'table':<14}{'score, funcnet':>16}{'scikit-learn':>14}{'difference':>12}{'seeds change':>14}", end="")
    print(f"{'first':>9}{'theirs':>8}{'later':>9}{'theirs':>8}{'ratio':>7}")
    for table, source in TABLES.items():
        X, y = source(return_X_y=True)
        folds = folds_of(table, X, y)
        fitted("funcnet", table, 0, (X, y), folds[0])  # compiles
        threads = best_threads(lambda: fitted("scikit-learn", table, 0, (X, y), folds[0])[1])  # noqa: B023
        scores, seconds = (np.zeros((2, seeds, len(folds))) for _ in range(2))
        for seed in range(seeds):
            for number, fold in enumerate(folds):
                for place in ((0, 1), (1, 0))[(seed + number) % 2]:
                    with threadpool_limits(threads if place else None):
                        result = fitted(list(SIDES)[place], table, seed, (X, y), fold)
                    scores[place, seed, number], seconds[place, seed, number] = result
        means = scores.mean(-1)
        first = [np.median([in_new_process(side, table) for _ in range(3 if seeds > 1 else 1)]) for side in SIDES]
        later, ratio = np.median(seconds, (1, 2)), np.median(seconds[1] / seconds[0])
        print(
            f"{table:<14}{means[0].mean():>16.4f}{means[1].mean():>14.4f}{means[0].mean() - means[1].mean():>+12.4f}",
            end="",
        )
        print(f"{means.std(1, ddof=min(1, seeds - 1)).mean():>14.4f}", end="")
        print(f"{first[0]:>7.2f} s{first[1]:>6.2f} s{later[0]:>7.3f} s{later[1]:>6.3f} s{ratio:>7.1f}", flush=True)


def large(folder: Path, rows: int, rounds: int) -> None:
    pixels, labels = (part[:rows] for part in load(folder, "train"))
    for dtype in (np.float32, np.float64):
        X, epochs = np.asarray(pixels.reshape(len(pixels), -1), dtype), {side: [] for side in SIDES}
        models = {(side, n): SIDES[side].MLPClassifier(max_iter=n) for side in SIDES for n in (1, 3)}

        def seconds(side: str, n: int) -> float:
            began = time.perf_counter()
            models[side, n].fit(X, labels)  # noqa: B023
            return time.perf_counter() - began

        models["funcnet", 1].fit(X, labels)  # compiles
        threads = best_threads(lambda: seconds("scikit-learn", 1))
        for turn in range(rounds):
            for side in (list(SIDES), list(SIDES)[::-1])[turn % 2]:
                with threadpool_limits(threads if side == "scikit-learn" else None):
                    epochs[side].append((seconds(side, 3) - seconds(side, 1)) / 2)
        mine, other = (np.array(epochs[side]) for side in SIDES)
        print(f"Fashion-MNIST, {rows} rows, {np.dtype(dtype).name}: an epoch {np.median(mine):.3f} s, ", end="")
        print(f"scikit-learn {np.median(other):.3f} s, ratio {np.median(other / mine):.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="trainings of every fold")
    parser.add_argument("--rows", type=int, default=60_000, help="of Fashion-MNIST")
    parser.add_argument("--data", type=Path, default=DEBIAN, help="folder of Fashion-MNIST's IDX files")
    parser.add_argument("--quick", action="store_true", help="one seed, few rows")
    parser.add_argument("--first", nargs=2, metavar=("SIDE", "TABLE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    if options.first:
        first_call(*options.first)
        return
    tables(1 if options.quick else options.seeds)
    large(options.data, 6_000 if options.quick else options.rows, 1 if options.quick else 5)


if __name__ == "__main__":
    main()
