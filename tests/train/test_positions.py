"""Examples with positions: a mean is over examples and positions, wherever a training divides by what counts."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from table import disagreement, params_of, random

import funcnet as fn
from funcnet.train.options import Data, Options
from funcnet.train.update import Batch, update

NET, LOSS = fn.mlp((3, 4, 2)), fn.SquaredError()
M, T = 10, 3  # the last of three batches of 4 holds two examples
X, Y = random(1, M, T, 3), random(2, M, T, 2)
VALIDATION = random(3, 5, T, 3), random(4, 5, T, 2)
SGD, STILL, PRIVATE = optax.sgd(0.1), optax.sgd(0.0), fn.Privacy(0.5, 0.7)
DRAW = np.random.default_rng(5)
BY_EXAMPLE, BY_POSITION = DRAW.uniform(0.5, 2, M), DRAW.uniform(0.5, 2, (M, T))
SHAPES = pytest.mark.parametrize("weights", [None, BY_EXAMPLE, BY_POSITION], ids=["none", "(m,)", "(m, T)"])


@pytest.fixture(autouse=True)
def _as_optax_wants_it():
    with jax.numpy_dtype_promotion("standard"):
        yield


def start(optimizer=SGD):
    return fn.train_state(optimizer, params_of(NET), jax.random.key(0))


def fit(weights=None, optimizer=SGD, batch_size=4, **options):
    options = {"epochs": 2, "batch_size": batch_size, "weights": weights} | options
    return fn.fit(NET, LOSS, optimizer, start(optimizer), (X, Y), **options)


@pytest.mark.fast
@pytest.mark.parametrize("options", [{}, {"privacy": PRIVATE}], ids=["whole", "private"])
def test_none_and_ones_of_either_shape_are_the_same(options):
    """Updates, costs, validation and metrics."""
    options |= {"validation": VALIDATION, "metrics": [fn.MeanAbsoluteError(), fn.R2()]}
    expected, record = fit(**options)
    for weights in (np.ones(M), np.ones((M, T))):
        trained, history = fit(weights, **options)
        assert disagreement(trained.params, expected.params) <= 1e-12
        for name in record.names:
            assert np.allclose(history[name], record[name], rtol=1e-12, atol=0), name


@pytest.mark.fast
@SHAPES
@pytest.mark.parametrize(("batch_size", "accumulate"), [(4, 1), (4, 2)])
def test_an_epochs_cost_is_the_mean_over_examples_and_positions(weights, batch_size, accumulate):
    _, row = fn.train_epoch(
        NET, LOSS, STILL, start(STILL), (X, Y), batch_size=batch_size, weights=weights, accumulate=accumulate
    )
    assert np.isclose(row["cost"], fn.cost(NET, LOSS, params_of(NET), X, Y, weights=weights), rtol=1e-13)


@pytest.mark.fast
@SHAPES
@pytest.mark.parametrize("accumulate", [1, 2])
def test_an_update_is_made_from_the_mean_over_examples_and_positions(weights, accumulate):
    penalty = fn.L2(0.1)
    trained, _ = fn.train_epoch(
        NET, LOSS, SGD, start(), (X, Y), batch_size=M, weights=weights, accumulate=accumulate, penalty=penalty
    )
    _, grads = jax.jit(fn.value_and_grad)(NET, LOSS, params_of(NET), X, Y, weights=weights, penalty=penalty)
    expected = jax.tree.map(lambda leaf, g: leaf - 0.1 * g, params_of(NET), grads)
    assert disagreement(trained.params, expected) <= 1e-12


@pytest.mark.fast
@SHAPES
def test_a_private_cost_is_the_mean_over_examples_and_positions_that_count(weights):
    rows, counted = jnp.asarray([3, 7, 8, 0]), jnp.arange(4) < 3
    batch_weights = None if weights is None else jnp.asarray(weights)[rows]
    batch = Batch(Data(X[rows], Y[rows], batch_weights), rows, counted, jnp.asarray(0))
    options = Options(NET, LOSS, SGD, 4, accumulate=2, privacy=PRIVATE)
    state = start()
    _, outcome = jax.jit(update)(options, jax.random.key(1), (state.params, state.opt_state), batch)
    w = None if weights is None else weights[rows[:3]]
    assert np.isclose(outcome.value, fn.cost(NET, LOSS, state.params, X[rows[:3]], Y[rows[:3]], weights=w))
    mass = 3 * T if w is None else T * w.sum() if w.ndim == 1 else w.sum()
    assert np.isclose(outcome.mass, mass)


@pytest.mark.fast
@SHAPES
def test_the_recorded_noise_scale_is_that_of_the_examples_gradients(weights):
    _, history = fit(weights, batch_size=M, epochs=1, telemetry=1)
    bp = fn.backprop(NET, LOSS, params_of(NET), X, Y, weights=weights)
    assert np.isclose(history.seen("noise_scale")[0], fn.noise_scale(NET, bp), rtol=1e-9)


@pytest.mark.fast
@pytest.mark.parametrize("metric", [fn.MeanAbsoluteError(), fn.R2()], ids=repr)
def test_a_metric_counts_an_examples_weight_at_each_of_its_positions(metric):
    weights = jnp.asarray(BY_EXAMPLE)
    everywhere = jnp.broadcast_to(weights[:, None], (M, T))
    assert np.isclose(metric.value(X[..., :2], Y, weights), metric.value(X[..., :2], Y, everywhere), rtol=1e-13)
    ones = [metric.value(X[..., :2], Y, w) for w in (None, jnp.ones(M), jnp.ones((M, T)))]
    assert np.allclose(ones, ones[0], rtol=1e-13)
