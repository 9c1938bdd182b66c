"""Wrong labels found: a twentieth of the digits get a false name, and the training itself tells which.

A network learns scikit-learn's 1797 digits, the wrong labels with the right. A step along −g_i, the gradient of
example i, changes the cost of example j by about −η g_i·g_j: the influence of i on j is Σ_t η g_i·g_j over states
θ_t of the training (TracIn: Pruthi et al., 2020). That of i on itself, Σ_t η ‖g_i‖², is high where a label is
learned against the others and not with them. And where g_i·g_j is negative, what one picture teaches the other
unlearns: from those who contradict a wrong label one may read the right one. Squared norms and inner products
come from the tape and deltas of one pass: no gradient of an example is ever formed.

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
except ImportError as error:
    raise SystemExit(
        f"This example needs {error.name}. Install it by: .venv/bin/pip install -e '.[examples]'"
    ) from None

NET, LOSS = fn.mlp((64, 128, 10), fn.ReLU(), init=fn.HeNormal()), fn.CrossEntropy()


def arguments() -> argparse.Namespace:
    usage = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description="Find wrong labels among digits.", formatter_class=usage)
    parser.add_argument("--share", type=float, default=0.05, help="share of the pictures whose label is made wrong")
    parser.add_argument("--epochs", type=int, default=200, help="passes over the pictures")
    parser.add_argument("--every", type=int, default=10, help="epochs from one saved state to the next")
    parser.add_argument("--batch-size", type=int, default=32, help="pictures in a step")
    parser.add_argument("--learning-rate", type=float, default=0.1, help="of plain gradient descent")
    parser.add_argument("--seed", type=int, default=0, help="of the wrong labels, the weights and the batches")
    parser.add_argument("--picture", type=Path, default=Path("output/wrong_labels.png"), help="where the picture goes")
    chosen = parser.parse_args()
    if min(chosen.epochs, chosen.every, chosen.batch_size) < 1 or chosen.epochs < chosen.every:
        parser.error("--epochs, --every and --batch-size must be 1 or more, --epochs at least --every")
    if not 0 < chosen.share < 1 or chosen.learning_rate <= 0:
        parser.error("--share must be between 0 and 1, --learning-rate above 0")
    chosen.picture.absolute().parent.mkdir(parents=True, exist_ok=True)
    return chosen


def planted(digits: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The labels as given, and which of them are wrong: another digit, each of the nine as likely."""
    draw = np.random.default_rng(seed)
    wrong = np.zeros(len(digits), bool)
    wrong[draw.choice(len(digits), max(1, round(share * len(digits))), replace=False)] = True
    return np.where(wrong, (digits + draw.integers(1, 10, len(digits))) % 10, digits), wrong


def main() -> None:
    chosen, started = arguments(), time.perf_counter()
    pictures, digits = load_digits(return_X_y=True)
    given, wrong = planted(digits, chosen.share, chosen.seed)
    x, y = jnp.asarray(pictures / 16, jnp.float32), jnp.asarray(given)

    # TracIn is about plain gradient descent. States are saved every few epochs: each fit goes on where the
    # one before ended, and since all are alike, only the first is compiled.
    optimizer = optax.sgd(chosen.learning_rate)
    weights_key, order_key = jax.random.split(jax.random.key(chosen.seed))
    state, states = fn.train_state(optimizer, fn.init(NET, weights_key), order_key), []
    for _ in range(chosen.epochs // chosen.every):
        state, _ = fn.fit(
            NET, LOSS, optimizer, state, (x, y), epochs=chosen.every, batch_size=min(chosen.batch_size, len(x))
        )
        states.append(state.params)
    learned = jnp.mean(fn.predict(NET, states[-1], x).argmax(-1) == y)
    print(f"{len(x)} pictures, {wrong.sum()} with a wrong label; {learned:.1%} of the labels as given are learned")

    # All influences over all states, and beside them what the cost alone says. One backward pass a state.
    @jax.jit
    def looked_at(params: fn.Params, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        bp = fn.backprop(NET, LOSS, params, x, y)
        return bp.costs, fn.example_square_norms(NET, bp), fn.example_gram(NET, bp)

    costs, squares, grams = zip(*(looked_at(params, x, y) for params in states))
    influence = chosen.learning_rate * np.sum(grams, axis=0)  # of i on j; its diagonal is the self-influence
    against = np.maximum(-influence, 0)
    scores = {
        f"self-influence over {len(states)} states": chosen.learning_rate * np.sum(squares, axis=0),
        "self-influence, last state only": np.asarray(squares[-1]),
        "influence of all who contradict": against.sum(axis=1),
        "cost, last state only": np.asarray(costs[-1]),
        f"cost over {len(states)} states": np.sum(costs, axis=0),
    }
    print(f"\nOf the {wrong.sum()} highest scores, how many are wrong labels (by chance {wrong.mean():.0%})")
    for name, score in scores.items():
        print(f"{name:33}{wrong[highest(score, wrong.sum())].mean():6.1%}")

    # At the end most wrong labels are known by heart and look like any other; a sum over the way there
    # does not forget. The cost, summed likewise, finds them too. But a cost does not say why: an
    # influence is between two pictures, and those who contradict a label bring labels of their own.
    votes = np.stack([against[:, given == digit].sum(axis=1) for digit in range(10)], axis=1)
    votes[np.arange(len(given)), given] = 0
    named = votes.argmax(axis=1)
    order = highest(scores[f"self-influence over {len(states)} states"], len(given))
    suspects = order[: wrong.sum()]
    found = suspects[wrong[suspects]]
    print(f"\nOf the {len(found)} wrong labels found by self-influence, those who contradict name the true digit")
    print(f"of {np.sum(named[found] == digits[found])}. Not wrong, but suspected:", end=" ")
    print(*(f"{digits[i]} (like {named[i]})" for i in suspects[~wrong[suspects]]), sep=", ")

    right = [i for i in order if not wrong[i]]
    draw(pictures, digits, given, named, [*order[:16], *right[:8]], chosen.picture)
    print(f"\nThe most suspicious: {chosen.picture}, after {time.perf_counter() - started:.0f} seconds")


def highest(score: np.ndarray, number: int) -> np.ndarray:
    return np.argsort(-score, kind="stable")[:number]


def draw(
    pictures: np.ndarray, digits: np.ndarray, given: np.ndarray, named: np.ndarray, rows: list[int], path: Path
) -> None:
    """The pictures with their labels."""
    figure = Figure(figsize=(12, 6.6), layout="constrained")
    for ax, i in zip(figure.subplots(3, 8).flat, rows):
        ax.imshow(-pictures[i].reshape(8, 8), cmap="gray")
        ax.set(xticks=[], yticks=[])
        ax.set_title(f"given {given[i]}, true {digits[i]}", fontsize=11, fontweight="bold")
        ax.set_xlabel(f"the others say {named[i]}", fontsize=11)
        is_wrong = given[i] != digits[i]
        ax.spines[:].set(color="#d55e00" if is_wrong else "#0072b2", linewidth=4)
    figure.suptitle(
        "The labels that the training had to push hardest for, by self-influence (vermilion: wrong ones, planted)\n"
        "third row: the right labels that it had to push hardest for", fontsize=14,
    )  # fmt: skip
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
