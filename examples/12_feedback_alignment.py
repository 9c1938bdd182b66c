"""Digits learned without backpropagating through the weights: feedback alignment and sign-symmetric feedback.

Backpropagation sends the error signal down through the very weights that the activations came up by, which no nerve
cell can know. Does it have to? Feedback alignment (Lillicrap et al., 2016) sends it through random weights B that
never change, sign-symmetric feedback (Liao, Leibo and Poggio, 2016) through nothing but the signs of the weights.
Both are `backward` with other parameters: tape and contractions stay, and `fn.fit` trains by them as by the gradient.

Neither follows the gradient. How far it is off, `fn.example_cosines` tells for every example from tapes and deltas:
the angle between the update that an example asks for and its true gradient, over all layers (the output layer's share
is the same under all rules). At 90° the two have nothing in common; below it, a small step lowers the example's cost.
Feedback alignment starts near 90°, and then the weights come to align with B: the network learns to be taught.

Needs scikit-learn and matplotlib: .venv/bin/pip install -e '.[examples]'.
"""

import argparse
import time
from pathlib import Path

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

NET, LOSS = fn.mlp((64, 128, 64, 10)), fn.CrossEntropy()
ALONE = "output layer alone"
RULES = {  # the network that each learns by, and the colour of its curve
    "backpropagation": (NET, "#0072b2"),
    "sign-symmetric": (fn.SignSymmetric(NET), "#009e73"),
    "feedback alignment": (fn.FeedbackAlignment(NET, seed=1), "#d55e00"),
    ALONE: (NET, "0.5"),
}


def arguments() -> argparse.Namespace:
    usage = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description="Learn digits by other rules.", formatter_class=usage)
    parser.add_argument("--epochs", type=int, default=40, help="passes over the pictures")
    parser.add_argument("--batch-size", type=int, default=32, help="pictures in a step")
    parser.add_argument("--learning-rate", type=float, default=0.1, help="of plain gradient descent")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the batches")
    parser.add_argument(
        "--picture", type=Path, default=Path("output/feedback_alignment.png"), help="where the curves go"
    )
    chosen = parser.parse_args()
    if min(chosen.epochs, chosen.batch_size) < 1 or chosen.learning_rate <= 0:
        parser.error("--epochs and --batch-size must be 1 or more, --learning-rate above 0")
    chosen.picture.absolute().parent.mkdir(parents=True, exist_ok=True)
    return chosen


def load() -> tuple[Data, Data]:
    """Four fifths to learn from and one for the test. Pixels are 0 … 1."""
    pictures, digits = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        pictures / 16, digits, test_size=0.2, stratify=digits, random_state=0
    )
    return tuple((jnp.asarray(x, jnp.float32), jnp.asarray(y)) for x, y in ((train_x, train_y), (test_x, test_y)))


@jax.jit
def angles(rule: fn.FeedbackAlignment | fn.SignSymmetric | fn.Chain, params: fn.Params, data: Data) -> jax.Array:
    """Degrees between each example's update under this rule and its gradient. The forward pass is the same."""
    bp, other = (fn.backprop(net, LOSS, params, *data) for net in (NET, rule))
    return jnp.degrees(jnp.arccos(jnp.clip(fn.example_cosines(NET, bp, other), -1, 1)))


def main() -> None:
    chosen, started = arguments(), time.perf_counter()
    training, test = load()
    weights_key, order_key = jax.random.split(jax.random.key(chosen.seed))
    params, optimizer = fn.init(NET, weights_key), optax.sgd(chosen.learning_rate)
    print(f"{NET}, {len(training[0])} pictures to learn from, {len(test[0])} for the test")

    # All start from the same weights and see the same batches, one epoch at a time, since the angles are
    # looked at between two of them. In the last training the layers below the output stay as they were drawn:
    # what a rule reaches beyond it comes from error signals that were of use below.
    curves = {}
    for name, (net, _) in RULES.items():
        state, accuracy, degrees = fn.train_state(optimizer, params, order_key), [], []
        only_last = (False,) * (len(NET.layers) - 1) + (True,) if name == ALONE else None
        for _ in range(chosen.epochs):
            degrees.append(float(angles(net, state.params, training).mean()))
            state, history = fn.fit(
                net, LOSS, optimizer, state, training, epochs=1, batch_size=min(chosen.batch_size, len(training[0])),
                validation=test, metrics=[fn.Accuracy()], trainable=only_last,
            )  # fmt: skip
            accuracy.append(float(history["validation_accuracy"][0]))
        degrees.append(float(angles(net, state.params, training).mean()))
        curves[name] = accuracy, degrees

    shown = [epoch for epoch in (1, 2, 5, 10, 20, 40) if epoch < chosen.epochs] + [chosen.epochs]
    print("\nTest accuracy after epoch" + "".join(f"{epoch:8}" for epoch in shown))
    for name, (accuracy, _) in curves.items():
        print(f"{name:25}" + "".join(f"{accuracy[epoch - 1]:8.1%}" for epoch in shown))
    print("\nMean angle to the gradient, before the first epoch and after" + "".join(f"{epoch:6}" for epoch in shown))
    for name, (_, degrees) in curves.items():
        if name != ALONE:
            print(f"{name:55}{degrees[0]:5.0f}°" + "".join(f"{degrees[epoch]:5.0f}°" for epoch in shown))

    draw(curves, chosen.picture)
    print(f"\nCurves: {chosen.picture}, after {time.perf_counter() - started:.0f} seconds")


def draw(curves: dict[str, tuple[list[float], list[float]]], path: Path) -> None:
    """Accuracy on the left, the angle on the right, over the epochs."""
    figure = Figure(figsize=(13, 5.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, (accuracy, degrees) in curves.items():
        how = {"color": RULES[name][1], "linewidth": 2, "linestyle": "--" if name == ALONE else "-", "label": name}
        left.plot(np.arange(1, len(accuracy) + 1), 100 * np.array(accuracy), **how)
        if name != ALONE:
            right.plot(degrees, **how)
            right.text(len(degrees) - 1, degrees[-1] + 1.5, name, color=RULES[name][1], ha="right", fontsize=12)
    right.axhline(90, color="0.4", linestyle=":")
    right.text(len(accuracy), 91.5, "a random direction", color="0.4", ha="right", fontsize=12)
    left.set(ylabel="test accuracy (%)", title="Each learns the digits …", ylim=(50, 100))
    title = "… by updates that are not the gradient"
    right.set(ylabel="mean angle to the gradient (degrees)", title=title, ylim=(-3, 97), yticks=range(0, 91, 15))
    for ax in (left, right):
        ax.set_xlabel("epoch (passes over the pictures)", fontsize=12)
        ax.yaxis.label.set_size(12)
        ax.title.set_size(14)
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    left.legend(fontsize=12, frameon=False, loc="lower right")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
