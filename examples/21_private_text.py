"""Private text: how many nats a letter does it cost that no passage can be recovered from a language model?

A language model repeats what it has read. For one trained by DP-SGD (Abadi et al., 2016) there is a proven bound on how
much: in each step every passage's own gradient is cut to a fixed length, and noise on their sum hides whether any one
of them took part. Here a passage is 64 letters of Python's own library, and one small GPT is trained twice, from the
same start and with the same optimiser: plain, and at ε = 8. Each passage's gradient is cut without ever being formed:
its norm follows from the tape and the deltas, over all positions and both uses of the tied embedding.

What ε promises is about one passage, not about an author: who wrote a thousand of them is a thousand times as exposed.
Text that stands in many passages (a licence, say) is learned all the same, and may be: it is not one passage's.
At the start nearly every gradient is longer than the limit, so that all pull about alike. Adam divides by the size of
the gradients, so that the limit itself hardly matters to it.

Needs matplotlib and dp-accounting: .venv/bin/pip install -e '.[examples]'. Five minutes on two cores; --epochs 1 for a
first look.
"""

import argparse
import time
from pathlib import Path

import jax
import numpy as np
import optax
from texts import passages, written  # from the file texts.py beside this one

import funcnet as fn

try:
    import dp_accounting  # noqa: F401  (what keeps the account of ε)
    from matplotlib.figure import Figure
except ImportError as error:
    raise SystemExit(
        f"This example needs {error.name}. Install it by: .venv/bin/pip install -e '.[examples]'"
    ) from None

LOSS = fn.CrossEntropy()
LENGTH, HELD, DELTA = 64, 512, 1e-6
BEGUN = b"\n    def "
PLAIN, PRIVATE = "#0072b2", "#d55e00"  # told apart by colour-blind eyes too


def arguments() -> argparse.Namespace:
    usage = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description="A GPT, trained privately.", formatter_class=usage)
    parser.add_argument("--epsilon", type=float, default=8.0, help=f"what may get out, at δ = {DELTA:g}")
    parser.add_argument("--passages", type=int, default=25_600, help="of 64 letters each")
    parser.add_argument("--epochs", type=int, default=4, help="passes over them")
    parser.add_argument("--batch-size", type=int, default=256, help="passages in a step, on average")
    parser.add_argument("--max-norm", type=float, default=20.0, help="what a passage's gradient is cut to")
    parser.add_argument("--learning-rate", type=float, default=8e-3, help="of Adam")
    parser.add_argument("--seed", type=int, default=0, help="of weights, batches and noise")
    parser.add_argument("--picture", type=Path, default=Path("output/private_text.png"), help="where the picture goes")
    parser.add_argument("--quick", action="store_true", help="1024 passages, 2 epochs, whatever is said above")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.passages, chosen.epochs = 1024, 2
    if min(chosen.epochs, chosen.batch_size) < 1 or chosen.passages < chosen.batch_size:
        parser.error("--epochs and --batch-size must be 1 or more, --passages at least --batch-size")
    if min(chosen.epsilon, chosen.max_norm, chosen.learning_rate) <= 0:
        parser.error("--epsilon, --max-norm and --learning-rate must be above 0")
    chosen.picture.absolute().parent.mkdir(parents=True, exist_ok=True)
    return chosen


def main() -> None:
    chosen, began = arguments(), time.perf_counter()
    train, held = passages(chosen.passages, HELD, LENGTH)
    net = fn.gpt(vocabulary=256, length=LENGTH, n=64, heads=4, depth=2)
    params = fn.init(net, jax.random.key(chosen.seed))
    steps = chosen.epochs * -(-chosen.passages // chosen.batch_size)
    noise = fn.noise_multiplier(
        chosen.epsilon, delta=DELTA, examples=chosen.passages, batch_size=chosen.batch_size, epochs=chosen.epochs
    )
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    print(f"{chosen.passages:,} passages of {LENGTH} letters, {count:,} parameters, {steps} updates")

    # The rate falls to 0 so that what is learned last is not what the noise said last.
    optimizer = optax.adam(optax.warmup_cosine_decay_schedule(0.0, chosen.learning_rate, steps // 10, steps))
    options = {"epochs": chosen.epochs, "batch_size": chosen.batch_size, "validation": held, "progress": True}
    begun, histories = np.frombuffer(BEGUN, np.uint8)[None], {}
    for name, privacy in (("plain", None), ("private", fn.Privacy(chosen.max_norm, noise, DELTA))):
        state = fn.train_state(optimizer, params, jax.random.key(chosen.seed + 1))
        state, history = fn.fit(net, LOSS, optimizer, state, train, privacy=privacy, **options)
        if history.stopped:
            raise SystemExit(history.stopped)  # by Ctrl-C, or by a cost that is not finite
        told = f"ε = {history['epsilon'][-1]:.2f}, noise σ = {noise:.2f}" if privacy else "no privacy"
        text = fn.generate(net, state.params, begun, LENGTH - begun.shape[1], jax.random.key(2), temperature=0.7)
        print(f"\n{name}, {told}: {history['validation_cost'][-1]:.3f} nats a letter of passages held out. It writes")
        print(written(text[0]))
        histories[name] = history

    # The lengths that passages' gradients had at the start say what was cut.
    bp = jax.jit(fn.backprop)(net, LOSS, params, *held)
    norms = np.sqrt(jax.jit(fn.example_square_norms)(net, bp))
    low, middle, high = np.percentile(norms, [5, 50, 95])
    print(f"\nA passage's gradient at the start has norm {low:.0f} to {high:.0f}, median {middle:.0f};", end=" ")
    print(f"cut to {chosen.max_norm:g}")

    spent = histories["private"]["epsilon"][-1]
    drawn(histories, f"ε = {spent:.1f}, δ = {DELTA:g}", chosen.picture)
    print(f"Nats a letter, epoch by epoch: {chosen.picture}, after {time.perf_counter() - began:.0f} seconds")


def drawn(histories: dict[str, fn.History], told: str, path: Path) -> None:
    """The cost of passages held out, of both trainings, and what the private one has spent."""
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    ax = figure.subplots()
    for (name, history), colour in zip(histories.items(), (PLAIN, PRIVATE)):
        costs = history["validation_cost"]
        epochs = np.arange(1, len(costs) + 1)
        label = name if name == "plain" else f"private, {told}"
        ax.plot(epochs, costs, "o-", color=colour, linewidth=2, markersize=5, label=f"{label}: {costs[-1]:.2f}")
    ax.legend(fontsize=12)
    ax.set_xticks(epochs)
    ax.set_xlabel("epoch", fontsize=12)
    ax.set_ylabel("nats a letter, passages held out", fontsize=12)
    ax.tick_params(labelsize=11)
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_title("What privacy costs a language model", fontsize=14)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
