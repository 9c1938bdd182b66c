"""What a trained network looks at: the error signal, carried on beyond the first layer, is a picture.

A backward pass does not end at the weights: it also gives the derivative by each pixel (Simonyan et al., 2014). Begun
with a 1 at one output and 0 elsewhere, it says how that output, the logit of one kind, would change with each pixel.
Three pictures are made of it, of a convolutional network on digits and, where its files are there, on Fashion-MNIST:

- the gradient g: what a small change of the pixel would do, also of one that is black;
- g ⊙ x, its share of what is there, were the network linear;
- integrated gradients, x ⊙ the mean of g over the way from black to the picture (Sundararajan et al., 2017). They add
  up to f(x) - f(black): every bit of the logit is accounted for ("completeness"), which g ⊙ x does not promise.

Such pictures persuade easily. So they are put to the test: the pixels that a method calls the most important are made
black, and the method is as good as the network then fails, against as many bright pixels chosen at random.
Needs scikit-learn and matplotlib: .venv/bin/pip install -e '.[examples]'.
"""

import argparse
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from idx import DEBIAN, KINDS, load  # from the file idx.py beside this one

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
METHODS = "gradient", "gradient × input", "integrated gradients"


def network(side: int) -> fn.Chain:
    """Two convolutions; the pool makes a quarter of side × side places."""
    return fn.Chain(
        fn.Conv(1, 16, (3, 3)), fn.ReLU(), fn.MaxPool((2, 2)), fn.Conv(16, 16, (3, 3)), fn.ReLU(),
        fn.Flatten(), fn.Dropout(0.3), fn.Dense(side * side // 4 * 16, 10),
    )  # fmt: skip


def arguments() -> argparse.Namespace:
    usage = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description="What a network looks at.", formatter_class=usage)
    parser.add_argument("--data", type=Path, default=DEBIAN, help="folder of Fashion-MNIST's IDX files, if there")
    parser.add_argument("--examples", type=int, default=12_000, help="pictures of clothes to learn from, at most")
    parser.add_argument("--epochs", type=int, default=20, help="passes over the digits, a quarter over the clothes")
    parser.add_argument("--points", type=int, default=50, help="on the way from black to a picture")
    parser.add_argument("--seed", type=int, default=0, help="of the split, the weights and the batches")
    parser.add_argument("--picture", type=Path, default=Path("output/saliency.png"), help="where the picture goes")
    parser.add_argument("--quick", action="store_true", help="4000 pictures of clothes, whatever is said above")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.examples = 4000
    if min(chosen.examples, chosen.epochs, chosen.points) < 1:
        parser.error("--examples, --epochs and --points must be 1 or more")
    chosen.picture.absolute().parent.mkdir(parents=True, exist_ok=True)
    return chosen


def pixel_gradient(net: fn.Chain, params: fn.Params, x: jax.Array, kinds: jax.Array) -> jax.Array:
    """∂(logit of its kind)/∂x for each picture: the backward pass of a 1 at that output."""
    output, tape = fn.forward(net, params, x)
    return fn.backward(net, params, tape, jax.nn.one_hot(kinds, output.shape[-1], dtype=output.dtype))[0]


def mean_gradient(net: fn.Chain, params: fn.Params, x: jax.Array, kinds: jax.Array, points: int) -> jax.Array:
    """The mean of the gradient over the straight line from black to x: at the middles of equal parts."""
    gradient = jax.jit(pixel_gradient, static_argnums=0)  # compiled by the first call
    total = jnp.zeros_like(x)
    for k in range(points):
        total += gradient(net, params, (k + 0.5) / points * x, kinds)
    return total / points


def attributions(net: fn.Chain, params: fn.Params, x: jax.Array, kinds: jax.Array, points: int) -> list[np.ndarray]:
    """What each of the METHODS says of each pixel."""
    g = pixel_gradient(net, params, x, kinds)
    return [np.asarray(each) for each in (g, g * x, mean_gradient(net, params, x, kinds, points) * x)]


def look(name: str, names: tuple[str, ...], net: fn.Chain, training: tuple, test: tuple, epochs: int, rate: float,
         chosen: argparse.Namespace) -> list[tuple[str, np.ndarray, list[np.ndarray]]]:  # fmt: skip
    """Train, explain the test pictures, check completeness, and test the explanations. The rows to draw."""
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, epochs * -(-len(training[0]) // 32)))
    weights_key, order_key = jax.random.split(jax.random.key(chosen.seed))
    state = fn.train_state(optimizer, fn.init(net, weights_key), order_key)
    state, history = fn.fit(net, LOSS, optimizer, state, training, epochs=epochs, batch_size=32)
    if history.stopped:
        raise SystemExit(history.stopped)  # by Ctrl-C, or by a cost that is not finite
    params, (x, kinds) = state.params, test
    output = fn.predict(net, params, x)
    print(f"\n{name}: {len(training[0])} pictures learned from; {accuracy(output, kinds):.1%} of {len(x)} others read")

    # Completeness. Biases let g ⊙ x fall short: a network of ReLU and pools without them would be as good as linear
    # along the way, and both methods would be one.
    pictures = attributions(net, params, x, kinds, chosen.points)
    gained = (output - fn.predict(net, params, jnp.zeros_like(x)))[jnp.arange(len(x)), kinds]
    print(f"logit above that of a black picture: {gained.mean():.2f} on average. What the pixels' shares add up to:")
    for method, shares in zip(METHODS[1:], pictures[1:]):
        error = np.abs(shares.sum((1, 2, 3)) - gained)
        print(f"{method:22}{shares.sum((1, 2, 3)).mean():8.2f}, off by {error.mean():.3f} ({error.max():.3f} at most)")

    # The test. Only a pixel that is not black can be made so: the highest shares of those are.
    share = 0.1
    print(f"accuracy when the top {share:.0%} of all pixels are made black, by")
    scores = {"chance": np.random.default_rng(chosen.seed).random(x.shape)} | dict(zip(METHODS, pictures))
    for method, score in scores.items():
        print(f"{method:22}{accuracy(fn.predict(net, params, blackened(x, score, share)), kinds):8.1%}")

    rows = [int(np.argmax(np.asarray(kinds) == kind)) for kind in (2, 3, 8, 9)]  # the first of each of these
    return [(names[kinds[i]], np.asarray(x[i, ..., 0]), [each[i, ..., 0] for each in pictures]) for i in rows]


def accuracy(output: jax.Array, kinds: jax.Array) -> float:
    return float(jnp.mean(output.argmax(-1) == kinds))


def blackened(x: jax.Array, score: np.ndarray, share: float) -> jax.Array:
    """The pictures without the highest scores among their bright pixels."""
    bright = np.where(np.asarray(x) > 0, score, -np.inf).reshape(len(x), -1)
    order = np.argsort(-bright, axis=1, kind="stable")[:, : round(share * bright.shape[1])]
    black = np.array(x).reshape(len(x), -1)
    np.put_along_axis(black, order, 0, axis=1)
    return jnp.asarray(black.reshape(x.shape))


def main() -> None:
    chosen, started = arguments(), time.perf_counter()
    pictures, digits = load_digits(return_X_y=True)
    pictures = (pictures / 16).reshape(-1, 8, 8, 1).astype(np.float32)
    parts = train_test_split(pictures, digits, test_size=0.2, random_state=chosen.seed, stratify=digits)
    x, test_x, y, test_y = (jnp.asarray(part) for part in parts)
    names = tuple(map(str, range(10)))
    rows = look("Digits", names, network(8), (x, y), (test_x, test_y), chosen.epochs, 3e-3, chosen)

    try:
        (x, y), (test_x, test_y) = load(chosen.data, "train"), load(chosen.data, "t10k")
    except FileNotFoundError as error:
        print(f"\nNo Fashion-MNIST, then. {error}")
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from None
    else:
        (x, y), test = (
            (jnp.asarray(images[:most].reshape(-1, 28, 28, 1)), jnp.asarray(kinds[:most]))
            for images, kinds, most in ((x, y, chosen.examples), (test_x, test_y, 500))
        )
        rows += look("Fashion-MNIST", KINDS, network(28), (x, y), test, -(-chosen.epochs // 4), 1e-3, chosen)

    draw(rows, chosen.picture)
    print(f"\nWhat the networks look at: {chosen.picture}, after {time.perf_counter() - started:.0f} seconds")


def draw(rows: list[tuple[str, np.ndarray, list[np.ndarray]]], path: Path) -> None:
    """Pictures in rows, methods in columns; two blocks side by side."""
    down = min(len(rows), 4)
    figure = Figure(figsize=(1 + 6.6 * (len(rows) // down), 0.9 + 1.7 * down), layout="constrained")
    blocks = np.atleast_1d(figure.subfigures(1, len(rows) // down, wspace=0.05))
    for start, block in zip(range(0, len(rows), down), blocks):
        for row, (axes, (kind, image, shares)) in enumerate(zip(block.subplots(down, 4), rows[start : start + down])):
            axes[0].imshow(image, cmap="gray", vmin=0, vmax=1)
            axes[0].set_ylabel(kind, fontsize=12)
            for ax, share in zip(axes[1:], shares):
                limit = np.quantile(np.abs(share), 0.995) or 1.0
                ax.imshow(share, cmap="RdBu_r", vmin=-limit, vmax=limit)
            for ax, title in zip(axes, ("picture", *METHODS)):
                ax.set(xticks=[], yticks=[])
                if not row:
                    ax.set_title(title, fontsize=12)
    figure.suptitle("What speaks for the picture's own kind (red) and against it (blue)", fontsize=15)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
