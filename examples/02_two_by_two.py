"""Two inputs, two hidden units, two outputs: every number of a training step, and a famous slip.

One example, sigmoid units, squared error, learning rate ½, biases held fixed. Funcnet's numbers
stand beside those of the worked example. At the end: what comes out when the second layer is
updated before the error goes down through it, as one widely read text does.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

import funcnet as fn

jax.config.update("jax_enable_x64", True)
np.set_printoptions(precision=12, floatmode="fixed", suppress=True)

net = fn.mlp((2, 2, 2), fn.Sigmoid(), output=fn.Sigmoid())
loss = fn.SquaredError()
w1, w2 = [[0.15, 0.25], [0.20, 0.30]], [[0.40, 0.50], [0.45, 0.55]]  # [from, to]
params = fn.from_weights(net, [w1, w2], [0.35, 0.60])
x, y = jnp.array([[0.05, 0.10]]), jnp.array([[0.01, 0.99]])


def show(name: str, value: ArrayLike, other: object = None, label: str = "worked") -> None:
    """A quantity on one line and, where there is one, what it is compared with on the next."""
    ours = np.ravel(value)
    print(f"{name:10} funcnet {ours}")
    if other is not None:
        print(f"{'':10} {label:7} {np.ravel(other)}   largest difference {abs(ours - np.ravel(other)).max():.0e}")


print("Forward and backward propagation, beside the worked example")

# Forward: the tape of each Dense is its input, and that of each Sigmoid its output, so the weighted
# sums are the one thing to be computed here. Backward: the deltas lie in the same places.
bp = fn.backprop(net, loss, params, x, y)
a1, a2 = bp.tape[1], bp.output
show("z1", fn.predict(net.layers[0], params[0], x))
show("a1", a1, (0.593269992107, 0.596884378260))
show("z2", fn.predict(net.layers[2], params[2], a1))
show("a2", a2, (0.751365069552, 0.772928465321))
show("J", bp.costs, 0.29837110876000)
show("δ2", bp.deltas[2], (0.138498561629, -0.038098236517))
show("δ1", bp.deltas[0], (0.008771354689, 0.009954254705))

# Each gradient is what came in times the error that came back: aᵀδ.
grads = fn.gradient(net, bp.tape, bp.deltas)
show("∂J/∂w2", grads[2]["w"], [[0.082167040564, -0.022602540477], [0.082667627848, -0.022740242216]])
show("∂J/∂w1", grads[0]["w"], [[0.000438567734, 0.000497712735], [0.000877135469, 0.000995425471]])

# Written out along every path from the cost, these eight numbers are 52 factors: 3 for each weight of
# layer 2, and 5 for each of the two paths to each weight of layer 1. Only 18 of them are different.

# A step of gradient descent. A rate for every parameter, shaped like the parameters, holds the
# biases fixed by a rate of 0.
rates = fn.from_weights(net, [np.full((2, 2), 0.5)] * 2, [0.0, 0.0])


def step(params: tuple, rates: tuple, x: jax.Array, y: jax.Array) -> tuple:
    _, grads = fn.value_and_grad(net, loss, params, x, y)
    return jax.tree.map(lambda p, rate, g: p - rate * g, params, rates, grads)


@jax.jit
def ten_thousand_steps(params: tuple, rates: tuple, x: jax.Array, y: jax.Array) -> tuple:
    return jax.lax.scan(lambda params, _: (step(params, rates, x, y), None), params, length=10_000)[0]


after_one = step(params, rates, x, y)
after_all = ten_thousand_steps(params, rates, x, y)
print("\nGradient descent")
show("J, step 1", fn.cost(net, loss, after_one, x, y), 0.29102777369360)
show("a2, 10000", fn.predict(net, after_all, x), (0.0159136204, 0.9840642735))

# The slip. δ1 = (δ2 w2ᵀ) ⊙ a1 (1 - a1) wants the w2 that the forward pass used. `fn.backward` takes
# the parameters as an argument, so the wrong ones can be handed to it on purpose.
_, wrong_deltas = fn.backward(net, (*params[:2], after_one[2], params[3]), bp.tape, a2 - y)
wrong_grads = fn.gradient(net, bp.tape, wrong_deltas)
wrong_w1 = params[0]["w"] - 0.5 * wrong_grads[0]["w"]
wrong = ({"w": wrong_w1, "b": params[0]["b"]}, *after_one[1:])
print("\nThe same step with w2 updated before δ1 is computed, which is wrong")
show("δ1", wrong_deltas[0], bp.deltas[0], "right")
show("∂J/∂w1", wrong_grads[0]["w"], grads[0]["w"], "right")
show("J, step 1", fn.cost(net, loss, wrong, x, y), fn.cost(net, loss, after_one, x, y), "right")
print(f"{'':10} printed [0.291027924   ]   the widely read number, which this slip explains")
