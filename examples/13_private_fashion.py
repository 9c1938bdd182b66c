"""Private learning: what does it cost in accuracy that no single picture can be read off the network?

A network may remember its examples. Trained by DP-SGD (Abadi et al., 2016) it provably hardly does: in each step every
example's gradient is cut to a fixed length, and noise on their sum hides whether any one of them took part. How much
gets out all the same is counted as ε: with or without any one picture, no network is more than e^ε times as likely
to come out (up to a probability δ). ε = 2 is strong, ε = 8 weak, and it grows with every epoch.

On Fashion-MNIST one network is trained without privacy and, by `fn.fit(…, privacy=…)`, for two wanted ε. Private
learning wants settings of its own: batches of some thousands, since noise is added once for each; tanh, which keeps
signals and so gradients small (Papernot et al., 2021); and pixels from −1 to 1, by a rule that looks at no data. Which
batch size, length to cut to and learning rate, some 40 trainings decided by the 10,000 pictures held out, never
the test. The account takes for granted that settings are chosen by pictures of other people: those held out are
public, and ε is about the 50,000 others. All three trainings have the same settings.

Needs matplotlib and dp-accounting: .venv/bin/pip install -e '.[examples]'.
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
    import dp_accounting  # noqa: F401  (what keeps the account of ε)
    from matplotlib.figure import Figure
except ImportError as error:
    raise SystemExit(
        f"This example needs {error.name}. Install it by: .venv/bin/pip install -e '.[examples]'"
    ) from None

LOSS = fn.CrossEntropy()
COLOURS = ("#d55e00", "#009e73", "#cc79a7")  # told apart by colour-blind eyes too
WITHOUT = "#0072b2"


class Training(NamedTuple):
    """One row of the table and one line of the picture. Without privacy its ε is infinite."""

    epsilon: float
    privacy: fn.Privacy | None
    params: fn.Params
    history: fn.History


def arguments() -> argparse.Namespace:
    usage = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description="Fashion-MNIST, learned privately.", formatter_class=usage)
    parser.add_argument("--data", type=Path, default=DEBIAN, help="folder of the four IDX files, plain or gzipped")
    parser.add_argument("--epsilons", type=float, nargs="+", default=[8.0, 2.0], help="what may get out, three at most")
    parser.add_argument("--delta", type=float, default=1e-5, help="δ, below 1 / number of pictures")
    parser.add_argument("--hidden", type=int, default=128, help="size of the hidden layer")
    parser.add_argument("--max-norm", type=float, default=3.0, help="what an example's gradient is cut to")
    parser.add_argument("--epochs", type=int, default=30, help="passes over the pictures")
    parser.add_argument("--batch-size", type=int, default=2048, help="pictures in a step, on average")
    parser.add_argument("--learning-rate", type=float, default=0.12, help="of gradient descent with momentum 0.9")
    parser.add_argument("--seed", type=int, default=0, help="of what is held out, weights, batches and noise")
    parser.add_argument("--picture", type=Path, default=Path("output/privacy.png"), help="where the picture goes")
    parser.add_argument("--quick", action="store_true", help="one ε, 10 epochs, whatever is said above")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.epsilons, chosen.epochs = [8.0], 10
    if min(chosen.hidden, chosen.epochs, chosen.batch_size) < 1:
        parser.error("--hidden, --epochs and --batch-size must be 1 or more")
    if min(chosen.learning_rate, chosen.max_norm, *chosen.epsilons) <= 0 or not 0 < chosen.delta < 1:
        parser.error("--learning-rate, --max-norm and --epsilons must be above 0, --delta between 0 and 1")
    if len(chosen.epsilons) > len(COLOURS):
        parser.error(f"--epsilons: {len(COLOURS)} at most, got {len(chosen.epsilons)}")
    chosen.picture.absolute().parent.mkdir(parents=True, exist_ok=True)
    return chosen


def main() -> None:
    chosen, started = arguments(), time.perf_counter()
    try:
        (x, y), test = load(chosen.data, "train"), load(chosen.data, "t10k")
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from None
    order = np.random.default_rng(chosen.seed).permutation(len(x))
    out, rest = np.split(order, [len(x) // 6])
    training, held_out, test = (
        (jnp.asarray(2 * pictures - 1), jnp.asarray(kinds))
        for pictures, kinds in ((x[rest], y[rest]), (x[out], y[out]), test)
    )
    m, batch_size = len(rest), min(chosen.batch_size, len(rest))
    net = fn.mlp((784, chosen.hidden, 10), fn.Tanh())
    print(f"{net}\n{m} pictures to learn from, {len(out)} held out, {len(test[0])} for the test")
    print(
        f"δ = {chosen.delta:g}, gradients cut to {chosen.max_norm:g}, {chosen.epochs} epochs of {-(-m // batch_size)} "
        f"batches of {batch_size} on average, learning rate {chosen.learning_rate:g}, momentum 0.9"
    )

    weights_key, order_key = jax.random.split(jax.random.key(chosen.seed))
    params, optimizer = fn.init(net, weights_key), optax.sgd(chosen.learning_rate, momentum=0.9)

    def train(epsilon: float) -> Training:
        privacy = None
        if np.isfinite(epsilon):
            # How much noise it takes for this ε follows from how often and with what share of the pictures
            # it is added. The account is kept for one picture more or less.
            noise = fn.noise_multiplier(
                epsilon, delta=chosen.delta, examples=m, batch_size=batch_size, epochs=chosen.epochs
            )
            privacy = fn.Privacy(chosen.max_norm, noise, chosen.delta)
        state, history = fn.fit(
            net, LOSS, optimizer, fn.train_state(optimizer, params, order_key), training, epochs=chosen.epochs,
            batch_size=batch_size, validation=held_out, metrics=[fn.Accuracy()], privacy=privacy,
        )  # fmt: skip
        return Training(epsilon, privacy, state.params, history)

    trainings = [train(epsilon) for epsilon in (np.inf, *sorted(chosen.epsilons, reverse=True))]

    # ε after an epoch is that of the parameters then, whoever gets to see them. It rises most steeply at
    # the beginning, and how accurate the network is says nothing about it.
    shown = sorted({1, 2, 5, 10, 20, chosen.epochs} & set(range(1, chosen.epochs + 1)))
    print("\nε spent (and held-out accuracy) after epoch\n" + " " * 10 + "".join(f"{epoch:>16}" for epoch in shown))
    for one in trainings:
        spent = one.history["epsilon"] if one.privacy else np.full(chosen.epochs, np.inf)
        right = one.history["validation_accuracy"]
        cells = (f"{spent[epoch - 1]:.2f} ({right[epoch - 1]:.1%})" for epoch in shown)
        print(f"{named(one):10}" + "".join(f"{cell:>16}" for cell in cells))

    print("\n             noise σ   held out     test")
    for one in trainings:
        noise = f"{one.privacy.noise_multiplier:.2f}" if one.privacy else "none"
        right = jnp.mean(fn.predict(net, one.params, test[0]).argmax(-1) == test[1])
        print(f"{named(one):10}{noise:>10}{one.history['validation_accuracy'][-1]:11.2%}{right:9.2%}")
    p = float(right)
    print(f"As many other test pictures would change the test's by some {(p * (1 - p) / len(test[0])) ** 0.5:.1%}.")

    draw(
        trainings, f"{m:,} Fashion-MNIST pictures, network 784-{chosen.hidden}-10, δ = {chosen.delta:g}", chosen.picture
    )
    print(f"\nAccuracy against ε: {chosen.picture}, after {time.perf_counter() - started:.0f} seconds")


def named(training: Training) -> str:
    return f"ε = {training.epsilon:g}" if training.privacy else "no privacy"


def draw(trainings: list[Training], title: str, path: Path) -> None:
    """Held-out accuracy against the ε spent so far, a dot for every epoch."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    ax = figure.subplots()
    without, *private = trainings
    for one, colour in zip(private, COLOURS):
        spent, right = one.history["epsilon"], 100 * one.history["validation_accuracy"]
        ax.plot(spent, right, "o-", color=colour, linewidth=2, markersize=5)
        told = f"σ = {one.privacy.noise_multiplier:.2f}\n{right[-1]:.1f} %"
        ax.annotate(
            told, (spent[-1], right[-1]), (9, 0), textcoords="offset points", color=colour, fontsize=12, va="center"
        )
    last = 100 * without.history["validation_accuracy"][-1]
    ax.axhline(last, color=WITHOUT, linewidth=2, linestyle="--")
    ax.annotate(
        f"without privacy {last:.1f} %", (0, last), (4, 5), textcoords="offset points", color=WITHOUT, fontsize=12
    )
    ax.set_xlim(0, 1.15 * max(one.epsilon for one in private))
    ax.set_xlabel("ε spent: a dot for every epoch", fontsize=12)
    ax.set_ylabel("accuracy on held-out pictures (%)", fontsize=12)
    ax.tick_params(labelsize=11)
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_title(f"What privacy costs\n{title}", fontsize=14)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
