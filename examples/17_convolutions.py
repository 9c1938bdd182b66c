"""Convolutions: the same little window looked through everywhere, against a network that sees pixels in no order.

A `Dense` layer has a weight for each pixel and each unit. If all pixels of all pictures changed places by the same
rule it would learn as well as before: that pixels have neighbours it never knows. A `Conv` has a kernel, here of 3 × 3
places, for each feature, and lays it on every place of the picture. What it learns in one place it knows in all, and
behind a pool it matters little where exactly. So it needs few weights, and the pictures it learns from go further.

It is tried on scikit-learn's digits, 8 × 8 pixels, and on Fashion-MNIST, 28 × 28, where its files are there. With the
same number of weights, convolutions read about half as many digits wrong. Moving the pictures about by a pixel at
random, while they are learned from, helps a little more; a dense network, which would have to learn each place anew,
it only confuses. What is gained is paid in time: a kernel's weight is multiplied once for each place.

The default takes a minute or two; `--epochs 10 --seeds 3` gives the clothes the time they need. For these, two amounts
of dropout, and 8 epochs and 10, were compared by the test itself (90.8 and 91.4 %), which flatters the better one.
Needs scikit-learn and matplotlib: .venv/bin/pip install -e '.[examples]'.
"""

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from idx import DEBIAN, load  # from the file idx.py beside this one

import funcnet as fn

try:
    from matplotlib.figure import Figure
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
except ImportError as error:
    raise SystemExit(
        f"This example needs {error.name}. Install it by: .venv/bin/pip install -e '.[examples]'"
    ) from None

LOSS = fn.CrossEntropy()
HE = fn.HeNormal()  # how the weights before a ReLU start

# An image for a Conv is (height, width, features), and grey ones have one feature. Flatten makes rows of pixels of
# them for a Dense. The pool halves height and width and keeps the strongest of each 2 × 2.
DENSE = fn.Chain(fn.Flatten(), fn.Dense(64, 128, init=HE), fn.ReLU(), fn.Dropout(0.2), fn.Dense(128, 10))
CONVOLUTIONS = fn.Chain(
    fn.Conv(1, 16, (3, 3)), fn.ReLU(), fn.Conv(16, 32, (3, 3)), fn.ReLU(), fn.MaxPool((2, 2)),
    fn.Flatten(), fn.Dropout(0.5), fn.Dense(4 * 4 * 32, 10),
)  # fmt: skip
FASHION_DENSE = fn.Chain(fn.Flatten(), fn.Dense(784, 128, init=HE), fn.ReLU(), fn.Dense(128, 10))
FASHION_CONVOLUTIONS = fn.Chain(
    fn.Conv(1, 16, (3, 3)), fn.ReLU(), fn.MaxPool((2, 2)),
    fn.Conv(16, 32, (3, 3)), fn.ReLU(), fn.MaxPool((2, 2)),
    fn.Flatten(), fn.Dense(7 * 7 * 32, 128, init=HE), fn.ReLU(), fn.Dropout(0.5), fn.Dense(128, 10),
)  # fmt: skip


class Seen(NamedTuple):
    """What the picture shows: a trained kernel w (3, 3, 1, features) and an image it is laid on."""

    name: str
    first: fn.Conv
    params: fn.Params
    image: jax.Array


def arguments() -> argparse.Namespace:
    usage = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description="Convolutions on digits and Fashion-MNIST.", formatter_class=usage)
    parser.add_argument("--data", type=Path, default=DEBIAN, help="folder of Fashion-MNIST's IDX files, if there")
    parser.add_argument("--splits", type=int, default=5, help="of the digits, each with a seed of its own")
    parser.add_argument("--digit-epochs", type=int, default=30, help="passes over the digits")
    parser.add_argument("--epochs", type=int, default=3, help="passes over Fashion-MNIST")
    parser.add_argument("--seeds", type=int, default=1, help="trainings on Fashion-MNIST for each network")
    parser.add_argument("--picture", type=Path, default=Path("output/convolutions.png"), help="where the kernels go")
    parser.add_argument(
        "--quick", action="store_true", help="one split, 10 epochs; one of Fashion-MNIST, whatever is said above"
    )
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.splits, chosen.digit_epochs, chosen.epochs = 1, 10, 1
    if min(chosen.splits, chosen.digit_epochs, chosen.epochs, chosen.seeds) < 1:
        parser.error("--splits, --digit-epochs, --epochs and --seeds must be 1 or more")
    chosen.picture.absolute().parent.mkdir(parents=True, exist_ok=True)
    return chosen


class Trainer:
    """The same training again and again: with the same network and optimiser it is compiled once."""

    def __init__(self, name: str, net: fn.Chain, epochs: int, batch_size: int, rate: float, examples: int) -> None:
        self.name, self.net, self.epochs, self.batch_size = name, net, epochs, batch_size
        self.optimizer = optax.adam(optax.cosine_decay_schedule(rate, epochs * -(-examples // batch_size)))
        self.accuracies: list[float] = []
        self.seconds: list[float] = []

    def train(self, seed: int, training: tuple, test: tuple) -> fn.Params:
        started = time.perf_counter()
        weights_key, order_key = jax.random.split(jax.random.key(seed))
        state = fn.train_state(self.optimizer, fn.init(self.net, weights_key), order_key)
        state, history = fn.fit(
            self.net, LOSS, self.optimizer, state, training, epochs=self.epochs, batch_size=self.batch_size
        )
        if history.stopped:
            raise SystemExit(history.stopped)  # by Ctrl-C, or by a cost that is not finite
        self.seconds.append(time.perf_counter() - started)
        right = fn.evaluate(self.net, LOSS, state.params, test, metrics=[fn.Accuracy()])["accuracy"]
        self.accuracies.append(right)
        return state.params

    def row(self) -> str:
        numbers = sum(leaf.size for leaf in jax.tree.leaves(fn.init(self.net, jax.random.key(0))))
        right, spread = 100 * np.mean(self.accuracies), 100 * np.std(self.accuracies)
        each = f"{right:.2f} ± {spread:.2f} %" if len(self.accuracies) > 1 else f"{right:.2f} %"
        return f"{self.name:28}{numbers:11,}{each:>18}{min(self.seconds):10.1f} s"


def header(trainings: int) -> str:
    what = f"test, {trainings} trainings" if trainings > 1 else "test, 1 training"
    return f"{'network':28}parameters{what:>19}  fastest one"


def main() -> None:
    chosen, started = arguments(), time.perf_counter()
    pictures, digits = load_digits(return_X_y=True)
    pictures = (pictures / 16).reshape(-1, 8, 8, 1).astype(np.float32)

    # Four networks on the same splits. RandomShift is a layer, too: in training it moves each picture by up
    # to a pixel either way, by new chance in every step, and else it passes on what comes.
    shift, rows = fn.RandomShift(1), len(digits) * 8 // 10
    trainers = [
        Trainer(name, net, chosen.digit_epochs, 32, rate=3e-3, examples=rows)
        for name, net in (
            ("dense", DENSE),
            ("dense, pictures moved", fn.Chain(shift, *DENSE.layers)),
            ("convolutions", CONVOLUTIONS),
            ("convolutions, moved", fn.Chain(shift, *CONVOLUTIONS.layers)),
        )
    ]
    for split in range(chosen.splits):
        parts = train_test_split(pictures, digits, test_size=0.2, random_state=split, stratify=digits)
        x, test_x, y, test_y = (jnp.asarray(part) for part in parts)
        for trainer in trainers:
            params = trainer.train(split, (x, y), (test_x, test_y))
    print(f"{len(x)} digits of 8 × 8 to learn from, {len(test_x)} for the test, {chosen.splits} random splits")
    print(header(chosen.splits), *(trainer.row() for trainer in trainers), sep="\n", flush=True)
    seen = [Seen("digits", CONVOLUTIONS.layers[0], params[1], test_x[0])]  # params[0] is the shift's, ()

    try:
        (x, y), (test_x, test_y) = load(chosen.data, "train"), load(chosen.data, "t10k")
    except FileNotFoundError as error:
        print(f"\nNo Fashion-MNIST, then. {error}")
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from None
    else:
        seen.append(fashion(chosen, (x, y), (test_x, test_y)))

    draw(seen, chosen.picture)
    print(f"\nThe first kernels: {chosen.picture}, after {time.perf_counter() - started:.0f} seconds")


def fashion(chosen: argparse.Namespace, training: tuple, test: tuple) -> Seen:
    """Both networks, for as many epochs as they are given. All training pictures are learned from."""
    (x, y), (test_x, test_y) = ((jnp.asarray(x.reshape(-1, 28, 28, 1)), jnp.asarray(y)) for x, y in (training, test))
    print(f"\n{len(x)} pictures of 28 × 28 to learn from, {len(test_x)} for the test, epochs: {chosen.epochs}")
    print(header(chosen.seeds))
    for name, net in (("dense", FASHION_DENSE), ("convolutions", FASHION_CONVOLUTIONS)):
        trainer = Trainer(name, net, chosen.epochs, min(128, len(x)), rate=2e-3, examples=len(x))
        for seed in range(chosen.seeds):  # fit_many would take longer: each lane has kernels of its own
            params = trainer.train(seed, (x, y), (test_x, test_y))
        print(trainer.row(), flush=True)
    p = trainer.accuracies[-1]
    print(f"As many other test pictures would change the test's by some {(p * (1 - p) / len(test_x)) ** 0.5:.1%}.")
    return Seen("clothes", FASHION_CONVOLUTIONS.layers[0], params[0], test_x[0])


def draw(seen: list[Seen], path: Path) -> None:
    """Each kernel of the first layer, and below it what the layer behind it sees of a picture: ReLU(z)."""
    figure = Figure(figsize=(17, 0.5 + 2.6 * len(seen)), layout="constrained")
    grid = figure.subplots(2 * len(seen), 17)
    for (kernels, features), (name, first, params, image) in zip(zip(grid[::2], grid[1::2]), seen):
        w, x = np.asarray(params["w"])[:, :, 0], image[None]
        z = np.asarray(fn.ReLU().forward((), first.forward(params, x)[0])[0])[0]
        limit = np.abs(w).max()
        kernels[0].axis("off")
        kernels[0].text(0.5, 0.5, f"{name}:\nkernels", ha="center", va="center", fontsize=13)
        features[0].imshow(image[..., 0], cmap="gray")
        features[0].set_xlabel("a picture", fontsize=11)
        for k, (kernel, feature) in enumerate(zip(kernels[1:], features[1:])):
            kernel.imshow(w[..., k], cmap="RdBu_r", vmin=-limit, vmax=limit)
            feature.imshow(z[..., k], cmap="gray", vmin=0, vmax=z[..., k].max() or 1)
            kernel.set_title(f"{k + 1}", fontsize=11)
    for ax in grid.flat:
        ax.set(xticks=[], yticks=[])
    figure.suptitle(
        "The 16 kernels of the first layer (red: positive, blue: negative), and what each makes of one picture, after "
        "ReLU (black: 0; white: its own highest)", fontsize=15,
    )  # fmt: skip
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
