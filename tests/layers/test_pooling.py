"""Pools against JAX's `reduce_window`, and what autodiff does not settle: ties, the tape, NaN beside numbers."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from table import disagreement, random

import funcnet as fn

X = {1: (9, 2), 2: (7, 6, 2), 3: (5, 4, 6, 2)}  # positions and features
WINDOWS = [
    # window, stride, padding: windows that tile, with and without a rest, that overlap, leave gaps, and see padding
    ((3,), None, "VALID"),
    ((2,), None, "VALID"),
    ((3,), (2,), ((2, 1),)),
    ((2, 3), None, "VALID"),
    ((2, 3), None, ((1, 0), (0, 2))),
    ((3, 2), (1, 3), "VALID"),
    ((3, 3), (2, 2), "SAME"),
    ((1, 2, 3), None, "VALID"),
    ((2, 3, 1), (1, 2, 2), ((0, 1), (2, 0), (0, 0))),
]
each_pool = pytest.mark.parametrize("kind", [fn.MaxPool, fn.AvgPool])
each_window = pytest.mark.parametrize("options", WINDOWS, ids=repr)


def by_hand(layer, x, delta):
    y, tape = layer.forward((), x)
    return y, layer.backward((), tape, delta)[0]


@jax.jit
def both_ways(layer, x, delta):
    stride, padding = layer.stride or layer.window, layer.padding
    stride = (stride,) * len(layer.window) if isinstance(stride, int) else stride
    pads = padding if isinstance(padding, str) else ((0, 0), *padding, (0, 0))
    start, step = (-np.inf, lax.max) if isinstance(layer, fn.MaxPool) else (0.0, lax.add)
    share = 1 if isinstance(layer, fn.MaxPool) else math.prod(layer.window)
    pooled, pullback = jax.vjp(
        lambda x: lax.reduce_window(x, start, step, (1, *layer.window, 1), (1, *stride, 1), pads) / share, x
    )
    return by_hand(layer, x, delta), (pooled, pullback(delta)[0])


@pytest.mark.fast
@each_pool
@each_window
def test_pools_are_those_of_jax(kind, options):
    layer, x = kind(*options), random(1, 3, *X[len(options[0])])
    y = jax.eval_shape(lambda x: layer.forward((), x)[0], x)
    assert disagreement(*both_ways(layer, x, random(2, *y.shape))) <= 1e-12


@pytest.mark.fast
def test_the_first_of_equal_ones_takes_the_error():
    """In the order of rows, as in PyTorch; so does a window that others overlap."""
    delta = jnp.array([[1.0, 2.0], [4.0, 8.0]])[None, :, :, None]
    flat = fn.MaxPool((2, 2)), jnp.zeros((1, 4, 4, 1))
    assert by_hand(*flat, delta)[1][0, :, :, 0].tolist() == [[1, 0, 2, 0], [0] * 4, [4, 0, 8, 0], [0] * 4]
    overlapping = fn.MaxPool((2, 2), (1, 1)), jnp.array([[0.0, 5, 5], [5, 5, 0], [0, 5, 5]])[None, :, :, None]
    assert by_hand(*overlapping, delta)[1][0, :, :, 0].tolist() == [[0, 3, 0], [4, 8, 0], [0, 0, 0]]


@pytest.mark.fast
def test_padding_never_wins_and_counts_in_the_mean():
    x = -1 - jnp.arange(4.0).reshape(1, 4, 1)
    padding = ((1, 1),)
    assert fn.MaxPool((2,), (2,), padding).forward((), x)[0].ravel().tolist() == [-1, -2, -4]
    assert fn.AvgPool((2,), (2,), padding).forward((), x)[0].ravel().tolist() == [-0.5, -2.5, -2]
    lowest = jnp.full((1, 2, 1), -np.inf)
    assert by_hand(fn.MaxPool((2,), (1,), ((0, 1),)), lowest, jnp.ones((1, 2, 1)))[1].ravel().tolist() == [1, 1]


@pytest.mark.fast
@pytest.mark.parametrize(
    ("window", "dtype"), [((2, 2), "uint8"), ((16, 16), "uint8"), ((16, 17), "uint16"), ((7, 7, 7), "uint16")], ids=repr
)
def test_the_tape_of_max_is_a_small_number_an_output(window, dtype):
    layer, size = fn.MaxPool(window, padding="SAME"), 2 * np.array(window)
    _, (winner, shape) = jax.eval_shape(lambda x: layer.forward((), x), jnp.zeros((1, *size, 3)))
    assert (winner.dtype, winner.shape) == (np.dtype(dtype), (1, *(2,) * len(window), 3))
    assert shape.size == 0


@pytest.mark.fast
@pytest.mark.parametrize("side", [16, 17])
def test_the_last_entry_of_a_large_window_can_win(side):
    layer, x = fn.MaxPool((side, side)), jnp.arange(float(side * side)).reshape(1, side, side, 1)
    y, (winner, shape) = jax.jit(lambda x: layer.forward((), x))(x)
    assert (y.item(), winner.item()) == (side * side - 1, side * side - 1)
    back = jax.jit(lambda winner: layer.backward((), (winner, shape), y)[0])(winner)
    assert np.flatnonzero(back).tolist() == [side * side - 1]


@pytest.mark.fast
@pytest.mark.parametrize("layer", [fn.AvgPool((2, 2)), fn.GlobalAveragePool(), fn.Flatten()], ids=repr)
def test_other_tapes_hold_no_number_at_all(layer):
    _, tape = layer.forward((), jnp.ones((2, 4, 4, 3)))
    assert tape.size == 0


@pytest.mark.fast
def test_what_is_not_finite_stays_in_its_example_and_is_seen():
    for layer, bad in itertools.product((fn.MaxPool((2, 2)), fn.AvgPool((2, 2), (1, 1))), (np.nan, np.inf)):
        x = np.array(random(1, 3, 4, 4, 2))
        clean = layer.forward((), jnp.asarray(x))[0]
        x[1, 1, 1, 0] = bad
        y = np.asarray(layer.forward((), jnp.asarray(x))[0])
        assert (y[[0, 2]] == clean[jnp.array([0, 2])]).all()
        assert not np.isfinite(y[1, 0, 0, 0])
        assert np.isfinite(y[1, :, :, 1]).all()


@pytest.mark.fast
def test_means_of_bfloat16_are_taken_in_float32():
    x = jnp.array([256.0, 1, 1, 2], jnp.bfloat16).reshape(1, 4, 1)  # bfloat16 itself counts no further than 256
    for layer in (fn.AvgPool((4,)), fn.GlobalAveragePool()):
        y, _ = layer.forward((), x)
        assert (y.dtype, y.ravel().tolist()) == (jnp.bfloat16, [65.0])


@pytest.mark.fast
def test_flatten_puts_features_of_a_position_side_by_side():
    x = jnp.arange(12.0).reshape(2, 3, 2)
    assert fn.Flatten().forward((), x)[0].tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    assert fn.Chain(fn.Conv(1, 2, (3, 3)), fn.Flatten(), fn.Dense(32, 3)).n_out == 3


@pytest.mark.fast
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (((2, 0),), "window must be numbers of 1 or more"),
        (((2, 2), (1, 1, 1)), "stride must be one number, or 2, of 1 or more"),
        (((2, 2), ()), "stride must be one number, or 2, of 1 or more"),
        (((2, 2, 2, 2),), "1, 2 or 3 axes"),
        (((2,), None, "valid"), "'SAME', 'VALID'"),
        (((2,), None, ((0, 2),)), "padding must be less than the window"),
    ],
    ids=repr,
)
@each_pool
def test_windows_that_make_no_sense_are_refused(kind, arguments, words):
    with pytest.raises(ValueError, match=words):
        kind(*arguments)


@pytest.mark.fast
def test_inputs_that_do_not_fit_are_refused_with_what_to_do():
    for layer, shape, words in [
        (fn.MaxPool((2, 2)), (5, 8, 8), "write x\\[..., None\\]"),
        (fn.AvgPool((3,)), (5, 2, 1), "does not fit into 2"),
        (fn.MaxPool((2, 2)), (5, 8), "x.reshape\\(-1, height, width, features\\); Flatten comes behind"),
        (fn.GlobalAveragePool(), (5, 8), "with positions, got shape \\(5, 8\\)"),
        (fn.GlobalAveragePool(), (5, 0, 8), "with positions, got shape \\(5, 0, 8\\)"),
    ]:
        with pytest.raises(ValueError, match=words):
            layer.forward((), jnp.zeros(shape))


@pytest.mark.fast
def test_padding_never_wins_and_nan_does():
    @jax.jit
    def run(x):
        layer = fn.MaxPool((3,), 2, ((2, 1),))
        y, tape = layer.forward((), x)
        return y, layer.backward((), tape, jnp.ones_like(y))[0]

    y, back = run(jnp.full((1, 4, 1), -jnp.inf))
    assert (y == -jnp.inf).all()
    assert back.ravel().tolist() == [2, 0, 1, 0]  # the first that is none, of each window
    with jax.debug_nans(False):
        y, back = run(jnp.array([1.0, jnp.nan, 3.0, 2.0]).reshape(1, 4, 1))
    assert np.isnan(y.ravel()).tolist() == [False, True, False]
    assert back.ravel().tolist() == [1, 1, 1, 0]


@pytest.mark.fast
@each_pool
def test_one_stride_has_one_spelling(kind):
    assert kind((2, 2), (2, 2)) == kind((2, 2), 2) == kind((2, 2))
    assert repr(kind((2, 2), 2)) == f"{kind.__name__}((2, 2))"
    assert repr(kind((3, 3), (1, 1))) == f"{kind.__name__}((3, 3), stride=1)"
