"""Who taught this sentence? The passages that a language model has it from, and a trial without them.

A small GPT reads passages of Python's own library. A step along −g_i, the gradient of passage i, changes the cost of a
sentence, whose gradient is h, by about −η g_i·h: what passage i taught of it. Summed over states of the training, times
the learning rate there, that is TracIn (Pruthi et al., 2020), for plain gradient descent; with Adam, as here, it is an
approximation. `example_gram` takes all g_i·h from tape and deltas of one pass over the passages and one over the
sentence, for all layers, positions and both uses of the tied embedding: no gradient of a passage is ever formed.

Whether it is true can be tried: the model is trained again without those passages that taught most, and once without
as many others. The method is not told which passages hold the sentence, so how many of them it finds is counted, too.

Two minutes on two cores; --quick for a first look.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from texts import passages, written  # from the file texts.py beside this one

import funcnet as fn

LOSS = fn.CrossEntropy()
LENGTH, BATCH, PIECE, RATE = 64, 32, 256, 2e-3
NET = fn.gpt(vocabulary=256, length=LENGTH, n=64, heads=4, depth=2)


def arguments() -> argparse.Namespace:
    usage = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description="Who taught this sentence?", formatter_class=usage)
    parser.add_argument("--sentence", default="\n        raise NotImplementedError", help="at most 64 ASCII letters")
    parser.add_argument("--passages", type=int, default=25_600, help="of 64 letters each, read once")
    parser.add_argument("--without", type=int, default=40, help="passages left out when it is trained again")
    parser.add_argument("--quick", action="store_true", help="3200 passages")
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.passages = 3200
    if not 1 < len(chosen.sentence) <= LENGTH or not chosen.sentence.isascii():
        parser.error(f"--sentence: 2 to {LENGTH} ASCII letters")
    if chosen.passages < 10 * BATCH or not 0 < chosen.without <= chosen.passages // 2:
        parser.error(f"--passages must be {10 * BATCH} or more, --without above 0 and at most half of it")
    return chosen


def trained(x: np.ndarray, y: np.ndarray, kept: np.ndarray, seed: int) -> list[fn.Params]:
    """The network after half of the training and at its end. A passage of weight 0 is left out, in the same order."""
    optimizer = optax.adam(RATE)
    state = fn.train_state(optimizer, fn.init(NET, jax.random.key(seed)), jax.random.key(seed + 1))
    states, half = [], len(x) // 2 // BATCH * BATCH
    for part in (slice(half), slice(half, 2 * half)):
        data = x[part], y[part]
        state, history = fn.fit(NET, LOSS, optimizer, state, data, epochs=1, batch_size=BATCH, weights=kept[part])
        if history.stopped:
            raise SystemExit(history.stopped)  # by Ctrl-C, or by a cost that is not finite
        states.append(state.params)
    return states


@jax.jit
def taught(params: fn.Params, x: jax.Array, y: jax.Array, sentence: tuple[jax.Array, jax.Array]) -> jax.Array:
    """g_i·h of every passage with the sentence."""
    whole = fn.backprop(NET, LOSS, params, *sentence)
    return fn.example_gram(NET, fn.backprop(NET, LOSS, params, x, y), whole)[:, 0]


def main() -> None:
    chosen, began = arguments(), time.perf_counter()
    (x, y), _ = passages(chosen.passages, 1, LENGTH)
    letters = np.frombuffer(chosen.sentence.encode(), np.uint8)[None]
    sentence = jnp.asarray(letters[:, :-1]), jnp.asarray(letters[:, 1:])
    holds = np.array([chosen.sentence.strip().encode() in row.tobytes() for row in x])
    print(f"{len(x):,} passages, of which {holds.sum()} hold {chosen.sentence.strip()!r}: nobody says which")

    def cost_of(params: fn.Params) -> float:
        return float(fn.cost(NET, LOSS, params, *sentence))

    everything = np.ones(len(x), np.float32)
    states = trained(x, y, everything, chosen.seed)
    pieces = [slice(i, i + PIECE) for i in range(0, len(x), PIECE)]
    influence = (
        RATE
        / (BATCH * LENGTH)
        * sum(np.concatenate([taught(params, x[piece], y[piece], sentence) for piece in pieces]) for params in states)
    )
    order = np.argsort(-influence, kind="stable")
    first = order[: holds.sum()]
    print(f"Of the {len(first)} passages that taught it most {holds[first].sum()} hold it", end=" ")
    print(f"(by chance {holds.mean() * len(first):.1f}). The first ones, and the last:")
    for i in [*order[:6], order[-1]]:
        print(f"{influence[i]:9.4f}  {written(x[i])!r}")

    # The trial: without these passages, and without as many others.
    others = np.random.default_rng(chosen.seed).permutation(order[chosen.without :])[: chosen.without]
    print(f"\nnats a letter of the sentence, trained on all: {cost_of(states[-1]):.3f}")
    for what, out in (("that taught most", order[: chosen.without]), ("others", others)):
        kept = everything.copy()
        kept[out] = 0
        print(f"without {chosen.without} {what}: {cost_of(trained(x, y, kept, chosen.seed)[-1]):.3f}")
    print(f"after {time.perf_counter() - began:.0f} seconds")


if __name__ == "__main__":
    main()
