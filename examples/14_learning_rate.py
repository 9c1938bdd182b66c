"""Learning rates too low, right and too high: seen on a map of the cost, then on digits, and named by `fn.diagnose`.

First the smallest case that shows it: two weights tell the width of an iris's petal from the lengths of petal and
sepal, so that the whole cost fits on a map and every step of the descent can be drawn. Too low a rate hardly leaves
the start. Too high a rate steps across the valley to a place that is higher than where it came from, and so on.

Then 64-32-10 networks learn digits, side by side. Of 2410 weights and biases there is no map; there are curves, but a
cost that stays high looks much the same whether the rate is too low or too high. `fn.diagnose` tells them apart
before the training, by a few short trials: what would have happened at other rates?

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
    from sklearn.datasets import load_digits, load_iris
    from sklearn.model_selection import train_test_split
except ImportError as error:
    raise SystemExit(
        f"This example needs {error.name}. Install it by: .venv/bin/pip install -e '.[examples]'"
    ) from None

Data = tuple[jax.Array, jax.Array]

NAMES = ("too low", "right", "too high")
COLOURS, LINES = ("#0072b2", "#009e73", "#d55e00"), (":", "-", "--")  # told apart by colour-blind eyes too
SMALL, SMALL_RATES, STEPS = fn.Dense(2, 1, bias=False), (0.0005, 0.3, 1.09), 40
MAP = ((-2.2, 4.2), (-3.2, 3.2))  # from where to where the two weights are drawn


def arguments() -> argparse.Namespace:
    usage = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description="Learning rates too low, right, too high.", formatter_class=usage)
    rates, what = [0.0003, 0.3, 3], "of plain gradient descent on digits: too low, right, too high"
    parser.add_argument("--learning-rates", type=float, nargs=3, default=rates, metavar="RATE", help=what)
    parser.add_argument("--epochs", type=int, default=20, help="passes over the digits")
    parser.add_argument("--batch-size", type=int, default=32, help="digits in a step")
    parser.add_argument("--seed", type=int, default=0, help="of the network's weights and the batches")
    parser.add_argument(
        "--picture", type=Path, default=Path("output/learning_rate.png"), help="where maps and curves go"
    )
    chosen = parser.parse_args()
    if min(chosen.epochs, chosen.batch_size) < 1 or min(chosen.learning_rates) <= 0:
        parser.error("--epochs and --batch-size must be 1 or more, --learning-rates above 0")
    chosen.picture.absolute().parent.mkdir(parents=True, exist_ok=True)
    return chosen


def irises() -> Data:
    """Lengths of petal and sepal, and the petal's width, each with mean 0 and standard deviation 1."""
    measures, _ = load_iris(return_X_y=True)
    scaled = jnp.asarray((measures - measures.mean(0)) / measures.std(0), jnp.float32)
    return scaled[:, [2, 0]], scaled[:, [3]]


def digits() -> tuple[Data, Data]:
    """Four fifths to learn from and one for the test. Pixels are 0 … 1."""
    pictures, labels = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        pictures / 16, labels, test_size=0.2, stratify=labels, random_state=0
    )
    return tuple((jnp.asarray(x, jnp.float32), jnp.asarray(y)) for x, y in ((train_x, train_y), (test_x, test_y)))


def descend(data: Data, rate: float) -> tuple[list[fn.Params], list[float]]:
    """Gradient descent in one line: the parameters before every step and after the last, and their costs."""
    params, path, costs = fn.from_weights(SMALL, [[[-0.2], [1.6]]]), [], []
    for _ in range(STEPS + 1):
        J, grads = jax.jit(fn.value_and_grad)(SMALL, fn.SquaredError(), params, *data)
        path, costs = [*path, params], [*costs, float(J)]
        params = jax.tree.map(lambda w, g: w - rate * g, params, grads)
    return path, costs


def main() -> None:
    chosen, started = arguments(), time.perf_counter()
    data = irises()

    # The cost of two weights without an activation is a bowl, here a long valley, since long petals go with long
    # sepals. A step multiplies the distance to the bottom by 1 - ηλ along each axis of the valley, λ being the
    # curvature there. Beyond η = 2/λ that is below -1: every step ends farther away, on the other side.
    flat, steep = np.linalg.eigvalsh(data[0].T @ data[0] / len(data[0]))
    print(f"Two weights, {len(data[0])} irises: curvature {flat:.3f} along the valley, {steep:.2f} across it")
    print(f"A learning rate above 2 / {steep:.2f} = {2 / steep:.2f} must diverge.\n")
    shown = (0, 1, 5, STEPS)
    print("learning rate    cost after step" + "".join(f"{step:9}" for step in shown))
    small = {rate: descend(data, rate) for rate in SMALL_RATES}
    for rate, name in zip(SMALL_RATES, NAMES):
        print(f"{rate:<8g}{name:23}" + "".join(f"{small[rate][1][step]:9.3f}" for step in shown))

    # Three trainings in one program. Built so, the rate is a number in the optimiser's state, which may differ.
    (training, test), rates = digits(), chosen.learning_rates
    net, loss = fn.mlp((64, 32, 10), fn.ReLU(), init=fn.HeNormal()), fn.CrossEntropy()
    many = fn.fit_many(
        net, loss, optax.inject_hyperparams(optax.sgd)(learning_rate=0.1), training, epochs=chosen.epochs,
        batch_size=min(chosen.batch_size, len(training[0])), seeds=[chosen.seed], sweep={"learning_rate": rates},
        validation=test, metrics=[fn.Accuracy()],
    )  # fmt: skip
    histories = [many[lane][1] for lane in range(len(rates))]
    print(f"\n{net}, {len(training[0])} digits; knowing nothing costs log 10 = {np.log(10):.2f}\n")
    shown = sorted({min(epoch, chosen.epochs) for epoch in (1, 5, chosen.epochs)})
    print("learning rate   cost after epoch" + "".join(f"{epoch:9}" for epoch in shown) + "   test accuracy")
    for rate, name, history in zip(rates, NAMES, histories):
        costs = "".join(f"{history['cost'][epoch - 1]:9.3f}" for epoch in shown)
        print(f"{rate:<8g}{name:24}{costs}{history['validation_accuracy'][-1]:16.1%}")

    draw(data, small, dict(zip(rates, histories)), chosen.picture)
    print(f"\nMaps and curves: {chosen.picture}, after {time.perf_counter() - started:.0f} seconds")

    # The question put before the training, to fresh weights: would this rate do? What else was looked at is left
    # out below. print(diagnosis) shows it, and it is worth reading when nothing is found.
    print("\nWhat diagnose says, before any training")
    for rate in SMALL_RATES:
        of_irises = fn.diagnose(
            SMALL, fn.SquaredError(), small[rate][0][0], *data, optimizer=optax.sgd(rate), batch_size=len(data[0])
        )
        print(f"\nIrises, learning rate {rate:g}: {verdict(of_irises)}")
    params = fn.init(net, jax.random.key(chosen.seed))
    for rate in rates:
        of_digits = fn.diagnose(
            net, loss, params, *training, optimizer=optax.sgd(rate), batch_size=min(chosen.batch_size, len(training[0]))
        )
        print(f"\nDigits, learning rate {rate:g}: {verdict(of_digits)}")


def verdict(diagnosis: fn.Diagnosis) -> str:
    return str(diagnosis).partition("\n\nlooked at")[0]


def draw(data: Data, small: dict[float, tuple], large: dict[float, fn.History], path: Path) -> None:
    """The three descents on the map of the cost above, the costs of irises and of digits below."""
    figure = Figure(figsize=(15, 9.6), layout="constrained")
    maps, curves = figure.subfigures(2, 1, height_ratios=[1.15, 1])
    told = ("hardly leaves the start", "down the valley", "from side to side, and up")
    for ax, (rate, (states, _)), name, what in zip(maps.subplots(1, 3), small.items(), NAMES, told):
        along = (1, 0, 0), (1, 1, 0)
        fn.plot_cost_surface(SMALL, fn.SquaredError(), states[0], *data, along, path=states, span=MAP, ax=ax)
        ax.set_xlabel("weight of the petal's length", fontsize=11)
        ax.set_ylabel("weight of the sepal's length", fontsize=11)
        ax.set_title(f"{name}, {rate:g}: {what}", fontsize=13)
    left, right = curves.subplots(1, 2)
    for name, colour, line, (rate, (_, costs)), (other, history) in zip(
        NAMES, COLOURS, LINES, small.items(), large.items()
    ):
        how = {"color": colour, "linestyle": line, "linewidth": 2.5}
        left.semilogy(costs, label=f"{name}, {rate:g}", **how)
        right.plot(np.arange(1, len(history["cost"]) + 1), history["cost"], label=f"{name}, {other:g}", **how)
    left.set(xlabel="step", ylabel="cost of the irises (logarithmic)")
    left.set_title("The same descents: the cost over the steps", fontsize=13)
    right.set(xlabel="epoch (passes over the digits)", ylabel="training cost of the digits", ylim=(0, None))
    right.axhline(np.log(10), color="0.5", linewidth=1, label="knowing nothing")
    right.set_title("Digits: on the curve, too low and too high look alike", fontsize=13)
    right.xaxis.get_major_locator().set_params(integer=True)
    for ax in (left, right):
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(fontsize=12, frameon=False, title="learning rate")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
