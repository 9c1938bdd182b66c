"""Two tables of data: which kind of tumour, and how far a disease goes, beside scikit-learn's linear models.

Breast cancer (569 people, 30 measures, malignant or benign) and diabetes (442 people, 10 measures, a number), both in
scikit-learn. Each is learned in five folds; scaling is learned from the training rows of a fold alone. The classes of
the first are weighted alike, the outcome of the second is scaled. All folds have nearly the same size and share one
compiled program.

Then: which columns does it decide by? `backprop` hands out ∂J/∂x of every row, so a column's share in the decision is
the size of ∂J/∂x in it. Beside it what accuracy is lost when the column is shuffled, which takes a forward pass for
each column, and is blind where another column says the same. Where the two differ one learns something about the data.

Needs scikit-learn and matplotlib: .venv/bin/pip install -e '.[examples]'.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import funcnet as fn

try:
    from matplotlib.figure import Figure
    from sklearn.datasets import load_breast_cancer, load_diabetes
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.model_selection import KFold
    from sklearn.preprocessing import StandardScaler
except ImportError as error:
    raise SystemExit(
        f"This example needs {error.name}. Install it by: .venv/bin/pip install -e '.[examples]'"
    ) from None

ADAM = optax.adam(3e-3)


def scaled(x: np.ndarray, rows: np.ndarray, others: np.ndarray) -> list[jax.Array]:
    """Training and held-out rows on the scale of the training rows."""
    scale = StandardScaler().fit(x[rows])
    return [jnp.asarray(scale.transform(x[part]), "float32") for part in (rows, others)]


def trained(net: fn.Chain, loss: fn.Loss, x: jax.Array, y: jax.Array, weights: Any, epochs: int) -> fn.Params:
    state = fn.train_state(ADAM, fn.init(net, jax.random.key(0)), jax.random.key(1))
    state, _ = fn.fit(
        net, loss, ADAM, state, (x, y), epochs=epochs, batch_size=32, weights=weights, penalty=fn.L2(1e-2)
    )
    return state.params


def cancer(epochs: int) -> tuple[Figure, str]:
    data = load_breast_cancer()
    net, loss = fn.mlp((30, 16, 1), fn.Tanh()), fn.BinaryCrossEntropy()
    scores, sizes, losses = [], [], []
    for rows, held in KFold(5, shuffle=True, random_state=0).split(data.data):
        x, test_x = scaled(data.data, rows, held)
        y, test_y = (jnp.asarray(data.target[part]) for part in (rows, held))
        column = y[:, None].astype("float32")  # one output: targets of shape (m, 1)
        params = trained(net, loss, x, column, fn.class_weights(y), epochs)

        def accuracy(x: jax.Array, params: Any = params, y: jax.Array = test_y) -> float:
            return float(((fn.predict(net, params, x)[:, 0] > 0) == y).mean())

        linear = LogisticRegression(C=0.1, max_iter=1000).fit(x, y)
        scores.append((accuracy(test_x), linear.score(test_x, test_y)))
        slopes = fn.backprop(net, loss, params, test_x, test_y[:, None].astype("float32")).input_delta
        sizes.append(jnp.abs(slopes).mean(0))
        draw = np.random.default_rng(0)
        shuffled = (test_x.at[:, i].set(test_x[draw.permutation(len(test_x)), i]) for i in range(test_x.shape[1]))
        losses.append([scores[-1][0] - accuracy(x) for x in shuffled])
    ours, theirs = np.mean(scores, axis=0)
    text = f"breast cancer, accuracy: 30-16-1 {ours:.1%}, logistic regression {theirs:.1%}"
    return drawn(data.feature_names, np.mean(sizes, 0), np.mean(losses, 0)), text


def diabetes(epochs: int) -> str:
    x, y = load_diabetes(return_X_y=True)
    net, loss, scores = fn.mlp((10, 16, 1), fn.Tanh()), fn.SquaredError(), []
    for rows, held in KFold(5, shuffle=True, random_state=0).split(x):
        (train_x, test_x), (train_y, test_y) = scaled(x, rows, held), scaled(y[:, None], rows, held)
        params = trained(net, loss, train_x, train_y, None, epochs)
        ours = fn.evaluate(net, loss, params, (test_x, test_y), metrics=[fn.R2()])["r2"]
        scores.append((ours, Ridge().fit(train_x, train_y).score(test_x, test_y)))
    ours, theirs = np.mean(scores, axis=0)
    return f"diabetes, R²: 10-16-1 {ours:.2f}, ridge regression {theirs:.2f}"


def drawn(names: Any, sizes: np.ndarray, losses: np.ndarray) -> Figure:
    figure = Figure((8, 6.5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    order = np.argsort(sizes)
    left.barh(range(len(names)), sizes[order], color="#0072B2")
    right.barh(range(len(names)), 100 * losses[order], color="#D55E00")
    left.set_yticks(range(len(names)), np.asarray(names)[order], fontsize="small")
    left.set(xlabel="mean |∂J/∂x| of the column")
    right.set(xlabel="accuracy lost when it is shuffled, points")
    figure.suptitle("Breast cancer: what the network decides by, on rows held out")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description="Two tables of data, beside linear models.")
    parser.add_argument("--epochs", type=int, default=60, help="passes over the training rows")
    parser.add_argument("--picture", type=Path, default=Path("output/tables.png"), help="where the picture goes")
    chosen = parser.parse_args()
    chosen.picture.absolute().parent.mkdir(parents=True, exist_ok=True)
    print("Means over five folds:")
    figure, text = cancer(chosen.epochs)
    print(f"  {text}\n  {diabetes(chosen.epochs)}")
    figure.savefig(chosen.picture, dpi=110)
    print(f"What the first decides by: {chosen.picture}")


if __name__ == "__main__":
    main()
