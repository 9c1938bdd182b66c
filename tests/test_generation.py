"""`generate` against `predict` on the whole text, token by token; draws; prompts of unequal length; what is refused."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from table import disagreement, params_of, tokens

import funcnet as fn
from funcnet._core.walkers import has_step, layer_step, map_leaves

V, T, MORE = 7, 3, 4


def recurrent(layer):
    return fn.Chain(fn.Embedding(V, 4), layer, fn.Dense(layer.n_out, V))


LLAMA = {"tied": False, "norm": fn.RMSNorm, "rotary": True, "gated": True, "bias": False, "kv_heads": 1}
NETS = {
    "tied": fn.gpt(V, T + MORE, 8, 2, 2, dropout=0.3),
    "llama": fn.gpt(V, T + MORE, 8, 2, 2, **LLAMA),
    "repeat and remat": fn.gpt(V, T + MORE, 8, 2, 3, rotary=True, repeat=True, remat=True),
    "gru": recurrent(fn.GRU(4, 5)),
    "lstm": fn.FeedbackAlignment(recurrent(fn.LSTM(4, 5))),
    "side by side": recurrent(fn.Parallel(fn.Identity(), fn.Repeat(fn.GRU(4, 4), 2))),
}
each_net = pytest.mark.parametrize("net", NETS.values(), ids=NETS)


def empty(net, m, length=T + MORE, dtype=np.float64):
    return map_leaves(net, lambda leaf: leaf.cache(m, length, dtype) if hasattr(leaf, "cache") else ())


def by_predict(net, params, x, length):
    """The likeliest tokens, from the whole text each time."""
    predict = jax.jit(fn.predict, static_argnums=0)
    text = np.pad(np.asarray(x), ((0, 0), (0, length)))
    for place in range(x.shape[1], text.shape[1]):
        text[:, place] = np.asarray(predict(net, params, text))[:, place - 1].argmax(
            -1
        )  # causal: zeros behind are not seen
    return text


@pytest.mark.fast
@each_net
def test_steps_give_what_predict_gives_of_the_whole_text(net):
    params, x = params_of(net), tokens(1, V, 2, T + MORE)

    @jax.jit
    def both(params, x):
        def one(cache, at):
            y, cache = layer_step(net, params, at[0], cache, at[1])
            return cache, y

        _, each = jax.lax.scan(one, empty(net, 2), (x.T, jnp.arange(T + MORE)))
        return each.transpose(1, 0, 2), fn.predict(net, params, x)

    assert disagreement(*both(params, x)) <= 1e-12


@pytest.mark.fast
@each_net
def test_the_likeliest_tokens_are_those_of_predict(net):
    params, x = params_of(net), tokens(1, V, 2, T)
    assert has_step(net)
    text = fn.generate(net, params, x, MORE, temperature=0)
    assert text.dtype == x.dtype
    assert (text == by_predict(net, params, x, MORE)).all()


@pytest.mark.fast
def test_a_network_without_steps_reads_the_whole_text_for_every_token():
    net = fn.Chain(fn.Embedding(V, 12), fn.Attention(4, 2, causal=False), fn.Dense(4, V))
    params, x = jax.tree.map(lambda a: 3 * a, params_of(net)), tokens(1, V, 24, T)
    assert not has_step(net)
    text = np.asarray(fn.generate(net, params, x, 2, temperature=0))
    for place in (T, T + 1):
        assert (np.asarray(fn.predict(net, params, text[:, :place]))[:, -1].argmax(-1) == text[:, place]).all()


@pytest.mark.fast
@pytest.mark.parametrize("name", ["tied", "gru"])
def test_prompts_of_unequal_length_go_on_as_each_alone(name):
    net = NETS[name]
    params, x = params_of(net), tokens(1, V, 3, T)
    sizes = [1, 3, 2]
    there = (np.arange(T)[None] < np.array(sizes)[:, None]).astype(int)
    together = np.asarray(fn.generate(net, params, (x, there), MORE, temperature=0))
    for row, size in enumerate(sizes):
        alone = fn.generate(net, params, x[row : row + 1, :size], T + MORE - size, temperature=0)
        assert (together[row] == alone[0]).all()


@pytest.mark.fast
def test_bfloat16_and_float32_keep_their_caches_narrow():
    net = fn.gpt(V, T + MORE, 8, 2, 1)
    params = jax.tree.map(lambda a: a.astype(jnp.bfloat16), params_of(net))
    assert fn.generate(net, params, tokens(1, V, 2, T), MORE, jax.random.key(0)).shape == (2, T + MORE)


# ------------------------------------------------------------------ draws, from a table of what follows what
FOLLOWS = np.log(np.array([[0.5, 0.3, 0.15, 0.05]] * 4))
TABLE = fn.Embedding(4, 4)  # its rows are logits


def shares(m=4000, **options):
    """How often each token comes first."""
    options = {"key": jax.random.key(3)} | options
    text = fn.generate(TABLE, {"e": jnp.asarray(FOLLOWS)}, np.zeros((m, 1), int), 1, **options)
    return np.bincount(np.asarray(text[:, 1]), minlength=4) / m


@pytest.mark.fast
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0.5, 0.3, 0.15, 0.05]),
        ({"temperature": 0.5}, [0.685, 0.247, 0.062, 0.007]),
        ({"top_k": 2}, [0.625, 0.375, 0, 0]),
        ({"top_k": 1}, [1, 0, 0, 0]),
        ({"top_p": 0.79}, [0.625, 0.375, 0, 0]),
        ({"top_p": 0.81}, [0.526, 0.316, 0.158, 0]),
        ({"top_p": 1e-9}, [1, 0, 0, 0]),
        ({"top_k": 3, "top_p": 0.6}, [0.625, 0.375, 0, 0]),
        ({"temperature": 0, "key": None}, [1, 0, 0, 0]),
    ],
    ids=str,
)
def test_tokens_are_drawn_by_their_probabilities(options, expected):
    found = shares(**options)
    assert np.abs(found - expected).max() < 0.03
    assert ((found > 0) == (np.array(expected) > 0)).all()


@pytest.mark.fast
def test_each_position_draws_anew():
    text = fn.generate(TABLE, {"e": jnp.asarray(FOLLOWS)}, np.zeros((4000, 1), int), 2, jax.random.key(3))
    pairs = np.bincount(np.asarray(text[:, 1] * 4 + text[:, 2]), minlength=16).reshape(4, 4) / len(text)
    p = np.exp(FOLLOWS[0])
    assert np.abs(pairs - np.outer(p, p)).max() < 0.02


@pytest.mark.fast
def test_a_row_draws_alike_in_every_batch_and_rows_differ():
    net = NETS["gru"]
    params, x, key = params_of(net), np.tile(np.asarray(tokens(1, V, 1, T)), (6, 1)), jax.random.key(5)
    many, few = (np.asarray(fn.generate(net, params, x[:rows], 20, key)) for rows in (6, 2))
    assert (many[:2] == few).all()
    assert len({tuple(row) for row in many.tolist()}) > 1
    again = np.asarray(fn.generate(net, params, x, 20, jax.random.key(6)))
    assert not (many == again).all()


@pytest.mark.fast
def test_what_follows_the_stop_token_is_the_stop_token():
    params = {"e": jnp.asarray(FOLLOWS)}
    text = np.asarray(fn.generate(TABLE, params, np.full((50, 2), 2), 12, jax.random.key(0), stop=2))
    assert (text[:, :2] == 2).all()  # in a prompt it is a token like others
    for row in text[:, 2:]:
        first = np.argmax(row == 2) if (row == 2).any() else len(row)
        assert (row[first:] == 2).all()
    free = np.asarray(fn.generate(TABLE, params, np.full((50, 2), 2), 12, jax.random.key(0)))
    assert (text[:, 2] == free[:, 2]).all()  # what was drawn beside a prompt's token stops nothing
    before = np.cumsum(text[:, 2:] == 2, 1) == 0
    assert (text[:, 2:][before] == free[:, 2:][before]).all()


def test_one_program_for_one_kind_of_call():
    from funcnet.generation import _texts

    params, x = {"e": jnp.asarray(FOLLOWS)}, np.zeros((2, 3), int)
    fn.generate(TABLE, params, x, 5, jax.random.key(0), temperature=0.7)
    before = _texts._cache_size()
    fn.generate(TABLE, params, x + 1, 5, jax.random.key(1), temperature=0.9)
    assert _texts._cache_size() == before


# ------------------------------------------------------------------ what is refused
@fn.spec
class Before:
    """A user's layer without a step: each position is the one before it."""

    causal: ClassVar[bool] = True

    def init(self, key):
        return ()

    def forward(self, params, x):
        return jnp.pad(x[:, :-1], ((0, 0), (1, 0), (0, 0))), ()

    def backward(self, params, tape, delta):
        return jnp.pad(delta[:, 1:], ((0, 0), (0, 1), (0, 0))), delta

    def gradient(self, tape, deltas):
        return ()


@pytest.mark.fast
def test_a_layer_of_ones_own_says_that_it_is_causal():
    net = fn.Chain(fn.Embedding(V, 4), Before(), fn.Dense(4, V))
    params, x = params_of(net), tokens(1, V, 2, T)
    assert (fn.generate(net, params, x, MORE, temperature=0) == by_predict(net, params, x, MORE)).all()


KEY = jax.random.key(0)
GPT = NETS["tied"]
BAD = {
    "no key": (GPT, {"key": None}, TypeError, "key: expected one key"),
    "key without use": (GPT, {"temperature": 0}, TypeError, "Leave key out"),
    "temperature": (GPT, {"temperature": -1.0}, ValueError, "temperature: expected 0 or more, got -1.0"),
    "top_k": (GPT, {"top_k": V + 1}, ValueError, f"top_k: expected 1 to {V} tokens, got {V + 1}"),
    "top_p": (GPT, {"top_p": 0.0}, ValueError, "top_p: expected a probability"),
    "stop": (GPT, {"stop": V}, ValueError, f"stop: expected a token, 0 to {V - 1}, got {V}"),
    "length": (GPT, {"length": -1}, ValueError, "length: expected a number of tokens to add, 0 or more, got -1"),
    "too long": (GPT, {"length": MORE + 1}, ValueError, f"takes up to {T + MORE} positions, got {T + MORE + 1}"),
    "one text": (GPT, {"tokens": np.zeros(3, int)}, TypeError, r"Use tokens\[None\]"),
    "floats": (GPT, {"tokens": np.zeros((1, 3))}, TypeError, "tokens: expected integers"),
    "unknown token": (GPT, {"tokens": np.full((1, 3), V)}, ValueError, rf"x\[0, 0\] is {V}"),
    "a gap": (GPT, {"tokens": (np.zeros((1, 3), int), np.array([[1, 0, 1]]))}, ValueError, "0 behind them alone"),
    "an empty prompt": (GPT, {"tokens": (np.zeros((1, 3), int), np.zeros((1, 3), int))}, ValueError, "segment_ids"),
    "another shape": (
        GPT,
        {"tokens": (np.zeros((1, 3), int), np.ones((1, 2), int))},
        ValueError,
        "segment_ids: expected",
    ),
    "looks ahead": (recurrent(fn.Conv(4, 4, (3,))), {}, ValueError, "may look ahead"),
    "no text out": (fn.Chain(fn.Embedding(V, 4), fn.GRU(4, 4), fn.Last()), {}, ValueError, "expected logits"),
}


@pytest.mark.parametrize(("net", "options", "kind", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_is_refused_with_what_to_change(net, options, kind, message):
    options = {"tokens": np.zeros((1, T), int), "length": 2, "key": KEY} | options
    with pytest.raises(kind, match=message):
        fn.generate(net, params_of(net), **options)
