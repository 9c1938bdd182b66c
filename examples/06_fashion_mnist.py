"""Overfitting, seen and then tamed: a 784-128-10 network learns to tell clothes apart, four times over.

Fashion-MNIST has 60,000 pictures of ten kinds of clothes to learn from, and 10,000 to be tested on.
Part of the first are held out: the network never learns from them, so they show when it stops
learning what clothes look like and starts to learn its own pictures by heart. First nothing is done
against that; then a penalty on large weights, units left out at random, and an end in good time are
tried, one after the other, from the same starting weights. The test set is looked at once, at the end.

Unless told otherwise it learns from 10,000 pictures: so few are soon known by heart, and all is over in
less than a minute on two cores. `--examples 50000` takes all that are not held out, and some minutes. The
strengths of the cures were chosen by held-out pictures, never by the test; 50,000 pictures need weaker ones.
Needs matplotlib: .venv/bin/pip install -e '.[examples]'.
"""

import argparse
import time
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from idx import DEBIAN, load  # from the file idx.py beside this one

import funcnet as fn

try:
    from matplotlib.figure import Figure
except ImportError:
    raise SystemExit("This example needs matplotlib. Install it by: .venv/bin/pip install -e '.[examples]'") from None

LOSS = fn.CrossEntropy()
TRAINING, HELD_OUT = "#0072b2", "#d55e00"  # blue and vermilion, told apart by colour-blind eyes too


class Training(NamedTuple):
    """One row of the table and one panel of the picture."""

    name: str
    net: fn.Chain
    params: fn.Params
    history: fn.History


@fn.spec
class EvaluatedCost:
    """The mean cross-entropy in evaluation, without penalty and without dropout.

    The column "cost" is what the training lowers, penalty and dropout included. To compare one training
    with another, the cost must mean the same in all. A metric of your own is a class with this function.
    """

    larger_is_better: ClassVar[bool] = False
    name: ClassVar[str] = "evaluated_cost"

    def value(self, output: jax.Array, y: jax.Array, weights: jax.Array | None) -> jax.Array:
        return LOSS.value(output, y).mean()


def arguments() -> argparse.Namespace:
    usage = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description="Overfitting on Fashion-MNIST, and its cures.", formatter_class=usage)
    parser.add_argument("--data", type=Path, default=DEBIAN, help="folder of the four IDX files, plain or gzipped")
    parser.add_argument("--examples", type=int, default=10_000, help="pictures to learn from, at most")
    parser.add_argument("--epochs", type=int, default=100, help="passes over them, unless stopped early")
    parser.add_argument("--batch-size", type=int, default=100, help="pictures in a step")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="of Adam")
    parser.add_argument("--l2", type=float, default=1e-3, help="strength α of the penalty α Σ w²")
    parser.add_argument("--dropout", type=float, default=0.5, help="share of hidden units left out")
    parser.add_argument("--patience", type=int, default=10, help="epochs without improvement before the early end")
    parser.add_argument("--seed", type=int, default=0, help="of what is held out, the weights and the batches")
    parser.add_argument("--picture", type=Path, default=Path("output/overfitting.png"), help="where the curves go")
    parser.add_argument("--quick", action="store_true", help="3000 pictures, 40 epochs, whatever is said above")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.examples, chosen.epochs = 3000, 40
    if min(chosen.examples, chosen.epochs, chosen.batch_size, chosen.patience) < 1:
        parser.error("--examples, --epochs, --batch-size and --patience must be 1 or more")
    if chosen.learning_rate <= 0 or chosen.l2 < 0 or not 0 <= chosen.dropout < 1:
        parser.error("--learning-rate must be above 0, --l2 0 or more, --dropout at least 0 and below 1")
    chosen.picture.absolute().parent.mkdir(parents=True, exist_ok=True)
    return chosen


def accuracy(training: Training, data: tuple) -> float:
    return float(jnp.mean(fn.predict(training.net, training.params, data[0]).argmax(-1) == data[1]))


def main() -> None:
    chosen, started = arguments(), time.perf_counter()
    try:
        (x, y), test = load(chosen.data, "train"), load(chosen.data, "t10k")
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from None

    # A sixth is held out, 10,000 of 60,000: as many as the test set has. Pixels are 0 … 1 already.
    order = np.random.default_rng(chosen.seed).permutation(len(x))
    out, rest = np.split(order, [len(x) // 6])
    rows = rest[: chosen.examples]
    training, held_out = ((jnp.asarray(x[part]), jnp.asarray(y[part])) for part in (rows, out))
    print(f"{len(rows)} of {len(rest)} pictures to learn from, {len(out)} held out, {len(test[0])} for the test")

    net = fn.mlp((784, 128, 10), fn.ReLU(), init=fn.HeNormal())
    weights_key, order_key = jax.random.split(jax.random.key(chosen.seed))
    params = fn.init(net, weights_key)
    optimizer = optax.adam(chosen.learning_rate)

    def train(name: str, net: fn.Chain, params: fn.Params, **how: Any) -> Training:
        print(f"\n{name}", flush=True)
        state, history = fn.fit(
            net, LOSS, optimizer, fn.train_state(optimizer, params, order_key), training, epochs=chosen.epochs,
            batch_size=min(chosen.batch_size, len(rows)), validation=held_out, metrics=[EvaluatedCost()], **how,
        )  # fmt: skip
        if history.stopped and "early_stopping" not in how:
            raise SystemExit(history.stopped)  # by Ctrl-C, or by a cost that is not finite
        seen, unseen = history["evaluated_cost"], history["validation_evaluated_cost"]
        lowest = int(unseen.argmin()) + 1
        print("epoch   cost: training   held out")
        for epoch in sorted({1, lowest, len(seen)}):
            mark = "  lowest held out" if epoch == lowest else ""
            print(f"{epoch:5}{seen[epoch - 1]:17.3f}{unseen[epoch - 1]:11.3f}{mark}")
        if history.stopped:
            print(history.stopped)
        return Training(name, net, state.params, history)

    # Overfitting: the training cost goes on down, while the cost of the pictures held out turns and
    # climbs. What is learned from there on is true of the training pictures only, and wrong of others.
    trainings = [train("Nothing done", net, params)]

    # A penalty pulls every weight towards 0, the more the larger it is. A fit by heart needs large ones.
    trainings += [train(f"L2, α = {chosen.l2:g}", net, params, penalty=fn.L2(chosen.l2))]

    # With units missing at random in every step, none can count on one particular other. Parameters are
    # a tuple with an entry per layer, and Dropout has none: so it can start from the same weights.
    first, relu, second = net.layers
    dropping = fn.Chain(first, relu, fn.Dropout(chosen.dropout), second)
    trainings += [train(f"Dropout of {chosen.dropout:.0%}", dropping, (*params[:2], (), params[2]))]

    # Or the first training again, ended when the pictures held out have had no lower cost for a while,
    # and taken back to where it was lowest. The turn is still there; one only does not go beyond it.
    stopping = fn.EarlyStopping("validation_cost", patience=chosen.patience)
    trainings += [train("Early stopping", net, params, early_stopping=stopping)]

    # Accuracy suffers less than the cost: what is read wrong by heart is read wrong with more certainty,
    # which the cost counts and the accuracy does not.
    print("\nAccuracy of the parameters that each training gave back")
    print(f"{'method':18}training   held out   test       epochs")
    for one in trainings:
        shares = "".join(f"{accuracy(one, data):<10.2%} " for data in (training, held_out, test))
        best = f", back to {int(one.history.best_epoch)}" if int(one.history.best_epoch) else ""
        print(f"{one.name:18}{shares}{int(one.history.epochs)}{best}")
    p = accuracy(trainings[-1], test)
    print(f"As many other test pictures would change the test's by some {(p * (1 - p) / len(test[0])) ** 0.5:.1%}.")

    draw(trainings, f"{len(rows):,} Fashion-MNIST pictures, network 784-128-10", chosen.picture)
    print(f"\nLearning curves: {chosen.picture}, after {time.perf_counter() - started:.0f} seconds")


def draw(trainings: list[Training], title: str, path: Path) -> None:
    """The cost over the epochs, one panel for each training, all on the same axes."""
    figure = Figure(figsize=(15, 5.6), layout="constrained")
    panels = figure.subplots(1, len(trainings), sharex=True, sharey=True)
    untreated = trainings[0].history["validation_evaluated_cost"]
    for ax, one in zip(panels, trainings):
        seen, unseen = one.history["evaluated_cost"], one.history["validation_evaluated_cost"]
        epochs, lowest = np.arange(1, len(seen) + 1), unseen.argmin()
        ax.plot(np.arange(1, len(untreated) + 1), untreated, ":", color="0.4", label="held out, nothing done")
        ax.plot(epochs, unseen, color=HELD_OUT, linewidth=2, label="held out")
        ax.plot(epochs[lowest], unseen[lowest], "o", color=HELD_OUT, markersize=8, label="lowest held out")
        ax.plot(epochs, seen, color=TRAINING, linewidth=2, label="training")
        ax.fill_between(epochs, seen, unseen, color=HELD_OUT, alpha=0.08, label="gap")
        above = unseen[-1] / unseen[lowest] - 1
        told = f"held out ends {above:.0%} above its lowest"
        if int(one.history.best_epoch):
            told = f"ended in epoch {len(seen)}, back to epoch {int(one.history.best_epoch)}"
        ax.set_title(one.name, fontsize=15, fontweight="bold", pad=26)
        ax.text(0.5, 1.02, told, transform=ax.transAxes, ha="center", fontsize=12)
        ax.set_xlabel("epoch (passes over the pictures)", fontsize=12)
        ax.tick_params(labelsize=11)
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel("cost: cross-entropy (nats per picture)", fontsize=12)
    handles, labels = panels[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=12, frameon=False)
    figure.suptitle(f"Overfitting: the held-out cost turns up, the training cost goes on down   ({title})", fontsize=14)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
