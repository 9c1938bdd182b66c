"""From the same weights through the same batches, PyTorch and scikit-learn go the same way: 50 steps, in float64.

PyTorch's way is stored, by references/torch_trajectories.py; scikit-learn goes its own beside.
"""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

import funcnet as fn

STORED = json.loads((pathlib.Path(__file__).parent.parent / "references" / "torch_trajectories.json").read_text())
X, LABELS, ROWS = np.array(STORED["x"]), np.array(STORED["labels"]), STORED["batches"]
HEIGHTS = X[:, :1] * X[:, 1:2] + np.sin(X[:, 2:3])
START, KEY = [np.array(leaf) for leaf in STORED["initial"]], jax.random.key(0)

ADAM = optax.adam(0.02)
TORCH = {
    "SGD": optax.sgd(0.1, momentum=0.9),
    "SGD, Nesterov": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "Adam": ADAM,
    "Adam, L2": ADAM,
    "AdamW": optax.adamw(0.02, weight_decay=0.1),
}
# scikit-learn's penalty on a batch of n is α/(2n) Σ w², `fn.L2(α / (2 * n))`.
# Adam's ε: scikit-learn adds it to √v before v is corrected for its start at 0; Kingma & Ba (2015), PyTorch
# and optax after that. So small an ε makes no difference beyond rounding.
SKLEARN = {
    "sgd": ({"solver": "sgd", "learning_rate_init": 0.1, "nesterovs_momentum": False}, optax.sgd(0.1, momentum=0.9)),
    "nesterov": ({"solver": "sgd", "learning_rate_init": 0.1}, optax.sgd(0.1, momentum=0.9, nesterov=True)),
    "adam": ({"solver": "adam", "learning_rate_init": 0.02, "epsilon": 1e-16}, optax.adam(0.02, eps=1e-16)),
}
CLASSES = fn.mlp((6, 8, 5, 3)), fn.CrossEntropy(), LABELS
REGRESSION = fn.mlp((6, 8, 5, 1), fn.ReLU()), fn.SquaredError(), HEIGHTS
PROBLEMS = {"classes": CLASSES, "regression": REGRESSION}


@pytest.fixture(autouse=True)
def _as_optax_wants_it():
    with jax.numpy_dtype_promotion("standard"):
        yield


def start(net, optimizer):
    """The stored weights; a last layer with fewer units has the first of them."""
    units = net.layers[-1].n_out
    weights = [*START[:-2], START[-2][:, :units], START[-1][:units]]
    return fn.train_state(optimizer, fn.from_weights(net, weights[::2], weights[1::2]), KEY)


def leaves(params):
    """w and b of each layer in turn."""
    return [np.asarray(layer[name]) for layer in params if layer for name in ("w", "b")]


def assert_same(found, expected, where):
    for number, (f, e) in enumerate(zip(found, expected, strict=True)):
        scale = np.abs(e).max()
        np.testing.assert_allclose(f, e, rtol=0, atol=1e-9 * scale, err_msg=f"{where}, parameter {number}")


class Sklearn:
    """scikit-learn's network of the same shape, from the same weights."""

    def __init__(self, problem, state, **options):
        y, given = problem[-1], leaves(state.params)
        layers = zip(given[::2], given[1::2])
        is_regression = y is HEIGHTS

        class AsGiven(MLPRegressor if is_regression else MLPClassifier):
            def _init_coef(self, *_):
                return tuple(leaf.copy() for leaf in next(layers))

        self.y = y[:, 0] if is_regression else y
        self.told = {} if is_regression else {"classes": np.unique(y)}
        activation = "relu" if is_regression else "tanh"
        self.model = AsGiven(hidden_layer_sizes=(8, 5), activation=activation, shuffle=False, **options)

    def step(self, rows, weights=None):
        """The cost of a batch, then its update."""
        weights = None if weights is None else weights[rows]
        self.model.partial_fit(X[rows], self.y[rows], sample_weight=weights, **self.told)
        return self.model.loss_

    @property
    def parameters(self):
        return [leaf for layer in zip(self.model.coefs_, self.model.intercepts_) for leaf in layer]


def test_every_stored_trajectory_is_followed():
    assert set(TORCH) == set(STORED) - {"torch", "x", "labels", "batches", "initial"}
    assert len(ROWS) == 50
    assert {len(rows) for rows in ROWS} == {8, 6}


@pytest.mark.parametrize("name", TORCH)
def test_pytorch(name):
    net, optimizer, torch = fn.Chain(*CLASSES[0].layers[:3], fn.ReLU(), fn.Dense(5, 3)), TORCH[name], STORED[name]
    state, penalty = start(net, optimizer), fn.L2(torch["penalty"])
    for step, rows in enumerate(ROWS):
        batch = jnp.asarray(X[rows]), jnp.asarray(LABELS[rows])
        state, found = fn.train_epoch(
            net, fn.CrossEntropy(), optimizer, state, batch, batch_size=len(rows), penalty=penalty
        )
        assert found["cost"] == pytest.approx(torch["costs"][step], rel=1e-9, abs=0), f"before step {step}"
        squares = [(leaf * leaf).sum() for leaf in leaves(state.params)]
        assert squares == pytest.approx(torch["squares"][step], rel=1e-9, abs=0), f"after step {step}"
    assert_same(leaves(state.params), map(np.array, torch["last"]), "at the end")


@pytest.mark.parametrize("alpha", [0.0, 0.5])
@pytest.mark.parametrize(
    ("name", "solver"), [("classes", "sgd"), ("classes", "nesterov"), ("classes", "adam"), ("regression", "adam")]
)
def test_scikit_learn(name, solver, alpha):
    net, loss, y = problem = PROBLEMS[name]
    options, optimizer = SKLEARN[solver]
    state = start(net, optimizer)
    sklearn = Sklearn(problem, state, alpha=alpha, **options)
    for step, rows in enumerate(ROWS):
        batch, penalty = (jnp.asarray(X[rows]), jnp.asarray(y[rows])), fn.L2(alpha / (2 * len(rows)))
        state, found = fn.train_epoch(net, loss, optimizer, state, batch, batch_size=len(rows), penalty=penalty)
        assert found["cost"] == pytest.approx(sklearn.step(rows), rel=1e-9, abs=0), f"before step {step}"
        assert_same(leaves(state.params), sklearn.parameters, f"after step {step}")


@functools.cache
def batches_drawn(epochs, batch_size):
    """The rows of every batch that a fit from `start` will draw, seen from outside.

    With the identity matrix as inputs every row has a weight of its own, whose gradient is 0 except in that row's
    batch. An optimiser that moves nothing writes down where it is not 0.
    """
    m, steps = len(X), epochs * -(-len(X) // batch_size)

    def init(params):
        return jnp.zeros((), int), jnp.zeros((steps, m), bool)

    def update(grads, state, params=None):
        step, seen = state
        return jax.tree.map(jnp.zeros_like, grads), (step + 1, seen.at[step].set(grads["w"][:, 0] != 0))

    net, watch = fn.Dense(m, 1, bias=False), optax.GradientTransformation(init, update)
    state = fn.train_state(watch, {"w": jnp.ones((m, 1))}, KEY)
    data = jnp.eye(m), jnp.zeros((m, 1))
    state, _ = fn.fit(net, fn.SquaredError(), watch, state, data, epochs=epochs, batch_size=batch_size)
    return [np.flatnonzero(row) for row in np.asarray(state.opt_state[1])]


@pytest.mark.parametrize(("solver", "weighted"), [("nesterov", True), ("adam", False)])
def test_scikit_learn_through_shuffled_epochs_whose_last_batch_is_smaller(solver, weighted):
    net, loss, y = CLASSES
    options, optimizer = SKLEARN[solver]
    first, rows = start(net, optimizer), batches_drawn(epochs=13, batch_size=8)
    assert [len(batch) for batch in rows] == [8, 8, 8, 6] * 13
    sklearn = Sklearn(CLASSES, first, alpha=0.0, **options)
    weights = np.random.default_rng(1).uniform(size=len(X)) if weighted else np.ones(len(X))
    sums = [weights[batch].sum() * sklearn.step(batch, weights) for batch in rows]
    given = jnp.asarray(weights) if weighted else None
    data = jnp.asarray(X), jnp.asarray(y)
    state, history = fn.fit(net, loss, optimizer, first, data, epochs=13, batch_size=8, weights=given)
    costs = np.sum(np.reshape(sums, (13, 4)), axis=1) / weights.sum()
    np.testing.assert_allclose(history["cost"], costs, rtol=1e-9)
    assert_same(leaves(state.params), sklearn.parameters, "at the end")


@pytest.mark.parametrize(("name", "solver"), [("classes", "nesterov"), ("regression", "adam")])
def test_a_whole_fit_of_scikit_learn_on_the_full_batch(name, solver):
    net, loss, y = problem = PROBLEMS[name]
    options, optimizer = SKLEARN[solver]
    first, m = start(net, optimizer), len(X)
    never = {"tol": 0.0, "n_iter_no_change": np.inf}
    sklearn = Sklearn(problem, first, alpha=0.3, batch_size=m, max_iter=50, **never, **options)
    with pytest.warns(ConvergenceWarning, match="Maximum iterations"):
        sklearn.model.fit(X, sklearn.y)
    data, penalty = (jnp.asarray(X), jnp.asarray(y)), fn.L2(0.3 / (2 * m))
    state, history = fn.fit(net, loss, optimizer, first, data, epochs=50, batch_size=m, penalty=penalty)
    np.testing.assert_allclose(history["cost"], sklearn.model.loss_curve_, rtol=1e-9)
    assert_same(leaves(state.params), sklearn.parameters, "at the end")
