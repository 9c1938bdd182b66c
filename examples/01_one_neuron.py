"""One neuron, then two in a row: the chain rule with a number at every factor.

Backpropagation is the chain rule, ordered so that nothing is computed twice. Here it is small
enough to be written out: first the four kinds of derivative of one neuron, then the two gradients
of a 1-1-1 network as products of 8 factors, of which only 6 are different. Next to each product
stands what funcnet's backward pass gives.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

import funcnet as fn

jax.config.update("jax_enable_x64", True)


# One neuron: a = σ(w·x + b). A derivative of its output, rather than of a cost, is a backward pass
# that starts from the error signal 1.
neuron = fn.Chain(fn.Dense(2, 1), fn.Sigmoid())
params = fn.from_weights(neuron, [[[2.0], [-3.0]]], [[-3.0]])
a, tape = fn.forward(neuron, params, jnp.array([[-1.0, -2.0]]))
input_delta, deltas = fn.backward(neuron, params, tape, jnp.ones_like(a))
grads = fn.gradient(neuron, tape, deltas)

print("One neuron, σ(w·x + b) with w = (2, -3), b = -3, x = (-1, -2)\n")
print(f"{'':8}{'funcnet':>17}{'worked example':>17}")
for name, value, worked in [
    ("a", a[0, 0], "0.731058578630"),
    ("da/dw[0]", grads[0]["w"][0, 0], "-0.196611933"),
    ("da/dw[1]", grads[0]["w"][1, 0], "-0.393223866"),
    ("da/db", grads[0]["b"][0], "0.196611933"),
    ("da/dx[0]", input_delta[0, 0], "0.393223866"),
    ("da/dx[1]", input_delta[0, 1], "-0.589835800"),
]:
    print(f"{name:8}{value:17.12f}{worked:>17}")


# Two neurons in a row: x → z¹ → a¹ → z² → a² → J, all by hand in plain floats.
def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


x, y, w1, w2 = 1.5, 0.2, 0.8, -0.6
a1 = sigmoid(x * w1)
a2 = sigmoid(a1 * w2)
factors = {
    "∂J/∂a²": a2 - y,  # J = ½ (a² - y)²
    "∂a²/∂z²": a2 * (1 - a2),
    "∂z²/∂w²": a1,
    "∂z²/∂a¹": w2,
    "∂a¹/∂z¹": a1 * (1 - a1),
    "∂z¹/∂w¹": x,
}
paths = {
    "∂J/∂w²": ["∂J/∂a²", "∂a²/∂z²", "∂z²/∂w²"],
    "∂J/∂w¹": ["∂J/∂a²", "∂a²/∂z²", "∂z²/∂a¹", "∂a¹/∂z¹", "∂z¹/∂w¹"],
}
by_hand = {name: math.prod(factors[factor] for factor in path) for name, path in paths.items()}

net = fn.Chain(fn.Dense(1, 1, bias=False), fn.Sigmoid(), fn.Dense(1, 1, bias=False), fn.Sigmoid())
params = fn.from_weights(net, [[[w1]], [[w2]]])
data = np.array([[x]]), np.array([[y]])
J, grads = fn.value_and_grad(net, fn.SquaredError(), params, *data)

print(f"\nThe 1-1-1 network with w¹ = {w1}, w² = {w2}, x = {x}, y = {y}: J = {J:.12f}\n")
for (name, path), grad in zip(paths.items(), (grads[2]["w"], grads[0]["w"]), strict=True):
    print(f"{name} = {' · '.join(path)}")
    print(f"       = {' · '.join(f'{factors[factor]:.6f}' for factor in path)}")
    print(f"       = {by_hand[name]:.12f}, and by fn.value_and_grad {grad.item():.12f}\n")
written = sum(map(len, paths.values()))
print(f"{written} factors are written, {len(factors)} of them are different.")

# The shared beginning of both products is δ², and all of the long one but its last factor is δ¹.
# The backward pass computes each once and keeps it, in the place of the layer that it belongs to.
bp = fn.backprop(net, fn.SquaredError(), params, *data)
delta2 = factors["∂J/∂a²"] * factors["∂a²/∂z²"]
delta1 = delta2 * factors["∂z²/∂a¹"] * factors["∂a¹/∂z¹"]
print(f"\n{'':14}{'by hand':>17}{'fn.backprop':>17}")
print(f"{'δ² = ∂J/∂z²':14}{delta2:17.12f}{bp.deltas[2].item():17.12f}")
print(f"{'δ¹ = ∂J/∂z¹':14}{delta1:17.12f}{bp.deltas[0].item():17.12f}")
