"""Two pages to step through in a browser: the two-by-two network, and one that learns irises.

Each is one file that needs nothing but a browser. Arrow keys step through forward propagation, the
cost, the error terms, the gradients and the update; a click on a weight writes its derivative out.
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
from sklearn.datasets import load_iris

import funcnet as fn

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("output"), help="where the pages go")
folder = parser.parse_args().folder
folder.mkdir(parents=True, exist_ok=True)

jax.config.update("jax_enable_x64", True)

# The worked example: one case, sigmoid units, squared error, biases held fixed.
net = fn.mlp((2, 2, 2), fn.Sigmoid(), output=fn.Sigmoid())
ws = [[[0.15, 0.25], [0.20, 0.30]], [[0.40, 0.50], [0.45, 0.55]]]  # [from, to]
weights_only = {"w": True, "b": False}
page = fn.explain_page(
    net,
    fn.SquaredError(),
    fn.from_weights(net, ws, [0.35, 0.60]),
    jnp.array([[0.05, 0.10]]),
    jnp.array([[0.01, 0.99]]),
    folder / "two_by_two.html",
    trainable=(weights_only, True, weights_only, True),
    title="Two by two: training, number by number",
)
print(f"{folder / 'two_by_two.html'}: {len(page.encode()) / 1000:.0f} KB")

# Five irises of three kinds, their four measures scaled alike. The last rate is too large: the page says so.
iris = load_iris()
rows = [0, 25, 60, 77, 120]
x = jnp.asarray((iris.data - iris.data.mean(0)) / iris.data.std(0))[jnp.array(rows)]
net = fn.mlp((4, 5, 5, 3), fn.Tanh())
page = fn.explain_page(
    net,
    fn.CrossEntropy(),
    fn.init(net, jax.random.key(1)),
    x,
    jnp.asarray(iris.target[rows]),
    folder / "iris.html",
    names=(iris.feature_names, None, None, list(iris.target_names)),
    examples=[f"iris {row + 1}, {iris.target_names[iris.target[row]]}" for row in rows],
    learning_rate=(0.5, 0.1, 5.0),
    title="Three kinds of iris: training, number by number",
)
print(f"{folder / 'iris.html'}: {len(page.encode()) / 1000:.0f} KB")
