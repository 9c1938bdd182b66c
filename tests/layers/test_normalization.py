"""Norms: what their means are taken over, values whose squares overflow, and known statistics."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from table import KEY, disagreement, params_of, random

import funcnet as fn

NORMS = [fn.LayerNorm(6), fn.RMSNorm(6), fn.GroupNorm(6, 2), fn.GroupNorm(6, 6)]
each_norm = pytest.mark.parametrize("layer", NORMS, ids=repr)


@jax.jit
def there_and_back(layer, params, x, delta):
    y, tape = layer.forward(params, x)
    return y, layer.backward(params, tape, delta)[0]


def started(layer):
    return layer.init(jax.random.key(0))


@pytest.mark.fast
def test_rms_norm_divides_by_the_root_mean_square():
    params, x = params_of(fn.RMSNorm(6)), np.asarray(random(1, 3, 2, 6)) + 2
    y, _ = fn.RMSNorm(6, epsilon=0.1).forward(params, jnp.asarray(x))
    assert disagreement(y, np.asarray(params["g"]) * x / np.sqrt((x * x).mean(-1, keepdims=True) + 0.1)) <= 1e-14


@pytest.mark.fast
def test_group_norm_takes_means_over_positions_and_the_features_of_a_group():
    layer, x = fn.GroupNorm(6, 2, epsilon=0.1), np.asarray(random(1, 3, 4, 2, 6)) + 2
    params = params_of(layer)
    parts = [x[..., :3], x[..., 3:]]
    means = [part.mean((1, 2, 3), keepdims=True) for part in parts]
    roots = [np.sqrt(part.var((1, 2, 3), keepdims=True) + 0.1) for part in parts]
    normal = np.concatenate([(part - mean) / root for part, mean, root in zip(parts, means, roots)], -1)
    g, b = map(np.asarray, (params["g"], params["b"]))
    assert disagreement(layer.forward(params, jnp.asarray(x))[0], g * normal + b) <= 1e-14


@pytest.mark.fast
def test_one_group_without_positions_is_layer_norm_and_a_group_a_feature_is_instance_norm():
    x, delta = random(1, 3, 6), random(2, 3, 6)
    params = params_of(fn.LayerNorm(6))
    assert disagreement(*(there_and_back(layer, params, x, delta) for layer in (NORMS[0], fn.GroupNorm(6, 1)))) <= 1e-14
    x = random(1, 3, 4, 5, 6)
    y, _ = there_and_back(fn.GroupNorm(6, 6, epsilon=0.0), started(NORMS[3]), x, x)
    assert np.allclose(np.mean(y, (1, 2)), 0, atol=1e-14)
    assert np.allclose(np.var(y, (1, 2)), 1, atol=1e-14)


@pytest.mark.fast
@each_norm
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_norms_do_not_see_how_large_all_values_are(layer, dtype):
    """Though their squares overflow."""
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), params_of(layer))
    x, delta = random(0, 3, 4, 6, dtype=dtype), random(1, 3, 4, 6, dtype=dtype)
    pure = type(layer)(*(value for name, value in vars(layer).items() if name != "epsilon"), epsilon=0.0)
    exact, exact_delta = there_and_back(pure, params, x, delta)
    for size in (1e10, 1e19, 1e30):
        y, input_delta = there_and_back(layer, params, x * dtype(size), delta)
        assert disagreement(y, exact) <= 1e-5
        assert disagreement(input_delta * dtype(size), exact_delta) <= 1e-4


@pytest.mark.fast
@each_norm
def test_values_that_are_all_0_have_a_finite_way_back(layer):
    params = params_of(layer)
    y, input_delta = there_and_back(layer, params, jnp.zeros((2, 3, 6)), random(1, 2, 3, 6))
    assert np.isfinite(y).all()
    assert np.isfinite(input_delta).all()


@pytest.mark.fast
def test_known_statistics_scale_inputs():
    data = 3 + 2 * np.asarray(random(1, 50, 6))
    params = started(fn.FrozenBatchNorm(6)) | {"mean": jnp.asarray(data.mean(0)), "var": jnp.asarray(data.var(0))}
    y, _ = fn.FrozenBatchNorm(6, epsilon=0.0).forward(params, jnp.asarray(data))
    assert np.allclose(np.mean(y, 0), 0, atol=1e-14)
    assert np.allclose(np.var(y, 0), 1, atol=1e-14)


@pytest.mark.fast
def test_known_statistics_can_be_held_while_a_network_trains():
    net = fn.Chain(fn.Conv(1, 2, (3,)), fn.FrozenBatchNorm(2), fn.Flatten(), fn.Dense(8, 2))
    optimizer = optax.adamw(1e-2, weight_decay=0.1)
    state, data = fn.train_state(optimizer, params_of(net), KEY), (random(1, 6, 4, 1), jnp.array([0, 1, 0, 1, 1, 0]))
    keep = {"g": True, "b": True, "mean": False, "var": False}
    options = {"batch_size": 6, "trainable": (True, keep, True, True)}
    trained, _ = fn.train_epoch(net, fn.CrossEntropy(), optimizer, state, data, **options)
    assert jax.tree.map(lambda a, b: bool((a != b).any()), state.params, trained.params)[1] == keep


@pytest.mark.fast
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: fn.GroupNorm(6, 4), "GroupNorm(6, 4): groups must divide n"),
        (lambda: fn.GroupNorm(6, 0), "groups must divide n"),
        (lambda: fn.RMSNorm(0), "n must be 1 or more"),
        (lambda: fn.FrozenBatchNorm(3, epsilon=-1.0), "epsilon 0 or more"),
        (lambda: fn.GroupNorm(3, 1).forward(started(fn.GroupNorm(3, 1)), jnp.ones((2, 4))), "expected inputs with 3"),
    ],
)
def test_what_does_not_fit_is_refused(make, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        make()
