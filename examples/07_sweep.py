"""A sweep: many trainings in one compiled program, to find a learning rate and the strength of a penalty.

Which learning rate, and how strong an L2 penalty? Nobody knows beforehand: one tries. Here every
pair of the two is trained from several seeds on scikit-learn's digits, since one training alone may
have been lucky. `fn.fit_many` runs them all side by side: 72 by default, in the time of a few. A map
of the held-out accuracy shows where the good pairs lie; the best training is then taken out and saved.
Try `python 07_sweep.py --help`.
"""

import argparse
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import optax

import funcnet as fn

try:
    import matplotlib  # noqa: F401  (what draws the map)
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
except ImportError as error:
    raise SystemExit(
        f"This example needs {error.name}. Install it by: .venv/bin/pip install -e '.[examples]'"
    ) from None

Data = tuple[jax.Array, jax.Array]


def arguments() -> argparse.Namespace:
    usage = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description="Many trainings on scikit-learn's digits.", formatter_class=usage)
    rates, strengths = [0.0003, 0.001, 0.003, 0.01, 0.03, 0.1], [0, 0.0001, 0.001, 0.01]
    parser.add_argument("--learning-rates", type=float, nargs="+", default=rates, help="of Adam")
    parser.add_argument("--l2", type=float, nargs="+", default=strengths, help="strengths α of the penalty α Σ w²")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each pair")
    parser.add_argument("--hidden", type=int, default=32, help="size of the hidden layer")
    parser.add_argument("--epochs", type=int, default=30, help="passes over the training examples")
    parser.add_argument("--batch-size", type=int, default=64, help="examples in a step")
    parser.add_argument("--picture", type=Path, default=Path("output/sweep.png"), help="where the map goes")
    parser.add_argument("--model", type=Path, default=Path("output/digits.safetensors"), help="where the best one goes")
    chosen = parser.parse_args()
    if min(chosen.seeds, chosen.hidden, chosen.epochs, chosen.batch_size) < 1:
        parser.error("--seeds, --hidden, --epochs and --batch-size must be 1 or more")
    if min(chosen.learning_rates) <= 0 or min(chosen.l2) < 0:
        parser.error("--learning-rates must be above 0, --l2 0 or more")
    for path in (chosen.picture, chosen.model):
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
    return chosen


def load() -> tuple[Data, Data, Data]:
    """Three fifths to learn from, one held out to choose by, and one for the test. Pixels are 0 … 1."""
    pictures, digits = load_digits(return_X_y=True)
    rest, test_x, rest_y, test_y = train_test_split(pictures / 16, digits, test_size=0.2, random_state=0)
    train_x, held_x, train_y, held_y = train_test_split(rest, rest_y, test_size=0.25, random_state=0)
    sets = (train_x, train_y), (held_x, held_y), (test_x, test_y)
    return tuple((jnp.asarray(x, jnp.float32), jnp.asarray(y)) for x, y in sets)


def main() -> None:
    chosen = arguments()
    training, held_out, test = load()
    net, loss = fn.mlp((64, chosen.hidden, 10), fn.ReLU(), init=fn.HeNormal()), fn.CrossEntropy()

    # Built so, the learning rate is a number in the optimiser's state, and may differ from one training
    # to the next. Built by optax.adam(1e-3) alone it would be a constant of the program.
    adam = optax.inject_hyperparams(optax.adam)(learning_rate=1e-3)
    sweep = {"learning_rate": chosen.learning_rates, "penalty": [fn.L2(strength) for strength in chosen.l2]}

    started = time.perf_counter()
    many = fn.fit_many(
        net, loss, adam, training, epochs=chosen.epochs, batch_size=min(chosen.batch_size, len(training[0])),
        seeds=range(chosen.seeds), sweep=sweep, validation=held_out, metrics=[fn.Accuracy()],
    )  # fmt: skip
    seconds = time.perf_counter() - started
    print(f"{len(many)} trainings of {net} in {seconds:.1f} seconds, compiling included\n")

    # Lowest held-out cost first. The column "cost" is what was lowered, and a penalty is part of it: it
    # cannot be compared from one penalty to the next. The cost of what is held out, without it, can.
    print(many)

    # One training may have been lucky, so the map shows means over the seeds. The smallest rate does not get
    # there in time, the largest spoils what it has learned, and the strongest penalty keeps the weights too
    # small. In between is a plateau, on which a few pictures make the difference.
    many.plot("validation_accuracy").figure.savefig(chosen.picture, dpi=150)
    print(f"\nHeat map of the held-out accuracy: {chosen.picture}")

    # The first of the table. many.best("validation_accuracy") would choose by accuracy, in which many are equal.
    best = many.best()
    state, history = many[best]
    rate, penalty, seed = many.lanes[best].values()
    print(f"\nThe best, number {best}: learning rate {rate:g}, {penalty}, seed {seed}\n{history}")

    # The best of many has also been the luckiest on the pictures that it was chosen by. Only pictures
    # that had no say in the choice tell how good it is, and only the first time one looks at them.
    read = fn.predict(net, state.params, test[0]).argmax(axis=-1)
    print(
        f"\nHeld-out accuracy {history['validation_accuracy'][-1]:.2%}, of a training chosen for it out of {len(many)}"
    )
    print(f"Test accuracy {jnp.mean(read == test[1]):.2%}, on pictures never looked at before")

    # Architecture and parameters in one file. Whoever reads it needs nothing of this script.
    try:
        fn.save_model(chosen.model, net, state.params)
        same_net, params = fn.load_model(chosen.model)
    except ImportError as error:
        print(f"\nThe model is not saved. {error}")
        return
    again = fn.predict(same_net, params, test[0]).argmax(axis=-1)
    print(f"\nSaved to {chosen.model} and read again: {same_net}")
    print(f"It reads {jnp.sum(again == read)} of {len(read)} test pictures as before.")


if __name__ == "__main__":
    main()
