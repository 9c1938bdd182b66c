"""Fashion-MNIST, 784-128-10: the test accuracy that funcnet reaches, beside scikit-learn's MLPClassifier.

Both learn from all 60,000 pictures, pixels 0 to 1 in float32, at the same settings: ReLU, cross-entropy
without a penalty (alpha=0), Adam with rate 1e-3, batches of 100, 10 epochs, a new order in each. (With batches
of 200, on 10,000 training pictures held out to choose the size, 0.2 per cent fewer were read right.) Weights
of both start uniform on ±sqrt(6 / (n_in + n_out)). Two things differ: scikit-learn starts its biases from
the same distribution where funcnet's start at 0, and the two draw other random numbers from a seed. So
trainings are not compared one by one, but by their means over the seeds. With funcnet and scikit-learn
installed, from the repository's root:

    python examples/benchmarks/fashion_mnist.py                      a few minutes on two cores
    python examples/benchmarks/fashion_mnist.py --data FOLDER        where the four IDX files are elsewhere

The goal: funcnet's mean at least 87.5 %, and within half a point of scikit-learn's. The exit status is 1
where it is missed. ± is the standard deviation over the seeds; the error of the difference of the means is
what their scatter lets one expect of it by chance.
"""

import argparse
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

import funcnet as fn

sys.path.append(str(Path(__file__).parents[1]))
from idx import DEBIAN, Labelled, load  # examples/idx.py

HIDDEN, RATE = 128, 1e-3
LEAST, WITHIN = 87.5, 0.5  # per cent, points

NET, LOSS = fn.mlp((784, HIDDEN, 10), fn.ReLU(), init=fn.GlorotUniform()), fn.CrossEntropy()
OPTIMIZER = optax.adam(RATE)


def by_funcnet(training: Labelled, test: Labelled, seed: int, epochs: int, batch_size: int) -> float:
    """The share of test pictures read right."""
    weights_key, order_key = jax.random.split(jax.random.key(seed))
    state = fn.train_state(OPTIMIZER, fn.init(NET, weights_key), order_key)
    state, _ = fn.fit(NET, LOSS, OPTIMIZER, state, training, epochs=epochs, batch_size=batch_size)
    return float(fn.Accuracy().value(fn.predict(NET, state.params, jnp.asarray(test[0])), jnp.asarray(test[1]), None))


def by_sklearn(training: Labelled, test: Labelled, seed: int, epochs: int, batch_size: int) -> float:
    model = MLPClassifier(
        (HIDDEN,), activation="relu", solver="adam", alpha=0, batch_size=batch_size, learning_rate_init=RATE,
        max_iter=epochs, n_iter_no_change=epochs, random_state=seed,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # as many epochs as asked for, no more: that is the point
        model.fit(*training)
    assert model.n_iter_ == epochs
    return float(model.score(*test))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=DEBIAN, help="folder of the four IDX files, plain or gzipped")
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each, with seeds 0, 1, …; 2 or more")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=100, help="examples in a step, for both")
    chosen = parser.parse_args()
    if chosen.seeds < 2 or chosen.epochs < 1 or chosen.batch_size < 1:
        parser.error("--seeds must be 2 or more, --epochs and --batch-size 1 or more")
    try:
        training, test = load(chosen.data, "train"), load(chosen.data, "t10k")
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from None

    print(f"jax {jax.__version__}, scikit-learn {sklearn.__version__}, {len(training[0])} training pictures")
    print(f"test accuracy in per cent after {chosen.epochs} epochs, batches of {chosen.batch_size}")
    print("seed    funcnet   scikit-learn")
    found = np.empty((chosen.seeds, 2))
    for seed in range(chosen.seeds):
        settings = seed, chosen.epochs, chosen.batch_size
        found[seed] = [100 * run(training, test, *settings) for run in (by_funcnet, by_sklearn)]
        print(f"{seed:4}{found[seed, 0]:11.2f}{found[seed, 1]:15.2f}", flush=True)
    mean, deviation = found.mean(axis=0), found.std(axis=0, ddof=1)
    difference, error = mean[0] - mean[1], np.sqrt((deviation**2).sum() / chosen.seeds)
    reached = mean[0] >= LEAST and abs(difference) <= WITHIN
    print(f"mean{mean[0]:11.2f}{mean[1]:15.2f}\n   ±{deviation[0]:11.2f}{deviation[1]:15.2f}")
    print(f"difference of the means {difference:+.2f} points, with an error of {error:.2f}")
    print(f"goal (at least {LEAST}, within {WITHIN} points): {'reached' if reached else 'MISSED'}")
    raise SystemExit(not reached)


if __name__ == "__main__":
    main()
