"""`RandomShift` and `RandomFlip`: what is drawn, by which key, and the way back."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from table import disagreement, random

import funcnet as fn

LAYERS = [fn.RandomShift(2), fn.RandomFlip()]
each_layer = pytest.mark.parametrize("layer", LAYERS, ids=repr)
KEYS = jax.random.split(jax.random.key(3), 400)  # one an example


@jax.jit
def run(layer, x, keys, delta):
    y, tape = layer.forward((), x, keys)
    return y, layer.backward((), tape, delta)[0], tape


@pytest.mark.fast
@each_layer
def test_without_a_key_all_passes_on(layer):
    x, delta = random(1, 3, 4, 5, 2), random(2, 3, 4, 5, 2)
    y, tape = layer.forward((), x)
    assert tape == ()
    assert y is x
    assert layer.backward((), tape, delta)[0] is delta
    net = fn.Chain(layer, fn.Flatten())
    assert (fn.predict(net, ((), ()), x) == x.reshape(3, 40)).all()


@pytest.mark.fast
@each_layer
def test_a_key_an_example_makes_the_draw_independent_of_the_batch(layer):
    x = np.broadcast_to(random(1, 4, 5, 2), (8, 4, 5, 2))
    whole, part = (np.asarray(run(layer, x[rows], KEYS[rows], x[rows])[0]) for rows in (slice(0, 8), slice(2, 5)))
    assert (whole[2:5] == part).all()
    assert not (whole == whole[:1]).all()


@pytest.mark.fast
@each_layer
def test_the_way_back_is_the_adjoint(layer):
    x, delta = random(1, 9, 4, 3, 2), random(2, 9, 4, 3, 2)
    y, input_delta, _ = run(layer, x, KEYS[:9], delta)
    assert disagreement(jnp.einsum("mhwc,mhwc->m", y, delta), jnp.einsum("mhwc,mhwc->m", x, input_delta)) <= 1e-12
    assert not (input_delta == delta).all()


@pytest.mark.fast
def test_images_move_by_all_shifts_alike_and_zeros_move_in():
    images = np.asarray(random(1, 400, 6, 5, 1))
    y, _, shifts = map(np.asarray, run(LAYERS[0], images, KEYS, images))
    wide = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    for image, moved, (down, right) in zip(wide, y, shifts):
        assert (moved == image[2 - down : 8 - down, 2 - right : 7 - right]).all()
    assert set(map(tuple, shifts.tolist())) == {(i, j) for i in range(-2, 3) for j in range(-2, 3)}
    for axis in (0, 1):
        assert min(collections.Counter(shifts[:, axis].tolist()).values()) > 50  # of 80


@pytest.mark.fast
def test_a_shift_larger_than_the_image_leaves_zeros():
    x = np.ones((50, 2, 3, 1))
    y, _, tape = map(np.asarray, run(fn.RandomShift(9), x, KEYS[:50], x))
    gone = (abs(tape[:, 0]) >= 2) | (abs(tape[:, 1]) >= 3)
    assert 0 < gone.sum() < 50
    assert (y.any((1, 2, 3)) == ~gone).all()


@pytest.mark.fast
def test_half_of_the_images_are_mirrored_left_to_right():
    images = np.asarray(random(1, 400, 2, 5, 1))
    y, _, mirrored = map(np.asarray, run(LAYERS[1], images, KEYS, images))
    assert (y == np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)).all()
    assert abs(mirrored.mean() - 0.5) < 0.08


@pytest.mark.fast
def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="pixels must be 0 or more"):
        fn.RandomShift(-1)
    for layer in LAYERS:
        with pytest.raises(ValueError, match="write x\\[..., None\\]"):
            layer.forward((), jnp.ones((3, 4, 4)), jax.random.key(0))
