"""A small GPT with its insides open: what it learns from Python's own library, and what its backward pass says of it.

Four blocks of 128 features read letter by letter (a letter is a byte, so no vocabulary is needed) and predict the
next one, trained by `fit` in one compiled program. Four times on its way `generate` writes some lines. One backward
pass then tells

- how the error travels: sizes of error signals and gradients, block by block, of queries, keys and values apart;
- which passages pull hardest: the norm of each passage's own gradient, all of them at the price of one more product;
- what the heads look at: the tape of an `Attention` holds queries, keys and log Σ exp, so its weights are one line.

Needs matplotlib: .venv/bin/pip install -e '.[examples]'. Four minutes on two cores; --quick for a first look.
"""

import argparse
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from texts import passages, written  # from the file texts.py beside this one

import funcnet as fn

try:
    from matplotlib.figure import Figure
except ImportError as error:
    raise SystemExit(
        f"This example needs {error.name}. Install it by: .venv/bin/pip install -e '.[examples]'"
    ) from None

LOSS = fn.CrossEntropy()
LENGTH, BATCH, HELD = 128, 16, 64
BEGUN = b"\n    def "


def arguments() -> argparse.Namespace:
    usage = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description="A GPT with its insides open.", formatter_class=usage)
    parser.add_argument("--steps", type=int, default=2000, help="updates, of 16 passages of 128 letters each")
    parser.add_argument("--samples", type=int, default=4, help="how often it writes on its way, the end included")
    parser.add_argument(
        "--quick", action="store_true", help="two blocks, 80 updates, two samples, whatever is said above"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the batches")
    parser.add_argument("--picture", type=Path, default=Path("output/attention.png"), help="where the picture goes")
    chosen = parser.parse_args()
    chosen.blocks = 2 if chosen.quick else 4
    if chosen.quick:
        chosen.steps, chosen.samples = 80, 2
    if chosen.samples < 1 or chosen.steps < 10 * chosen.samples:
        parser.error("--samples must be 1 or more, --steps 10 or more for each")
    chosen.picture.absolute().parent.mkdir(parents=True, exist_ok=True)
    return chosen


def weights_of(leaf: fn.Attention, tape: tuple[jax.Array, ...]) -> jax.Array:
    """softmax(q kᵀ/√d) of every head: (m, heads, T, T)."""
    x, _, log_sums = tape
    q, k, _ = jnp.split(x.reshape(*x.shape[:2], 3 * leaf.heads, -1), 3, 2)
    scores = jnp.einsum("mthd,mshd->mhts", q, k) / np.sqrt(q.shape[-1])
    return jnp.tril(jnp.exp(scores - log_sums[..., None]))


def drawn(attention: list[np.ndarray], text: str, size: int = 44) -> Figure:
    """The heads that are most decided, each a picture: a row is a letter, bright is what it looks at."""
    heads = [(block + 1, head + 1, p[head]) for block, p in enumerate(attention) for head in range(len(p))]
    entropy = [-(p * np.log(np.maximum(p, 1e-9))).sum(-1).mean() for _, _, p in heads]
    previous = [np.diagonal(p, -1).mean() for _, _, p in heads]
    chosen = [int(np.argmax(previous))]
    chosen += [i for i in np.argsort(entropy) if i not in chosen][:2]
    figure = Figure((13, 4.6), layout="compressed")
    for ax, i in zip(figure.subplots(1, 3), chosen):
        block, head, p = heads[i]
        ax.imshow(p[:size, :size] ** 0.5, cmap="magma", vmin=0, vmax=1)
        ticks = [letter if letter != "\n" else "↵" for letter in text[:size]]
        ax.set_xticks(range(size), ticks, fontsize=6, family="monospace")
        ax.set_yticks(range(size), ticks, fontsize=6, family="monospace")
        ax.set_title(f"block {block}, head {head}")
        ax.set(xlabel="looks at", ylabel="letter")
    return figure


def main() -> None:
    chosen = arguments()
    each = chosen.steps // chosen.samples
    (x, y), held = passages(each * chosen.samples * BATCH, HELD, LENGTH)
    net = fn.gpt(vocabulary=256, length=LENGTH, n=128, heads=4, depth=chosen.blocks)
    params = fn.init(net, jax.random.key(chosen.seed))
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    print(f"{len(x):,} passages of {LENGTH} letters, {count:,} parameters")

    small = fn.gpt(5, 4, n=8, heads=2, depth=2)
    few = np.arange(12).reshape(3, 4) % 5
    print("its derivatives, on a small one:", end=" ")
    report = fn.check_gradients(small, LOSS, fn.init(small, jax.random.key(0)), few, few[::-1])
    print(str(report).splitlines()[-1])

    # It reads every passage once. Each fit goes on where the one before ended, and only the first is compiled.
    rate = optax.warmup_cosine_decay_schedule(0.0, 2e-3, chosen.steps // 10, chosen.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate))
    state = fn.train_state(optimizer, params, jax.random.key(chosen.seed + 1))
    begun, began = np.frombuffer(BEGUN, np.uint8)[None], time.perf_counter()
    options = {"epochs": 1, "batch_size": BATCH, "validation": held, "metrics": [fn.Accuracy()], "progress": True}
    for x_part, y_part in zip(np.split(x, chosen.samples), np.split(y, chosen.samples)):
        state, history = fn.fit(net, LOSS, optimizer, state, (x_part, y_part), **options)
        if history.stopped:
            raise SystemExit(history.stopped)  # by Ctrl-C, or by a cost that is not finite
        cost, right = (history[f"validation_{name}"][-1] for name in ("cost", "accuracy"))
        text = fn.generate(net, state.params, begun, LENGTH - begun.shape[1], jax.random.key(2), temperature=0.7)
        print(f"\n{int(state.step)} updates in {time.perf_counter() - began:.0f} s; passages held out:", end=" ")
        print(f"{cost:.2f} nats a letter (guessing: {np.log(256):.2f}), {right:.0%} of letters right. It writes")
        print(written(text[0]))

    # One backward propagation of the passages held out. Everything below is read from it.
    bp = jax.jit(fn.backprop)(net, LOSS, state.params, *held)
    print("\nhow the error travels                       rms of δ    rms of the gradient")
    for name, sizes in fn.gradient_flow(net, bp, state.params).items():
        if "block" not in name or "block 1" in name or f"block {chosen.blocks}" in name:
            print(f"{name:<44}{sizes['delta']:8.2e}    {sizes['gradient']:8.2e}")

    norms = np.sqrt(jax.jit(fn.example_square_norms)(net, bp))
    order = np.argsort(norms)
    print(f"\neach passage's own gradient: norms {norms.min():.1f} … {norms.max():.1f}, median {np.median(norms):.1f}")
    for what, i in (("pulls hardest", order[-1]), ("pulls least", order[0])):
        passage = written(held[0][i])[:90]
        print(f"{what}, {norms[i]:.1f}, {float(bp.costs[i]) / LENGTH:.2f} nats a letter: {passage!r}")

    found = fn.contract(
        net, lambda leaf, tape, _: weights_of(leaf, tape) if isinstance(leaf, fn.Attention) else (), bp.tape, bp.deltas
    )
    line = next((i for i in range(HELD) if "def " in written(held[0][i])[:30]), 0)
    heads = [np.asarray(p[line]) for p in jax.tree.leaves(found)]
    drawn(heads, written(held[0][line])).savefig(chosen.picture, dpi=110)
    print(f"\nwhat some heads look at: {chosen.picture}")


if __name__ == "__main__":
    main()
