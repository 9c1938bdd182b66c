"""Overfitting on few pictures, named by `fn.diagnose` from the history, and three ways to have less of it.

A 64-256-10 network has 19,210 weights and biases; here it learns digits from 300 pictures with noise in every pixel.
Nothing keeps it from learning the noise too: on what it learns from it is soon right every time and ever more certain,
and on pictures held out it is ever more certain where it is wrong. The cost of the latter falls, turns and rises.

`fn.diagnose(…, history=…, validation=…)` reads both: how far the held-out cost has risen above its lowest, and how
far it stands above the training cost. Then the same starting weights are trained again with a penalty on large
weights, with units left out at random, and with an end in good time. For a larger case see 06_fashion_mnist.py.

Needs scikit-learn and matplotlib: .venv/bin/pip install -e '.[examples]'.
"""

import argparse
import textwrap
import time
from pathlib import Path
from typing import Any, NamedTuple

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
STYLES = (("#d55e00", "-"), ("#0072b2", "--"), ("#009e73", "-."), ("0.15", ":"))  # told apart by colour-blind eyes too


class Training(NamedTuple):
    """What one of the four gave."""

    net: fn.Chain
    params: fn.Params
    history: fn.History

    def end(self) -> int:
        """The epoch whose parameters were given back."""
        return int(self.history.best_epoch) or int(self.history.epochs)


def arguments() -> argparse.Namespace:
    usage = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description="Overfitting on few digits, and its cures.", formatter_class=usage)
    parser.add_argument("--examples", type=int, default=300, help="pictures to learn from, 50 to 850")
    parser.add_argument("--noise", type=float, default=0.25, help="its standard deviation; pixels are 0 … 1")
    parser.add_argument("--epochs", type=int, default=100, help="passes over them, unless stopped early")
    parser.add_argument("--batch-size", type=int, default=20, help="pictures in a step")
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="of Adam")
    parser.add_argument("--l2", type=float, default=3e-3, help="strength α of the penalty α Σ w²")
    parser.add_argument("--dropout", type=float, default=0.5, help="share of hidden units left out; of inputs 0.2")
    parser.add_argument("--patience", type=int, default=10, help="epochs without improvement before the early end")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the batches")
    parser.add_argument("--picture", type=Path, default=Path("output/few_digits.png"), help="where the curves go")
    chosen = parser.parse_args()
    if not 50 <= chosen.examples <= 850 or min(chosen.epochs, chosen.batch_size, chosen.patience) < 1:
        parser.error("--examples must be 50 to 850, --epochs, --batch-size and --patience 1 or more")
    if chosen.learning_rate <= 0 or min(chosen.noise, chosen.l2) < 0 or not 0 <= chosen.dropout < 1:
        parser.error("--learning-rate must be above 0, --noise and --l2 0 or more, --dropout at least 0 and below 1")
    chosen.picture.absolute().parent.mkdir(parents=True, exist_ok=True)
    return chosen


def load(examples: int, noise: float) -> tuple[Data, Data, Data]:
    """Half for the test. Of the other half some to learn from; the rest is held out."""
    pictures, digits = load_digits(return_X_y=True)
    noisy = pictures / 16 + noise * np.random.default_rng(0).normal(size=pictures.shape)
    x, test_x, y, test_y = train_test_split(noisy, digits, test_size=0.5, stratify=digits, random_state=0)
    train_x, held_x, train_y, held_y = train_test_split(x, y, train_size=examples, stratify=y, random_state=0)
    sets = (train_x, train_y), (held_x, held_y), (test_x, test_y)
    return tuple((jnp.asarray(x, jnp.float32), jnp.asarray(y)) for x, y in sets)


def main() -> None:
    chosen, started = arguments(), time.perf_counter()
    data, held_out, test = load(chosen.examples, chosen.noise)
    print(f"{len(data[0])} pictures to learn from, {len(held_out[0])} held out, {len(test[0])} for the test")

    net = fn.mlp((64, 256, 10), fn.ReLU(), init=fn.HeNormal())
    weights_key, order_key = jax.random.split(jax.random.key(chosen.seed))
    params, optimizer = fn.init(net, weights_key), optax.adam(chosen.learning_rate)

    def train(net: fn.Chain, params: fn.Params, **how: Any) -> Training:
        state, history = fn.fit(
            net, LOSS, optimizer, fn.train_state(optimizer, params, order_key), data, epochs=chosen.epochs,
            batch_size=min(chosen.batch_size, len(data[0])), validation=held_out, **how,
        )  # fmt: skip
        return Training(net, state.params, history)

    # Parameters are a tuple with an entry per layer. Dropout has none, so all four can start from the same weights.
    first, relu, second = net.layers
    dropping = fn.Chain(fn.Dropout(0.2), first, relu, fn.Dropout(chosen.dropout), second)
    stopping = fn.EarlyStopping("validation_cost", patience=chosen.patience)
    trainings = {
        "Nothing done": train(net, params),
        f"L2, α = {chosen.l2:g}": train(net, params, penalty=fn.L2(chosen.l2)),
        f"Dropout, 0.2 and {chosen.dropout:g}": train(dropping, ((), *params[:2], (), params[2])),
        "Early stopping": train(net, params, early_stopping=stopping),
    }

    # Costs in evaluation, of the parameters that each gave back, so that they mean the same in all rows. The accuracy
    # suffers less: what is read wrong with more certainty costs more, and was read wrong before.
    print(f"\n{'':25}cost: training   held out   its lowest (epoch)   test accuracy")
    for name, one in trainings.items():
        seen = fn.cost(one.net, LOSS, one.params, *data)
        held = one.history["validation_cost"]
        lowest = f"{held.min():.3f} ({held.argmin() + 1})"
        accuracy = jnp.mean(fn.predict(one.net, one.params, test[0]).argmax(-1) == test[1])
        print(f"{name:25}{seen:14.3f}{held[one.end() - 1]:11.3f}{lowest:>21}{accuracy:16.1%}")

    draw(trainings, chosen.picture)
    print(f"\nCurves: {chosen.picture}, after {time.perf_counter() - started:.0f} seconds")

    # Asked after the training, with its history. What is printed is the verdict, or what it saw where it found none.
    for name, one in trainings.items():
        diagnosis = fn.diagnose(one.net, LOSS, one.params, *data, history=one.history, validation=held_out)
        verdict, _, _ = str(diagnosis).partition("\n\nlooked at")
        print(f"\nWhat diagnose says of {name}: {verdict}")
        if diagnosis.healthy:
            print(textwrap.fill(diagnosis.looks[-1].seen, 100, initial_indent="  ", subsequent_indent="  "))


def draw(trainings: dict[str, Training], path: Path) -> None:
    """On the left the first training, both costs; on the right the held-out cost of all."""
    figure = Figure(figsize=(13.5, 5.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    name, one = next(iter(trainings.items()))
    seen, held = one.history["cost"], one.history["validation_cost"]
    epochs = np.arange(1, len(held) + 1)
    left.plot(epochs, held, color=STYLES[0][0], linewidth=2.5, label="held out")
    left.plot(held.argmin() + 1, held.min(), "o", color=STYLES[0][0], markersize=9, label="lowest held out")
    left.plot(epochs, seen, "--", color=STYLES[1][0], linewidth=2.5, label="training")
    left.fill_between(epochs, seen, held, color=STYLES[0][0], alpha=0.1, label="gap")
    left.set_title(f"{name}: the held-out cost turns and rises {held[-1] / held.min() - 1:.0%}", fontsize=13)
    for (name, one), (colour, line) in zip(trainings.items(), STYLES):
        held, end = one.history["validation_cost"], one.end()
        right.plot(np.arange(1, len(held) + 1), held, line, color=colour, linewidth=2.5, label=name)
        right.plot(end, held[end - 1], "o", color=colour, markersize=9)
    right.set_title("Held-out cost of all four (dots: parameters given back)", fontsize=13)
    for ax in (left, right):
        ax.set_xlabel("epoch (passes over the pictures)", fontsize=12)
        ax.set_ylim(0, 1.25)
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(fontsize=12, frameon=False, loc="lower right" if ax is right else "best")
    left.set_ylabel("cost: cross-entropy (nats per picture)", fontsize=12)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
