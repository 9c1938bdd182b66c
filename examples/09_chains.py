"""Chains: the derivative by one weight, path by path, and a worksheet to hand out.

`fn.explain` writes the derivative by a chosen weight as the texts do: every path from the cost to the weight as a
product of partial derivatives, with the network's own numbers in their places. `fn.worksheet` writes down a
whole step of learning. In a notebook both show themselves as mathematics.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np

import funcnet as fn

jax.config.update("jax_enable_x64", True)

# Two inputs, two hidden units, two outputs, one example: the network of 02_two_by_two.py.
net, loss = fn.mlp((2, 2, 2), fn.Sigmoid(), output=fn.Sigmoid()), fn.SquaredError()
w1, w2 = [[0.15, 0.25], [0.20, 0.30]], [[0.40, 0.50], [0.45, 0.55]]  # [from, to]
params = fn.from_weights(net, [w1, w2], [0.35, 0.60])
x, y = jnp.array([[0.05, 0.10]]), jnp.array([[0.01, 0.99]])

# A weight is (layer, from, to): layers count from 1, and from and to index the array.
print(fn.explain(net, loss, params, x, y, weight=(1, 0, 0)))

# Both paths end in the same two factors. The error terms δ compute what paths share once, and how much
# that saves grows with the network.
print("\nFactors of all weights' derivatives, one by one and shared:")
for sizes in (1, 1, 1), (2, 2, 2), (4, 5, 5, 3), (784, 100, 100, 10):
    print(f"  {'-'.join(map(str, sizes)):15} {fn.factor_counts(fn.mlp(sizes))}")

# Three layers, three classes, four flowers. Of 60 paths the largest two are written out and the rest is summed;
# the reader's own names stand where units had numbers.
iris = fn.mlp((4, 5, 5, 3), fn.Tanh())
flowers = (
    jnp.array([[5.1, 3.5, 1.4, 0.2], [7.0, 3.2, 4.7, 1.4], [6.3, 3.3, 6.0, 2.5], [4.9, 3.0, 1.4, 0.2]]) - 3.5
)  # near 0, in cm
kinds = jnp.array([0, 1, 2, 0])
names = [
    ["sepal length", "sepal width", "petal length", "petal width"],
    None,
    None,
    ["setosa", "versicolor", "virginica"],
]
start = fn.init(iris, jax.random.key(1))
print()
print(fn.explain(iris, fn.CrossEntropy(), start, flowers, kinds, weight=(1, 2, 0), largest=2, names=names))

# And a step of learning as one would work it out by hand, the biases held fixed.
weights_only = ({"w": True, "b": False}, ()) * 2
sheet = fn.worksheet(net, loss, params, x, y, learning_rate=0.5, trainable=weights_only, digits=8, blank=True)
print()
print(sheet.solution)

# To hand out: the sheet with lines to be filled in, and its solution. ".tex" is for LaTeX, ".md" for a notebook.
folder = pathlib.Path("output")
folder.mkdir(exist_ok=True)
sheet.save(folder / "worksheet.html")
sheet.solution.save(folder / "solution.html")
print(f"\nTo fill in: {folder / 'worksheet.html'}, and its solution beside it.")

# What comes back is checked as it is. Here somebody left the slope a (1 - a) of layer 1 out.
hidden = 1 / (1 + np.exp(-(np.asarray(x) @ w1 + 0.35)))
output = 1 / (1 + np.exp(-(hidden @ w2 + 0.60)))
delta2 = (output - y) * output * (1 - output)
delta1 = delta2 @ np.transpose(w2)
answer = [{"w": x.T @ delta1, "b": delta1.sum(0)}, {"w": hidden.T @ delta2, "b": delta2.sum(0)}]
print()
print(fn.check_gradients(net, loss, params, x, y, grads=answer))

# What the layers of a network cost, for a batch of 128 pictures.
print()
print(fn.summary(fn.mlp((784, 128, 64, 10), fn.ReLU()), (128, 784)))
