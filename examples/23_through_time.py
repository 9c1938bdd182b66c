"""Backpropagation through time: how far back an error signal reaches in a plain recurrent network, a GRU, an LSTM.

A recurrent network is as deep as its text is long. In the plain one, h_t = tanh(x_t w + h_{t-1} u + b), the error
signal of a letter is multiplied by u and by a slope of tanh for every letter that it goes back: it vanishes, as it does
in a deep network of sigmoids, only along the text. u decides how fast: drawn as PyTorch does it takes off two fifths
at every letter, an orthogonal one nearly nothing. A GRU and an LSTM add to their state in place of replacing it, by
gates that may learn to keep it.

The cost here is that of the last letter alone (all others have the weight 0, so they are context), and what each
earlier letter gets of its error signal stands in the deltas: `gradient_flow` at one position after the other. Then all
learn the same text, and are looked at again: in the plain ones next to nothing comes 63 letters back, orthogonal or
not, and the GRU, which began with gates half open, has learned to pass on more than the others.

The plain layer is written here: the four functions of a layer, with its backward pass by hand, and `check_layer`
holds it against its own forward pass and the laws that all layers obey.

Needs matplotlib: .venv/bin/pip install -e '.[examples]'. Two minutes on two cores; --quick for a first look.
"""

import argparse
import time
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from texts import passages, written  # from the file texts.py beside this one

import funcnet as fn

try:
    from matplotlib.figure import Figure
except ImportError as error:
    raise SystemExit(
        f"This example needs {error.name}. Install it by: .venv/bin/pip install -e '.[examples]'"
    ) from None

LOSS = fn.CrossEntropy()
LENGTH, BATCH, HELD, N = 64, 32, 256, 128
LAYERS = {
    "plain": lambda: Plain(N, N), "orthogonal": lambda: Plain(N, N, orthogonal=True),
    "GRU": lambda: fn.GRU(N, N), "LSTM": lambda: fn.LSTM(N, N),
}  # fmt: skip
COLOURS = "#d55e00", "#cc79a7", "#0072b2", "#009e73"  # told apart by colour-blind eyes too


@fn.spec
class Plain:
    """h_t = tanh(x_t w + h_{t-1} u + b), with h_0 = 0; x is (m, T, n_in), and y holds every h_t, (m, T, n_out)."""

    n_in: int
    n_out: int
    orthogonal: bool = False
    causal: ClassVar[bool] = True  # no output depends on what comes later, so that `generate` takes it

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        of_w, of_u = jax.random.split(key)
        w = jax.nn.initializers.glorot_uniform()(of_w, (self.n_in, self.n_out))
        size = (self.n_out, self.n_out)
        if self.orthogonal:  # keeps the length of what it multiplies (Saxe et al., 2014)
            u = jax.nn.initializers.orthogonal()(of_u, size)
        else:  # PyTorch's default, which shortens it to 0.58 on average
            u = jax.random.uniform(of_u, size, minval=-1, maxval=1) / np.sqrt(self.n_out)
        return {"w": w, "u": u, "b": jnp.zeros(self.n_out)}

    def forward(self, params: fn.Params, x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        def step(h: jax.Array, x_w: jax.Array) -> tuple[jax.Array, jax.Array]:
            h = jnp.tanh(x_w + h @ params["u"])
            return h, h

        sums = jnp.moveaxis(x @ params["w"] + params["b"], 1, 0)  # positions first, for the loop
        y = jnp.moveaxis(lax.scan(step, jnp.zeros_like(sums[0]), sums)[1], 0, 1)
        return y, (x, y)

    def backward(
        self, params: fn.Params, tape: tuple[jax.Array, jax.Array], delta: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        def step(carried: jax.Array, at: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            delta, h = at
            of_sum = (delta + carried) * (1 - h * h)  # what comes from above, and from the position behind
            return of_sum @ params["u"].T, of_sum

        parts = jnp.moveaxis(delta, 1, 0), jnp.moveaxis(tape[1], 1, 0)
        sums = jnp.moveaxis(lax.scan(step, jnp.zeros_like(delta[:, 0]), parts, reverse=True)[1], 0, 1)
        return sums @ params["w"].T, sums

    def gradient(self, tape: tuple[jax.Array, jax.Array], deltas: jax.Array) -> dict[str, jax.Array]:
        x, y = tape
        before = jnp.pad(y[:, :-1], ((0, 0), (1, 0), (0, 0)))  # h_{t-1}
        w, u = (jnp.einsum("mti,mto->io", came_in, deltas) for came_in in (x, before))
        return {"w": w, "u": u, "b": deltas.sum((0, 1))}


def arguments() -> argparse.Namespace:
    usage = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description="Error signals through time.", formatter_class=usage)
    parser.add_argument("--steps", type=int, default=1500, help="updates, of 32 passages of 64 letters each")
    parser.add_argument("--quick", action="store_true", help="60 updates of a plain net and an LSTM alone")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the batches")
    parser.add_argument("--picture", type=Path, default=Path("output/through_time.png"), help="where the picture goes")
    chosen = parser.parse_args()
    chosen.steps = 60 if chosen.quick else chosen.steps
    chosen.layers = ("plain", "LSTM") if chosen.quick else tuple(LAYERS)
    if chosen.steps < 10:
        parser.error("--steps must be 10 or more")
    chosen.picture.absolute().parent.mkdir(parents=True, exist_ok=True)
    return chosen


@jax.jit(static_argnums=0)
def reached(net: fn.Chain, params: fn.Params, x: jax.Array, y: jax.Array) -> jax.Array:
    """How large the error signal of the last letter is at each letter, over that at the last: (LENGTH,)."""
    last_alone = jnp.zeros(x.shape).at[:, -1].set(1)
    bp = fn.backprop(net, LOSS, params, x, y, weights=last_alone)

    def at(place: int) -> jax.Array:
        tape, deltas = jax.tree.map(lambda a: a[:, place : place + 1], (bp.tape, bp.deltas))
        return fn.gradient_flow(net, bp._replace(tape=tape, deltas=deltas), params)["layer 1"]["delta"]

    sizes = jnp.stack([at(place) for place in range(LENGTH)])
    return sizes / sizes[-1]


def main() -> None:
    chosen, began = arguments(), time.perf_counter()
    train, held = passages(chosen.steps * BATCH, HELD, LENGTH)
    small, few = Plain(3, 4), jax.random.normal(jax.random.key(0), (2, 5, 3))
    report = fn.check_layer(small, small.init(jax.random.key(1)), few)
    print("the plain layer:", str(report).splitlines()[-1])

    rate = optax.warmup_cosine_decay_schedule(0.0, 4e-3, chosen.steps // 10, chosen.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    signals, begun = {}, np.frombuffer(b"\n    def ", np.uint8)[None]
    for name in chosen.layers:
        net = fn.Chain(fn.Embedding(256, N), LAYERS[name](), fn.Dense(N, 256))
        state = fn.train_state(optimizer, fn.init(net, jax.random.key(chosen.seed)), jax.random.key(chosen.seed + 1))
        before = reached(net, state.params, *held)
        state, history = fn.fit(net, LOSS, optimizer, state, train, epochs=1, batch_size=BATCH, validation=held)
        if history.stopped:
            raise SystemExit(history.stopped)  # by Ctrl-C, or by a cost that is not finite
        signals[name] = np.stack([before, reached(net, state.params, *held)])
        cost = history["validation_cost"][-1]
        print(
            f"\n{name}: {cost:.3f} nats a letter of passages held out, {time.perf_counter() - began:.0f} s. It writes"
        )
        text = fn.generate(net, state.params, begun, 100, jax.random.key(2), temperature=0.7)
        print(written(text[0]))

    places = [1, 2, 4, 8, 16, 32, LENGTH - 1]
    for when, row in (("before any training", 0), ("trained", 1)):
        print(f"\nWhat the error signal of the last letter has kept, so many letters back, {when}")
        print(f"{'':12}" + "".join(f"{place:9}" for place in places))
        for name, sizes in signals.items():
            print(f"{name:12}" + "".join(f"{sizes[row][-1 - place]:9.1e}" for place in places))
    drawn(signals, chosen.picture)
    print(f"\nThe same, letter by letter: {chosen.picture}")


def drawn(signals: dict[str, np.ndarray], path: Path) -> None:
    """What of the error signal is left, letter by letter back, before and behind the training."""
    figure = Figure(figsize=(12, 5), layout="constrained")
    for ax, title, row in zip(figure.subplots(1, 2, sharey=True), ("before any training", "trained"), (0, 1)):
        for (name, sizes), colour in zip(signals.items(), COLOURS):
            ax.semilogy(np.arange(LENGTH), sizes[row][::-1], color=colour, linewidth=2, label=name)
        ax.set_ylim(1e-10, 3)
        ax.set_xlabel("letters back", fontsize=12)
        ax.set_title(title, fontsize=13)
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("rms of δ, over that at the last letter", fontsize=12)
    figure.axes[0].legend(fontsize=12)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
