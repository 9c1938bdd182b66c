"""Why weights start at random: units that start equal stay equal, however long they are trained.

Two networks of one architecture learn handwritten digits from the same examples. One starts with
all weights of a layer equal, the other at random. In the first every hidden unit has the same error
signal, hence the same gradient, hence the same weights after the step, and so on: 32 units do the
work of one. A network that has only one hidden unit stands beside them for comparison.
Needs scikit-learn: .venv/bin/pip install -e '.[examples]'.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import funcnet as fn

# In float64: a matrix product may round two equal columns differently, and whatever tells two units apart grows. In
# float32 it can take them apart after some hundred steps.
jax.config.update("jax_enable_x64", True)
images, labels = load_digits(return_X_y=True)
x, y = jnp.asarray(images / 16), jnp.asarray(labels)
loss, optimizer = fn.CrossEntropy(), optax.sgd(0.5)
nets = {
    "32 equal units": fn.mlp((64, 32, 10), init=fn.Constant(0.01)),
    "32 random units": fn.mlp((64, 32, 10), init=fn.GlorotUniform()),
    "one unit": fn.mlp((64, 1, 10), init=fn.GlorotUniform()),
}
params = {name: fn.init(net, jax.random.key(0)) for name, net in nets.items()}


def distinct(columns: jax.Array) -> int:
    """How many columns differ by more than rounding does: 10⁻⁴ of the largest entry."""
    kept: list[np.ndarray] = []
    for column in np.asarray(columns).T:
        if all(abs(column - other).max() > 1e-4 * abs(columns).max() for other in kept):
            kept.append(column)
    return len(kept)


# One backward pass shows it. A hidden unit j hears the error Σ_k δ2_k w2[j, k]; if w2 is the same
# for every j, so is what they hear, and what they are fed, x, is the same for all of them anyway.
print("Before training, over all examples")
print(f"{'':18}different δ   different gradients")
for name, net in nets.items():
    bp = fn.backprop(net, loss, params[name], x, y)
    grads = fn.gradient(net, bp.tape, bp.deltas)
    print(f"{name:18}{distinct(bp.deltas[0]):11}{distinct(grads[0]['w']):22}")


# A network is a spec, which `jit` takes as it is: a new one is compiled, an equal one is not.
@partial(jax.jit, static_argnames="steps")
def train(net: fn.Chain, params: tuple, x: jax.Array, y: jax.Array, steps: int) -> tuple:
    """Gradient descent on all examples at once."""

    def step(carry: tuple, _: None) -> tuple:
        params, state = carry
        _, grads = fn.value_and_grad(net, loss, params, x, y)
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, optimizer.init(params)), length=steps)[0][0]


print("\nDifferent hidden units, by the weights into them, and accuracy on the training examples")
print("steps   " + "".join(f"{name:>22}" for name in nets))
for steps in range(0, 2001, 250):
    row = f"{steps:5}   "
    for name, net in nets.items():
        params[name] = train(net, params[name], x, y, steps=250 if steps else 0)
        accuracy = jnp.mean(fn.predict(net, params[name], x).argmax(-1) == y)
        row += f"{distinct(params[name][0]['w']):12} {accuracy:9.1%}"
    print(row)

w1 = np.asarray(params["32 equal units"][0]["w"])
print(f"\nLargest difference between the weights of two of the equal units: {np.ptp(w1, axis=1).max():.0e}")
