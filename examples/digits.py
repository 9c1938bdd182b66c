"""Handwritten digits: a network trained by hand-written backpropagation, from pictures to a confusion table.

1797 pictures of 8 × 8 pixels with values 0 … 16, scikit-learn's digits. The gradients are checked
before they are used; a part of the pictures is held back for validation after every epoch, and
another, the test set, is looked at once, at the end. Try `python digits.py --help`.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import funcnet as fn

try:
    import matplotlib  # noqa: F401  (what draws the learning curve)
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
except ImportError as error:
    raise SystemExit(
        f"This example needs {error.name}. Install it by: .venv/bin/pip install -e '.[examples]'"
    ) from None

Data = tuple[jax.Array, jax.Array]

ACTIVATIONS = {"relu": fn.ReLU(), "tanh": fn.Tanh(), "sigmoid": fn.Sigmoid(), "gelu": fn.GELU(), "silu": fn.SiLU()}
LOSS = fn.CrossEntropy()


def arguments() -> argparse.Namespace:
    usage = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description="Learn scikit-learn's handwritten digits.", formatter_class=usage)
    parser.add_argument("--hidden", type=int, nargs="*", default=[128], help="sizes of the hidden layers, if any")
    parser.add_argument("--activation", choices=ACTIVATIONS, default="relu", help="after every hidden layer")
    parser.add_argument("--epochs", type=int, default=30, help="passes over the training examples")
    parser.add_argument("--batch-size", type=int, default=32, help="examples in a step")
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="of Adam at the start; falls to 0")
    parser.add_argument("--l2", type=float, default=1e-3, help="strength α of the penalty α Σ w²")
    parser.add_argument("--seed", type=int, default=0, help="of the split, the weights and the batches")
    parser.add_argument("--test-share", type=float, default=0.2, help="share of the pictures in the test set")
    parser.add_argument("--picture", type=Path, default=Path("output/learning_curve.png"), help="where the curve goes")
    chosen = parser.parse_args()
    if chosen.epochs < 1 or chosen.batch_size < 1 or not 0 < chosen.test_share < 1:
        parser.error("--epochs and --batch-size must be 1 or more, --test-share between 0 and 1")
    chosen.picture.absolute().parent.mkdir(parents=True, exist_ok=True)
    return chosen


def load(test_share: float, seed: int) -> tuple[Data, Data, Data]:
    """Training, validation and test set, each with its share of every digit."""
    pictures, digits = load_digits(return_X_y=True)
    split = partial(train_test_split, random_state=seed)
    rest, test_x, rest_y, test_y = split(pictures, digits, test_size=test_share, stratify=digits)
    train_x, validation_x, train_y, validation_y = split(rest, rest_y, test_size=0.125, stratify=rest_y)
    # The scaling is fitted on the training part alone: the others stand for pictures not yet seen.
    # No pixel is divided by less than 3 of the 16 shades. Some, in the corners, never change in the
    # training part, which would be a division by 0; some hardly do, and would turn into noise.
    mean, spread = train_x.mean(axis=0), np.maximum(train_x.std(axis=0), 3.0)
    sets = (train_x, train_y), (validation_x, validation_y), (test_x, test_y)
    return tuple((jnp.asarray((x - mean) / spread, jnp.float32), jnp.asarray(y)) for x, y in sets)


def show_confusion(read: jax.Array, written: jax.Array) -> None:
    table = jnp.zeros((10, 10), int).at[written, read].add(1)
    print("\nTest set: rows are the digits written, columns the digits read\n")
    print("    " + "".join(f"{digit:4}" for digit in range(10)))
    for digit, row in enumerate(table):
        print(f"{digit:4}" + "".join(f"{count or '·':>4}" for count in row.tolist()))


def main() -> None:
    chosen, started = arguments(), time.perf_counter()
    training, validation, test = load(chosen.test_share, chosen.seed)
    net, penalty = fn.mlp((64, *chosen.hidden, 10), ACTIVATIONS[chosen.activation]), fn.L2(chosen.l2)
    weights_key, order_key = jax.random.split(jax.random.key(chosen.seed))
    params = fn.init(net, weights_key)
    m, batch_size = len(training[0]), min(chosen.batch_size, len(training[0]))
    print(f"{net}\n{m} training, {len(validation[0])} validation and {len(test[0])} test examples")

    # A network often trains with a wrong derivative too, only worse; so that is looked for before.
    report = fn.check_gradients(net, LOSS, params, training[0][:5], training[1][:5], penalty=penalty)
    report.raise_if_wrong()
    print(f"\nThe gradients, checked on five examples before they are used\n{report}")

    optimizer = optax.adam(optax.cosine_decay_schedule(chosen.learning_rate, chosen.epochs * -(-m // batch_size)))
    state = fn.train_state(optimizer, params, order_key)
    state, history = fn.fit(
        net, LOSS, optimizer, state, training, epochs=chosen.epochs, batch_size=batch_size,
        validation=validation, metrics=[fn.Accuracy()], penalty=penalty, progress=True,
    )  # fmt: skip
    print(f"\n{history}")

    read = fn.predict(net, state.params, test[0]).argmax(axis=-1)
    show_confusion(read, written=test[1])
    print(f"\nTest accuracy {jnp.mean(read == test[1]):.2%} after {time.perf_counter() - started:.1f} seconds")
    history.plot().figure.savefig(chosen.picture, dpi=150)
    print(f"Learning curve: {chosen.picture}")


if __name__ == "__main__":
    main()
