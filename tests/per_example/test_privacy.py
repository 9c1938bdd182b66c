"""Clipping and noise: what one example can do, over thousands of drawn cases, and what the noise is like."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from table import KEY, backprop, disagreement, params_of, predict, random

import funcnet as fn

NET, SE = fn.mlp((3, 4, 2)), fn.SquaredError()
clipped_gradient = jax.jit(fn.clipped_gradient, static_argnames="per_layer")
OPTIONS = {"max_norm": 1.0, "noise_multiplier": 1.0, "expected_batch_size": 4}


def drawn(positions, number=2000, m=3, dtype=np.float32):
    """Batches of every size from underflow to overflow, with zeros, copies, infinities and NaN in some rows."""
    draw = np.random.default_rng(0)
    shape = (number, m, *positions, 3)
    scale = 10.0 ** draw.uniform(-12, 25, (number, m, *[1] * (len(positions) + 1)))
    scale[: number // 2] = 10.0 ** draw.uniform(-3, 3, scale[: number // 2].shape)
    x, y = (
        scale * draw.normal(size=shape),
        draw.normal(size=(*shape[:-1], 2)) * scale ** draw.integers(0, 2, scale.shape),
    )
    for value in (0, np.inf, np.nan):
        x[draw.random(shape) < 0.01] = value
        y[draw.random(y.shape) < 0.01] = value
    x[draw.random(number) < 0.05] = 0
    with np.errstate(over="ignore"):
        return x.astype(dtype), y.astype(dtype)


def distance(a, b):
    leaves = [np.asarray(g - h, np.float64) for g, h in zip(jax.tree.leaves(a), jax.tree.leaves(b))]
    assert all(np.isfinite(g).all() for g in leaves)
    return np.sqrt(sum((g**2).reshape(len(g), -1).sum(1) for g in leaves))


@pytest.mark.fast
@pytest.mark.parametrize(("positions", "per_layer"), [((), False), ((1,), True), ((2,), False), ((2,), True)], ids=str)
def test_one_example_moves_the_clipped_sum_by_max_norm_at_most(positions, per_layer):
    net = fn.mlp((3, 9, 2), fn.ReLU())
    params = params_of(net, dtype=np.float32)

    @jax.jit
    @jax.vmap
    def sums(x, y):
        def clipped(weights):
            bp = fn.backprop(net, SE, params, x, y, weights=weights)
            return fn.clipped_gradient(net, bp, 0.7, per_layer)[0]

        first = jnp.zeros(3, jnp.float32).at[0].set(1)
        return clipped(first), clipped(1 - first), clipped(jnp.ones(3, jnp.float32))

    alone, without, all_of_them = sums(*drawn(positions))
    nothing = jax.tree.map(np.zeros_like, alone)
    for moved in (distance(alone, nothing), distance(all_of_them, without)):
        assert moved.max() <= 0.7 * (1 + 1e-5)
        assert (moved > 0.69).mean() > 0.2
        assert (moved == 0).mean() > 0.02


@pytest.mark.fast
@pytest.mark.parametrize("n", [2, 8], ids=["instantiated", "from pairs of positions"])
def test_positions_that_cancel_stay_within_the_slack(n):
    """Two positions almost opposite: their sum has from a tenth to a millionth of their length."""
    layer, number = fn.Dense(n, n, bias=False), 2000
    apart = 10.0 ** np.random.default_rng(4).uniform(-6, -1, (number, 1, 1))
    first, second, delta = (np.asarray(random(seed, number, 1, n)) for seed in (1, 2, 3))
    x = np.concatenate([first, first + apart * second], 1).astype(np.float32)
    deltas = (1e4 * np.concatenate([delta, -delta], 1)).astype(np.float32)
    bp = fn.Backprop(np.zeros(number, np.float32), x, x, deltas, x)
    squares = np.asarray(clipped_gradient(layer, bp, 1.0)[1], np.float64)
    exact = np.einsum("mti,mtj->mij", x.astype(np.float64), deltas.astype(np.float64))
    norms = np.sqrt((exact**2).sum((1, 2)))
    share = norms / (np.linalg.norm(x, axis=2) * np.linalg.norm(deltas, axis=2)).sum(1)
    assert ((norms / np.sqrt(np.maximum(squares, 1)) - 1 - 1e-5) * share <= 1e-7).all()


@pytest.mark.fast
def test_what_is_not_finite_contributes_exactly_nothing():
    params = params_of(NET)
    x, y = np.array(random(1, 5, 3)), np.array(random(2, 5, 2))
    good = backprop(NET, SE, params, x[2:], y[2:])
    x[0], y[1] = np.inf, 1e300
    clipped, squares = clipped_gradient(NET, backprop(NET, SE, params, x, y), 0.3)
    assert disagreement(clipped, clipped_gradient(NET, good, 0.3)[0]) <= 1e-15
    assert np.isfinite(squares).tolist() == [False, False, True, True, True]
    costs = np.array(good.costs)
    costs[0] = np.nan
    rest = jax.tree.map(lambda a: np.asarray(a)[1:], good)
    pair = (clipped_gradient(NET, bp, 0.3)[0] for bp in (good._replace(costs=costs), rest))
    assert disagreement(*pair) <= 1e-15


@pytest.mark.fast
def test_a_gradient_of_zero_is_clipped_to_zero():
    x, params = random(1, 4, 3), params_of(NET)
    bp = backprop(NET, SE, params, x, predict(NET, params, x))
    for per_layer in (False, True):
        grads, _ = clipped_gradient(NET, bp, 1.0, per_layer=per_layer)
        assert not any(g.any() for g in jax.tree.leaves(grads))


@pytest.mark.fast
def test_short_gradients_stay_as_they_are():
    bp = backprop(NET, SE, params_of(NET), random(1, 4, 3), random(2, 4, 2))
    longest = np.sqrt(np.max(jax.jit(fn.example_square_norms)(NET, bp)))
    whole = jax.jit(fn.gradient)(NET, bp.tape, bp.deltas)
    for per_layer in (False, True):
        clipped, _ = clipped_gradient(NET, bp, 2 * longest, per_layer=per_layer)
        assert disagreement(clipped, whole) <= 1e-15


@pytest.mark.fast
@pytest.mark.parametrize("bad", [np.nan, -1.0, 0.0, np.inf])
def test_a_bound_that_cannot_be_seen_gives_nan_where_it_bounds_nothing(bad):
    """Under jit it is not refused; an unclipped sum, or one turned round, would pass for a private one."""
    bp = backprop(NET, SE, params_of(NET), random(1, 4, 3), random(2, 4, 2))
    for per_layer in (False, True):
        grads, _ = clipped_gradient(NET, bp, jnp.asarray(bad), per_layer=per_layer)
        assert all(np.isnan(g).all() for g in jax.tree.leaves(grads))
        options = OPTIONS | {"per_layer": per_layer}
        private = jax.jit(lambda bound: fn.private_gradient(NET, bp, KEY, **options | {"max_norm": bound}))(bad)  # noqa: B023
        assert all(np.isnan(g).all() for g in jax.tree.leaves(private))


def noises(number=3000, net=NET, **options):
    """Private gradients of one batch with many keys, and its clipped sum."""
    x, y = random(1, 6, 3), random(2, 6, 2)
    bp = backprop(net, SE, params_of(net), x, y)
    keys = jax.random.split(jax.random.key(5), number)
    draw = jax.jit(jax.vmap(lambda key: fn.private_gradient(net, bp, key, **OPTIONS | options)))
    clipped, _ = clipped_gradient(net, bp, (OPTIONS | options)["max_norm"])
    return jax.tree.map(np.asarray, (draw(keys), clipped))


@pytest.mark.fast
def test_the_noise_has_its_size_and_its_mean():
    grads, clipped = noises(max_norm=0.5, noise_multiplier=3.0, expected_batch_size=2)
    for g, c in zip(jax.tree.leaves(grads), jax.tree.leaves(clipped)):
        assert abs(np.std(g, 0) / (0.5 * 3 / 2) - 1).max() < 0.08
        assert abs(np.mean(g, 0) - c / 2).max() < 5 * (0.5 * 3 / 2) / np.sqrt(3000)


@pytest.mark.fast
def test_every_entry_and_every_key_draws_for_itself():
    grads, _ = noises(net=fn.mlp((3, 3, 3, 2)))
    entries = np.concatenate([g.reshape(len(g), -1) for g in jax.tree.leaves(grads)], 1)
    correlation = np.corrcoef(entries.T) - np.eye(entries.shape[1])
    assert abs(correlation).max() < 0.1
    assert len(np.unique(entries.round(12))) == entries.size


def test_without_noise_it_is_the_clipped_sum_over_the_expected_size():
    for per_layer in (False, True):
        x, y = random(1, 6, 3), random(2, 6, 2)
        bp = backprop(NET, SE, params_of(NET), x, y)
        options = {"max_norm": 0.5, "noise_multiplier": 0, "expected_batch_size": 8, "per_layer": per_layer}
        private = fn.private_gradient(NET, bp, jax.random.PRNGKey(0), **options)
        clipped, _ = clipped_gradient(NET, bp, 0.5, per_layer=per_layer)
        assert disagreement(private, jax.tree.map(lambda g: np.asarray(g) / 8, clipped)) <= 1e-15


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"max_norm": 0.0}, ValueError, "max_norm: expected one finite number, above 0, got 0.0"),
        ({"max_norm": -1}, ValueError, "max_norm"),
        ({"max_norm": float("inf")}, ValueError, "max_norm"),
        ({"max_norm": jnp.ones(2)}, ValueError, "max_norm"),
        ({"noise_multiplier": -0.1}, ValueError, "noise_multiplier: expected one finite number, 0 or more, got -0.1"),
        ({"noise_multiplier": float("nan")}, ValueError, "noise_multiplier"),
        ({"expected_batch_size": 0}, ValueError, "expected_batch_size: expected one finite number, above 0, got 0"),
        ({"key": jax.random.split(jax.random.key(0), 4)}, TypeError, "key: expected one key"),
        ({"key": 3}, TypeError, "key: expected one key"),
    ],
)
def test_bad_input_is_named(options, error, words):
    bp = backprop(NET, SE, params_of(NET), random(1, 4, 3), random(2, 4, 2))
    with pytest.raises(error, match=words):
        fn.private_gradient(NET, bp, **{"key": jax.random.key(0)} | OPTIONS | options)
