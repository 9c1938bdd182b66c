"""`Attention` against a softmax written out, over blocks and segments; `Rotary` against the angles it stands for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from table import disagreement, random

import funcnet as fn
from funcnet._core import workarounds

M = 2
CHOICES = [
    # causal, heads, heads of keys, block, T: any two choices of different kinds meet
    (True, 2, 2, None, 1),
    (True, 4, 2, 1, 7),
    (True, 2, 1, 3, 7),
    (True, 2, 2, 2, 12),  # six blocks, and four different lengths that they reach
    (True, 2, 1, 100, 7),
    (True, 2, 1, None, 70),
    (False, 4, 2, None, 1),
    (False, 2, 2, 1, 7),
    (False, 2, 1, 3, 7),
    (False, 2, 2, 100, 7),
    (False, 2, 1, None, 260),
]


def by_hand(layer, x, delta, segments=None):
    y, tape = layer.forward((), x, segments)
    return y, layer.backward((), tape, delta)[0]


def plain(layer, x, segments=None):
    m, T, _ = x.shape
    heads, keys, d = layer.heads, layer.kv_heads or layer.heads, layer.n // layer.heads
    q, k, v = (a.reshape(m, T, -1, d) for a in jnp.split(x, [layer.n, layer.n + keys * d], -1))
    k, v = (jnp.repeat(a, heads // keys, 2) for a in (k, v))
    scores = jnp.einsum("mthd,mshd->mhts", q, k) / np.sqrt(d)
    seen = jnp.ones((1, T, T), bool)
    if layer.causal:
        seen = seen & np.tri(T, dtype=bool)[None]
    if segments is not None:
        seen = seen & (segments[:, :, None] == segments[:, None, :]) & (segments > 0)[:, :, None]
    scores = jnp.where(seen[:, None], scores, -1e200)
    p = jnp.where(seen[:, None], jax.nn.softmax(scores), 0)
    return jnp.einsum("mhts,mshd->mthd", p, v).reshape(m, T, layer.n)


@jax.jit
def both_ways(layer, x, delta, segments=None):
    y, pullback = jax.vjp(lambda x: plain(layer, x, segments), x)
    return by_hand(layer, x, delta, segments), (y, pullback(delta)[0])


@pytest.mark.fast
@pytest.mark.parametrize("choices", CHOICES, ids=repr)
def test_values_and_error_signals_are_those_of_a_plain_softmax(choices):
    causal, heads, keys, block, T = choices
    layer = fn.Attention(3 * heads, heads, keys, causal, block)
    x, delta = random(1, M, T, layer.n_in), random(2, M, T, layer.n)
    assert disagreement(*both_ways(layer, x, delta)) <= 1e-12


def test_query_heads_beside_each_other_share_a_key_head():
    """Head h uses key head h // 2, not h mod 2."""
    layer = fn.Attention(4, 4, 2)
    x = jnp.concatenate([jnp.zeros((1, 1, 6)), jnp.array([[[1.0, 2.0]]])], -1)
    assert layer.forward((), x)[0].tolist() == [[[1, 1, 2, 2]]]


PACKED = jnp.array([[1, 1, 1, 2, 2, 0, 0], [3, 3, 1, 1, 1, 1, 0]])
LAYERS = [
    fn.Attention(4, 2, block=2),
    fn.Attention(4, 2, 1, causal=False),
    fn.Attention(2, 1, causal=False, block=3),
    fn.Attention(2, 1),
]
each_layer = pytest.mark.parametrize("layer", LAYERS, ids=repr)


def of_texts(layer):
    return random(1, M, 7, layer.n_in), random(2, M, 7, layer.n)


@pytest.mark.fast
@each_layer
def test_segments_are_a_mask_of_the_plain_softmax(layer):
    found, expected = both_ways(layer, *of_texts(layer), PACKED)
    assert disagreement(found, expected) <= 1e-12
    padding = np.asarray(PACKED) == 0
    for values in found:
        assert not np.asarray(values)[padding].any()
        assert np.asarray(values)[~padding].any(-1).all()


@pytest.mark.fast
@each_layer
def test_packed_texts_are_the_texts_alone_and_change_no_other(layer):
    x, delta = of_texts(layer)
    run = jax.jit(by_hand)
    packed = run(layer, x, delta, PACKED)
    for example, rows in ((0, slice(0, 3)), (0, slice(3, 5)), (1, slice(2, 6))):
        alone = run(layer, x[example : example + 1, rows], delta[example : example + 1, rows])
        assert disagreement([a[example : example + 1, rows] for a in packed], list(alone)) <= 1e-12
    other = jnp.where((PACKED == 1)[..., None], x, 3 - x)
    for now, then in zip(run(layer, other, delta, PACKED), packed, strict=True):
        assert (np.asarray(now)[PACKED == 1] == np.asarray(then)[PACKED == 1]).all()


@pytest.mark.fast
@pytest.mark.parametrize("causal", [True, False])
def test_scores_of_any_size_are_finite(causal):
    """In float32, with scores of ±1e4: exp of them is 0 or infinite, and log Σ exp is known to about 5e-4."""
    layer = fn.Attention(1, 1, causal=causal, block=2)
    q, k = np.array([100, -100, 100, 100, 0.0]), np.array([100, 100, -100, 100, 5.0])
    x = jnp.asarray(np.stack([q, k, np.arange(5.0)], -1)[None])
    delta = jnp.ones((1, 5, 1))
    exact, _ = both_ways(layer, x, delta)
    found = jax.jit(by_hand)(layer, x.astype(jnp.float32), delta.astype(jnp.float32))
    assert all(a.dtype == jnp.float32 for a in found)
    assert disagreement(found, exact) <= 5e-4
    expected = [[[0], [0.5], [0.5], [4 / 3], [2]]] if causal else [[[4 / 3], [2], [4 / 3], [4 / 3], [2]]]
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)


@pytest.mark.fast
def test_other_devices_take_larger_blocks_and_give_the_same():
    layer, x, delta = fn.Attention(2, 1), random(1, 1, 300, 6), random(2, 1, 300, 2)
    here = jax.jit(lambda: by_hand(layer, x, delta))()
    with workarounds.set_aside():
        elsewhere = jax.jit(lambda: by_hand(layer, x, delta))()
        assert {rows.block for rows in layer._rows(300)} == {75}
    assert {rows.block for rows in layer._rows(300)} == {44, 64}
    assert disagreement(elsewhere, here) <= 1e-12


@pytest.mark.fast
def test_no_score_is_so_low_that_what_is_masked_wins():
    """A product of -1e32 is below what stands in the place of masked scores."""
    x = jnp.array([[[1e16, -1e16, 1.0], [1e16, -1e16, 3.0]]], jnp.float32)
    assert fn.Attention(1, 1).forward((), x)[0].tolist() == [[[1.0], [2.0]]]


@pytest.mark.fast
def test_an_error_signal_that_is_not_finite_stays_in_its_example():
    layer = fn.Attention(4, 2)
    x, delta = random(1, M, 3, layer.n_in), np.array(random(2, M, 3, 4))
    whole = jax.jit(by_hand)(layer, x, delta)[1]
    delta[0] = np.nan
    with jax.debug_nans(False):
        back = np.asarray(jax.jit(by_hand)(layer, x, delta)[1])
    assert np.isnan(back[0]).any()
    assert (back[1] == np.asarray(whole)[1]).all()


@pytest.mark.fast
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("segmented", [False, True])
def test_no_array_holds_a_number_for_every_pair_of_positions(causal, segmented):
    T, layer = 517, fn.Attention(4, 2, causal=causal)
    x, segments = jax.ShapeDtypeStruct((1, T, 12), np.float64), jax.ShapeDtypeStruct((1, T), np.int32)
    given = (x, segments) if segmented else (x,)
    tape = jax.eval_shape(lambda *given: layer.forward((), *given)[1], *given)
    assert sorted(a.shape for a in tape) == sorted([(1, T, 12), (1, T, 4), (1, 2, T), *[(1, T)] * segmented])
    delta = jax.ShapeDtypeStruct((1, T, 4), np.float64)
    text = jax.jit(lambda delta, *given: by_hand(layer, given[0], delta, *given[1:])).lower(delta, *given).as_text()
    assert f"{T}x" in text
    assert f"x{T}x{T}x" not in text


@pytest.mark.fast
def test_no_positions_no_work():
    y, back = by_hand(fn.Attention(4, 2), jnp.zeros((2, 0, 12)), jnp.zeros((2, 0, 4)))
    assert (y.shape, back.shape) == ((2, 0, 4), (2, 0, 12))


@pytest.mark.fast
def test_attention_that_cannot_be_is_refused():
    for arguments in ((5, 2), (4, 0), (4, 4, 3), (0, 1)):
        with pytest.raises(ValueError, match="heads must divide n, and kv_heads must divide heads"):
            fn.Attention(*arguments)
    with pytest.raises(ValueError, match="block must be 1 or more"):
        fn.Attention(4, 2, block=0)
    for shape in ((2, 8), (2, 3, 4), (2, 3, 3, 8)):
        with pytest.raises(ValueError, match="4 features of queries, 2 of keys and 2 of values, got shape"):
            fn.Attention(4, 2, 1).forward((), jnp.zeros(shape))
    with pytest.raises(ValueError, match="gives 8 features, but Attention.*takes 12"):
        fn.Chain(fn.Dense(4, 8), fn.Attention(4, 2))


# ------------------------------------------------------------------ Rotary
@pytest.mark.fast
def test_products_of_turned_queries_and_keys_depend_on_their_distance():
    T, d, layer = 9, 6, fn.Rotary(3, 2)
    q, k, v = np.asarray(random(1, 3, d))
    x = jnp.broadcast_to(jnp.concatenate([q, k, v]), (1, T, 3 * d))
    queries, keys, values = np.split(np.asarray(layer.forward((), x)[0][0]), 3, -1)
    products = queries @ keys.T
    for distance in range(-T + 1, T):
        assert np.ptp(np.diagonal(products, distance)) <= 1e-12
    assert (np.abs(np.diff([products[t, 0] for t in range(T)])) > 1e-3).all()
    np.testing.assert_allclose(products[0, 0], q @ k, rtol=1e-14)
    assert (values == v).all()


@pytest.mark.fast
def test_an_error_signal_is_turned_back():
    layer, x = fn.Rotary(4, 3, base=50.0), random(1, 2, 3, 5, 16)
    y, tape = layer.forward((), x)
    assert tape == ()
    assert np.abs(y - x)[..., 1:, :12].max() > 0.1
    np.testing.assert_allclose(layer.backward((), tape, y)[0], x, rtol=0, atol=1e-15)


@pytest.mark.fast
def test_angles_are_right_far_out_in_float32():
    T, d = 10_001, 8
    x = jnp.asarray(np.tile([1.0, 0.0], (1, T, 1)).repeat(d // 2, -1).astype(np.float32))
    y = np.asarray(fn.Rotary(1, 1).forward((), x)[0])
    assert y.dtype == np.float32
    angles = np.arange(T)[:, None] * 10000 ** (-np.arange(0, d, 2) / d)
    np.testing.assert_allclose(y[0], np.concatenate([np.cos(angles), np.sin(angles)], -1), rtol=0, atol=1e-7)


@pytest.mark.fast
def test_numbers_that_do_not_fit_are_refused():
    for heads, turned, base in ((2, 3, 10.0), (2, 0, 10.0), (2, 1, 1.0)):
        with pytest.raises(ValueError, match="turned must be 1 … heads, and base above 1"):
            fn.Rotary(heads, turned, base)
    with pytest.raises(ValueError, match="expected a multiple of 4 features"):
        fn.Rotary(2, 1).forward((), jnp.zeros((1, 3, 6)))
    with pytest.raises(ValueError, match="with T positions, got shape"):
        fn.Rotary(2, 1).forward((), jnp.zeros((3, 4)))
