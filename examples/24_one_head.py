"""One attention head by hand: four positions, two features, every number of the way there and of the way back.

q = x w_q, k = x w_k and v = x w_v; each query is held against the keys up to its own position, softmax makes weights of
the scores, and the output is the mean of the values by these weights. Then ∂J goes back through all of it. `worksheet`
writes the sums out as one would on paper, as text here and as Markdown for a notebook or a handout.

What one can read off it:

- position 1 sees itself alone: its weight is 1 whatever its score, so neither its query nor its score gets any signal;
- the scores' derivatives of one query add up to 0, since adding the same number to all its scores changes no weight;
- that is why the keys' biases get none: they add the same number, q·b, to all scores of a query.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp

import funcnet as fn

NET, LOSS = fn.Chain(fn.Dense(2, 6), fn.Attention(2, 1)), fn.SquaredError()

X = [[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.5, -1.0]]]  # one text of four positions
Y = [[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]]
W_Q, W_K, W_V = ([[0.9, 0.1], [0.2, 0.8]], [[0.5, -0.3], [0.7, 0.4]], [[0.6, 0.0], [-0.2, 1.0]])


def main() -> None:
    parser = argparse.ArgumentParser(description="One attention head by hand.")
    parser.add_argument("--markdown", type=Path, default=Path("output/head.md"), help="where the sheet goes, too")
    chosen = parser.parse_args()
    jax.config.update("jax_enable_x64", True)  # the digits below are then those of a calculation by hand

    w = jnp.concatenate([jnp.array(part) for part in (W_Q, W_K, W_V)], 1)  # one layer gives all three, side by side
    params = fn.from_weights(NET, [w])
    x, y = jnp.array(X), jnp.array(Y)
    sheet = fn.worksheet(NET, LOSS, params, x, y, learning_rate=0.5, digits=4)
    print(sheet)
    chosen.markdown.absolute().parent.mkdir(parents=True, exist_ok=True)
    sheet.save(chosen.markdown)
    print(f"\nThe same as Markdown: {chosen.markdown}")

    # The same by the library's own backward pass, and by jax.grad.
    bp = fn.backprop(NET, LOSS, params, x, y)
    print("\nerror signals of q, k and v, one row per position, of the summed cost, so 4 times those above:")
    print(bp.deltas[0])
    print("\n" + str(fn.check_gradients(NET, LOSS, params, x, y)).splitlines()[-1])


if __name__ == "__main__":
    main()
