"""A deep sigmoid network whose early layers do not learn, and the same network with ReLU, which does.

The error signal of a layer is that of the layer above, taken back through its weights, times the slope of the
activation. A sigmoid's slope is at most 1/4, and the usual starting weights keep sizes about as they are: so every
layer hands down about a quarter of what it gets. Of nine layers the first gets some millionths, and stays where it
is. Nothing else is wrong, which makes it hard to find: the cost is finite, and no unit is dead or saturated.

Twice 64-32-32-32-32-32-32-32-32-10 learns digits: by sigmoids with Glorot's weights, and by ReLUs with He's. A ReLU's
slope is 1 where it is on, and He's weights make up for the half that is off. `fit(…, telemetry=k)` looks at all error
signals in every k-th update, `fn.plot_gradient_flow` draws them, and `fn.diagnose` sees it before the first step.

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

import funcnet as fn

try:
    from matplotlib.figure import Figure
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
except ImportError as error:
    raise SystemExit(
        f"This example needs {error.name}. Install it by: .venv/bin/pip install -e '.[examples]'"
    ) from None

Data = tuple[jax.Array, jax.Array]

LOSS = fn.CrossEntropy()
ACTIVATIONS = {"sigmoid": (fn.Sigmoid(), fn.GlorotUniform()), "ReLU": (fn.ReLU(), fn.HeNormal())}
STYLES = {"sigmoid": ("#d55e00", "--"), "ReLU": ("#0072b2", "-")}  # told apart by colour-blind eyes too


class Training(NamedTuple):
    """What one of the two gave."""

    net: fn.Chain
    start: fn.Params
    end: fn.Params
    history: fn.History

    def delta(self, layer: int) -> np.ndarray:
        """The rms of a layer's error signal, look by look."""
        return self.history.seen(f"layer {layer}: delta")


def arguments() -> argparse.Namespace:
    usage = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description="Vanishing error signals, and their cure.", formatter_class=usage)
    parser.add_argument("--hidden-layers", type=int, default=8, help="of 32 units each")
    parser.add_argument("--epochs", type=int, default=30, help="passes over the pictures")
    parser.add_argument("--batch-size", type=int, default=32, help="pictures in a step")
    parser.add_argument("--learning-rate", type=float, default=0.02, help="of plain gradient descent")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the batches")
    parser.add_argument(
        "--picture", type=Path, default=Path("output/deep_sigmoid.png"), help="where maps and curves go"
    )
    chosen = parser.parse_args()
    if min(chosen.hidden_layers, chosen.epochs, chosen.batch_size) < 1 or chosen.learning_rate <= 0:
        parser.error("--hidden-layers, --epochs and --batch-size must be 1 or more, --learning-rate above 0")
    chosen.picture.absolute().parent.mkdir(parents=True, exist_ok=True)
    return chosen


def load() -> tuple[Data, Data]:
    """Four fifths to learn from and one for the test. Pixels are 0 … 1."""
    pictures, digits = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        pictures / 16, digits, test_size=0.2, stratify=digits, random_state=0
    )
    return tuple((jnp.asarray(x, jnp.float32), jnp.asarray(y)) for x, y in ((train_x, train_y), (test_x, test_y)))


def moved(training: Training) -> list[float]:
    """How far the weights of each layer have come, as a share of their size at the start."""
    layers = [(before["w"], after["w"]) for before, after in zip(training.start, training.end) if before]
    return [float(jnp.linalg.norm(after - before) / jnp.linalg.norm(before)) for before, after in layers]


def main() -> None:
    chosen, started = arguments(), time.perf_counter()
    data, test = load()
    sizes, batch_size = (64, *[32] * chosen.hidden_layers, 10), min(chosen.batch_size, len(data[0]))
    weights_key, order_key = jax.random.split(jax.random.key(chosen.seed))
    optimizer = optax.sgd(chosen.learning_rate)
    print(f"{'-'.join(map(str, sizes))}, {len(data[0])} pictures to learn from, {len(test[0])} for the test")

    # Both see the same batches at the same rate. A few looks in every epoch, each of one batch, suffice.
    trainings = {}
    for name, (activation, start) in ACTIVATIONS.items():
        net = fn.mlp(sizes, activation, init=start)
        params = fn.init(net, weights_key)
        state, history = fn.fit(
            net, LOSS, optimizer, fn.train_state(optimizer, params, order_key), data, epochs=chosen.epochs,
            batch_size=batch_size, validation=test, metrics=[fn.Accuracy()],
            telemetry=max(1, len(data[0]) // batch_size // 4),
        )  # fmt: skip
        trainings[name] = Training(net, params, state.params, history)

    # All layers have the same learning rate, so where the error signal is small, so is every step.
    first_look = "rms of the error signal δ, first look"
    print(f"\n{'':7}{first_look:>42}{'weights moved, of their size':>36}")
    print(f"{'layer':7}" + 2 * f"{'sigmoid':>21}{'ReLU':>15}")
    ways = {name: moved(one) for name, one in trainings.items()}
    for layer in range(len(sizes) - 1, 0, -1):
        signals = [f"{one.delta(layer)[0]:.1e}" for one in trainings.values()]
        shares = [f"{way[layer - 1]:.4%}" for way in ways.values()]
        print(f"{layer:5}  " + "".join(f"{one:>21}{other:>15}" for one, other in (signals, shares)))

    print(f"\n{'':10}cost: first epoch    last   test accuracy   (knowing nothing costs log 10 = {np.log(10):.3f})")
    for name, one in trainings.items():
        cost, accuracy = one.history["cost"], one.history["validation_accuracy"]
        print(f"{name:10}{cost[0]:17.3f}{cost[-1]:8.3f}{accuracy[-1]:16.1%}")

    draw(trainings, "-".join(map(str, sizes)), chosen.picture)
    print(f"\nMaps and curves: {chosen.picture}, after {time.perf_counter() - started:.0f} seconds")

    # The question put before the training, to fresh weights. It would have saved the first of the two.
    for name, one in trainings.items():
        print(f"\nWhat diagnose says of {name} before any training: ", end="")
        print(fn.diagnose(one.net, LOSS, one.start, *data, optimizer=optimizer, batch_size=batch_size))


def draw(trainings: dict[str, Training], title: str, path: Path) -> None:
    """Above, the error signals over layers and epochs; below, how far each layer came, and what came of it."""
    figure = Figure(figsize=(14, 9.6), layout="constrained")
    maps, (way, accuracy) = figure.subplots(2, 2)
    drawn = [fn.plot_gradient_flow(one.history, "delta", ax) for one, ax in zip(trainings.values(), maps)]
    meshes = [ax.collections[0] for ax in drawn]
    lowest, highest = zip(*(mesh.get_clim() for mesh in meshes))
    for ax, mesh, name, what in zip(maps, meshes, trainings, ("fades on the way down", "gets there")):
        mesh.set_clim(min(lowest), max(highest))  # one scale for both
        ax.set_title(f"{name}: the error signal {what}", fontsize=13)
    for name, one in trainings.items():
        colour, line = STYLES[name]
        how = {"color": colour, "linestyle": line, "linewidth": 2.5, "label": name}
        ways = moved(one)
        way.semilogx(ways, np.arange(1, len(ways) + 1), marker="o", **how)
        reached = 100 * one.history["validation_accuracy"]
        accuracy.plot(np.arange(1, len(reached) + 1), reached, **how)
    way.set(xlabel="how far the weights moved, of their size at the start (logarithmic)", ylabel="layer")
    way.set_title("So the early sigmoid layers stay where they started …", fontsize=13)
    way.yaxis.get_major_locator().set_params(integer=True)
    accuracy.set(xlabel="epoch", ylabel="test accuracy (%)", ylim=(0, 100))
    accuracy.xaxis.get_major_locator().set_params(integer=True)
    accuracy.set_title("… and their network only guesses", fontsize=13)
    for ax in (way, accuracy):
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(fontsize=12, frameon=False, loc="center right" if ax is accuracy else "best")
    figure.suptitle(f"Digits by two networks {title}", fontsize=14)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
