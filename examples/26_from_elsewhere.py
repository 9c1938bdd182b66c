"""From Equinox and Flax to funcnet and back: a network trained elsewhere, looked at here.

Digits are learned in Equinox and in Flax, as their documentation has it. `fn.from_weights` then takes the matrices, in
the order that each library writes them, and funcnet gives the same answers. What comes with them is what the other
libraries do not hand out: here the norm of every example's own gradient, one pass for all. It tells the pictures that
the network finds hardest; among them are most of 90 labels made wrong on purpose.

The other way: a funcnet network as a part of an Equinox module and of a Flax one, differentiated by its hand-written
backward pass inside of their own training steps.

Needs scikit-learn, equinox and flax: .venv/bin/pip install -e '.[examples]'.
"""

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import funcnet as fn

try:
    import equinox as eqx
    from flax import nnx
    from sklearn.datasets import load_digits
except ImportError as error:
    raise SystemExit(
        f"This example needs {error.name}. Install it by: .venv/bin/pip install -e '.[examples]'"
    ) from None

WRONG = 90
NET, LOSS, ADAM = fn.mlp((64, 32, 10), fn.ReLU()), fn.CrossEntropy(), optax.adam(3e-3)


def load() -> tuple[jax.Array, jax.Array, np.ndarray]:
    """Pictures, labels of which 90 are wrong, and where those are."""
    x, y = load_digits(return_X_y=True)
    draw = np.random.default_rng(0)
    rows = draw.choice(len(y), WRONG, replace=False)
    y[rows] = (y[rows] + draw.integers(1, 10, WRONG)) % 10
    return jnp.asarray(x / 16, jnp.float32), jnp.asarray(y), rows


def cost_of(logits: jax.Array, y: jax.Array) -> jax.Array:
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, y).mean()


class Rows(eqx.Module):
    """Equinox's modules take one example: this takes them all."""

    mlp: eqx.nn.MLP

    def __call__(self, x: jax.Array) -> jax.Array:
        return jax.vmap(self.mlp)(x)


class Inside(eqx.Module):
    """An Equinox module with a funcnet network as its second half: params are a leaf tree, the spec is static."""

    first: eqx.nn.Linear
    params: Any
    net: fn.Chain = eqx.field(static=True)

    def __init__(self, net: fn.Chain, key: jax.Array):
        keys = jax.random.split(key)
        self.first, self.params, self.net = eqx.nn.Linear(64, 64, key=keys[0]), fn.init(net, keys[1]), net

    def __call__(self, x: jax.Array) -> jax.Array:
        return fn.as_function(self.net)(self.params, jax.vmap(self.first)(x))


class InsideNnx(nnx.Module):
    """The same in Flax, where every array is a variable of its own."""

    def __init__(self, net: fn.Chain, rngs: nnx.Rngs):
        self.first = nnx.Linear(64, 64, rngs=rngs)
        arrays, self.tree = jax.tree.flatten(fn.init(net, rngs.params()))
        self.arrays = nnx.List([nnx.Param(array) for array in arrays])
        self.net = net

    def __call__(self, x: jax.Array) -> jax.Array:
        params = jax.tree.unflatten(self.tree, [array[...] for array in self.arrays])
        return fn.as_function(self.net)(params, self.first(x))


class Mlp(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.first, self.second = nnx.Linear(64, 32, rngs=rngs), nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.second(nnx.relu(self.first(x)))


def trained_by_equinox(model: Any, x: jax.Array, y: jax.Array, steps: int) -> Any:
    state = ADAM.init(eqx.filter(model, eqx.is_array))

    @eqx.filter_jit
    def step(model: Any, state: Any) -> tuple[Any, Any]:
        grads = eqx.filter_grad(lambda model: cost_of(model(x), y))(model)
        updates, state = ADAM.update(grads, state, eqx.filter(model, eqx.is_array))
        return eqx.apply_updates(model, updates), state

    for _ in range(steps):
        model, state = step(model, state)
    return model


def trained_by_flax(model: Any, x: jax.Array, y: jax.Array, steps: int) -> Any:
    optimizer = nnx.Optimizer(model, ADAM, wrt=nnx.Param)

    @nnx.jit
    def step(model: Any, optimizer: Any) -> None:
        optimizer.update(model, nnx.grad(lambda model: cost_of(model(x), y))(model))

    for _ in range(steps):
        step(model, optimizer)
    return model


def hardest(params: fn.Params, x: jax.Array, y: jax.Array) -> jax.Array:
    """The rows with the largest gradients of their own, the largest first."""
    bp = jax.jit(fn.backprop)(NET, LOSS, params, x, y)
    return jnp.argsort(-fn.example_square_norms(NET, bp))


def main() -> None:
    parser = argparse.ArgumentParser(description="Networks from Equinox and Flax, looked at in funcnet.")
    parser.add_argument("--steps", type=int, default=300, help="of each training, on all pictures at once")
    steps = parser.parse_args().steps
    x, y, wrong = load()

    mlp = eqx.nn.MLP(64, 10, width_size=32, depth=1, activation=jax.nn.relu, key=jax.random.key(0))
    theirs = trained_by_equinox(Rows(mlp), x, y, steps)
    layers = theirs.mlp.layers
    from_equinox = fn.from_weights(NET, [a.weight for a in layers], [a.bias for a in layers], order="to,from")

    flax_model = trained_by_flax(Mlp(nnx.Rngs(0)), x, y, steps)
    parts = (flax_model.first, flax_model.second)
    from_flax = fn.from_weights(NET, [a.kernel[...] for a in parts], [a.bias[...] for a in parts])

    print("trained in   largest difference of logits   of the 90 hardest pictures are labelled wrong")
    for name, params, logits in ("Equinox", from_equinox, theirs(x)), ("Flax", from_flax, flax_model(x)):
        gap = float(jnp.abs(fn.predict(NET, params, x) - logits).max())
        found = np.isin(np.asarray(hardest(params, x, y)[:WRONG]), wrong).sum()
        print(f"{name:12} {gap:<30.1e} {found}")
    print(f"{WRONG} of {len(y)} labels are wrong: by chance it would be {WRONG**2 / len(y):.0f}.")

    print("\nThe other way, a funcnet network inside: share of the rightly labelled pictures that it reads")
    by_equinox = trained_by_equinox(Inside(NET, jax.random.key(1)), x, y, steps)
    by_flax = trained_by_flax(InsideNnx(NET, nnx.Rngs(1)), x, y, steps)
    right = np.delete(np.arange(len(y)), wrong)
    for name, model in ("Equinox", by_equinox), ("Flax", by_flax):
        print(f"{name:12} {np.mean(np.asarray(model(x).argmax(-1) == y)[right]):.1%}")


if __name__ == "__main__":
    main()
