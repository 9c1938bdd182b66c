"""A loss of one's own: how a disease may go on, as a range instead of a number.

442 people with diabetes, ten measures of each, and how far the disease had gone a year later (Efron et al., 2004; in
scikit-learn). A network under squared error answers with a mean. Under the pinball loss of a quantile q (Koenker and
Bassett, 1978) it answers with the value that the outcome lies below with probability q: three networks, q = 0.1, 0.5
and 0.9, give a range that should hold 80 % of the outcomes. Whether it does is counted on people held out, in five
splits. It holds a few less: a network is a little too sure of what lies beyond the people it has seen.

The loss is ten lines: its value, and its derivative by the output. `fn.check_gradients` holds it against differences
before it is used; at the kink, where output and target are equal, any slope between the two sides is right.

Needs scikit-learn and matplotlib: .venv/bin/pip install -e '.[examples]'.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import funcnet as fn

try:
    from matplotlib.figure import Figure
    from sklearn.datasets import load_diabetes
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler
except ImportError as error:
    raise SystemExit(
        f"This example needs {error.name}. Install it by: .venv/bin/pip install -e '.[examples]'"
    ) from None

QUANTILES = (0.1, 0.5, 0.9)
NET, ADAM = fn.mlp((10, 16, 1)), optax.adam(3e-3)


@fn.spec
class Pinball:
    """q (y - a) where the output a is below y, (1 - q) (a - y) where it is above."""

    q: float

    def value(self, output: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.maximum(self.q * (y - output), (1 - self.q) * (output - y)).sum(-1)

    def delta(self, output: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.where(output < y, -self.q, 1 - self.q).astype(output.dtype)


def load(seed: int) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array], StandardScaler]:
    """Training set and test set on one scale, that of the training set, and the scale of the outcome."""
    x, y = load_diabetes(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(x, y[:, None], test_size=0.3, random_state=seed)
    of_x, of_y = StandardScaler().fit(train_x), StandardScaler().fit(train_y)
    sets = ((train_x, train_y), (test_x, test_y))
    training, test = (tuple(jnp.asarray(scale.transform(part), "float32") for scale, part in
                            zip((of_x, of_y), pair)) for pair in sets)  # fmt: skip
    return training, test, of_y


def predicted(q: float, training: tuple[jax.Array, jax.Array], x: jax.Array, epochs: int, seed: int) -> np.ndarray:
    """The q-quantile of each outcome, on its scaled axis."""
    state = fn.train_state(ADAM, fn.init(NET, jax.random.key(seed)), jax.random.key(seed + 1))
    state, _ = fn.fit(NET, Pinball(q), ADAM, state, training, epochs=epochs, batch_size=32, penalty=fn.L2(3e-3))
    return np.asarray(fn.predict(NET, state.params, x))


def drawn(low: np.ndarray, middle: np.ndarray, high: np.ndarray, y: np.ndarray) -> Figure:
    """Everyone held out, in order of the median: the range, and what came."""
    order = np.argsort(middle)
    figure = Figure((8, 4.5), layout="constrained")
    ax = figure.subplots()
    ax.fill_between(range(len(y)), low[order], high[order], color="#56B4E9", alpha=0.4, label="10 % to 90 %")
    ax.plot(middle[order], color="#0072B2", label="median")
    inside = ((low <= y) & (y <= high))[order]
    for hit, colour, name in ((True, "0.3", "outcome within the range"), (False, "#D55E00", "outside")):
        ax.scatter(np.flatnonzero(inside == hit), y[order][inside == hit], 12, color=colour, label=name, zorder=3)
    ax.set(xlabel="people held out, in order of the median", ylabel="progression after a year")
    ax.legend(loc="upper left")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description="Ranges for diabetes by a loss of one's own.")
    parser.add_argument("--epochs", type=int, default=40, help="passes over the training examples")
    parser.add_argument("--splits", type=int, default=5, help="random splits into training and test set")
    parser.add_argument("--picture", type=Path, default=Path("output/quantiles.png"), help="where the picture goes")
    chosen = parser.parse_args()
    chosen.picture.absolute().parent.mkdir(parents=True, exist_ok=True)

    training, _, _ = load(0)
    report = fn.check_gradients(NET, Pinball(0.9), fn.init(NET, jax.random.key(0)), *(a[:20] for a in training))
    print("The loss and its derivative, against automatic derivatives and differences:\n")
    print(report)

    print("\nPeople held out whose outcome lies below each quantile, and within the range\n")
    print("split   " + "".join(f"q = {q:<6}" for q in QUANTILES) + "within 10 % to 90 %")
    rows = []
    for seed in range(chosen.splits):
        training, (x, y), scale = load(seed)
        low, middle, high = (predicted(q, training, x, chosen.epochs, seed) for q in QUANTILES)
        y = np.asarray(y)
        rows.append([*((y < a).mean() for a in (low, middle, high)), ((low <= y) & (y <= high)).mean()])
        print(f"{seed:5}   " + "".join(f"{share:<10.0%}" for share in rows[-1]).rstrip())
    print(" mean   " + "".join(f"{share:<10.0%}" for share in np.mean(rows, axis=0)).rstrip())
    print(
        f"\n{len(y)} people are held out in each split, so a share of 80 % varies by {(0.8 * 0.2 / len(y)) ** 0.5:.0%}."
    )

    shown = (scale.inverse_transform(a)[:, 0] for a in (low, middle, high, y))
    drawn(*shown).savefig(chosen.picture, dpi=110)
    print(f"The last split as a picture: {chosen.picture}")


if __name__ == "__main__":
    main()
