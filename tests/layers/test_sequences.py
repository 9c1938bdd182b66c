"""Tokens, positions, gates and states: `Embedding`, `Tied`, `LearnedPositions`, `Gated`, `GRU`, `LSTM`, `Last`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from table import backprop, disagreement, params_of, random, tokens, value_and_grad

import funcnet as fn

LOSS = fn.SquaredError()
TABLE = fn.Embedding(5, 3)


@jax.jit
def rows_of(layer, params, x):
    return layer.forward(params, x)[0]


# ------------------------------------------------------------------ Embedding
@pytest.mark.fast
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.uint32])
def test_an_integer_out_of_range_is_nan_and_never_another_row(dtype):
    """Of 256 rows and more an integer of 8 bits cannot hold the number of rows."""
    beyond = [np.iinfo(dtype).min, np.iinfo(dtype).max]
    for vocabulary in (5, 256, 300):
        layer = fn.Embedding(vocabulary, 2)
        params = params_of(layer)
        x = np.array([[0, 4, *beyond]], dtype)
        exists = np.array([0 <= int(i) < vocabulary for i in x[0]])
        y = np.asarray(rows_of(layer, params, x))[0]
        assert (np.isnan(y).all(-1) == ~exists).all()
        assert (y[exists] == np.asarray(params["e"])[x[0][exists].astype(int)]).all()
        grads = np.asarray(jax.jit(layer.gradient)(x, jnp.ones((1, 4, 2)))["e"])
        assert grads.sum() == 2 * exists.sum()
        assert (grads[[0, 4]] >= 1).all()


@pytest.mark.fast
def test_the_first_integer_out_of_range_is_named_where_it_can_be_seen():
    net = fn.Chain(TABLE, fn.Dense(3, 2))
    params, x = params_of(net), np.array([[0, 1, 2], [4, 5, -1]])
    with pytest.raises(ValueError, match=r"x\[1, 1\] is 5, but Embedding\(5, 3\) has rows for 0 … 4"):
        fn.predict(net, params, x)
    with pytest.raises(ValueError, match=r"x\[0\] is -1, but Embedding\(5, 3\)"):
        fn.backprop(net, LOSS, params, np.array([-1, 7]), np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"x\[0\] is 9.*has rows for 0 … 4"):
        fn.predict(fn.Tied(TABLE, fn.Dense(3, 3)), params_of(fn.Tied(TABLE, fn.Dense(3, 3))), np.array([9]))
    with pytest.raises(TypeError, match="expected integers 0 … 4 shaped .*, got float64. Use x.astype"):
        fn.predict(net, params, np.ones((2, 3)))


@pytest.mark.fast
@pytest.mark.parametrize("shape", [(4,), (4, 3), (3, 2, 4)], ids=repr)
@pytest.mark.parametrize("tied", [False, True])
def test_gradients_of_repeated_tokens_are_those_of_jax(shape, tied):
    """In shape (m,), and with one and two axes of positions; a token is in an example more than once."""
    net = fn.Tied(TABLE, fn.Chain(fn.Dense(3, 3), fn.Tanh())) if tied else fn.Chain(TABLE, fn.Tanh(), fn.Dense(3, 2))
    params, x = params_of(net), tokens(2, 3, *shape) + np.int32(1)
    y = random(3, *shape, 5 if tied else 2)

    @jax.jit
    def run(params, x, y):
        bp, other = fn.backprop(net, LOSS, params, x, y), fn.backprop(net, LOSS, params, x[1:], y[1:])

        def one(x, y):
            return jax.grad(lambda p: fn.cost(net, LOSS, p, x[None], y[None], reduction="sum"))(params)

        own = jax.vmap(one)(x, y)
        rows = jnp.concatenate([leaf.reshape(len(x), -1) for leaf in jax.tree.leaves(own)], 1)
        found = (
            fn.gradient(net, bp.tape, bp.deltas),
            fn.example_gradients(net, bp),
            fn.example_square_norms(net, bp),
            fn.example_gram(net, bp, other),
            fn.empirical_fisher_diagonal(net, LOSS, params, x, y),
        )
        sums, squares = (jax.tree.map(f, own) for f in (lambda g: g.sum(0), lambda g: (g * g).mean(0)))
        return found, (sums, own, (rows * rows).sum(1), rows @ rows[1:].T, squares)

    found, expected = run(params, x, y)
    for a, b in zip(found, expected, strict=True):
        assert disagreement(a, b) <= 1e-12


@pytest.mark.fast
def test_a_table_of_many_tokens_is_read_by_few():
    """What an example's norm needs does not grow with the vocabulary."""
    layer = fn.Embedding(10**6, 2)
    ids, delta = jax.ShapeDtypeStruct((3, 4), np.int32), jax.ShapeDtypeStruct((3, 4, 2), np.float64)
    assert "1000000" not in jax.jit(layer.square_norms).lower(ids, delta).as_text()


# ------------------------------------------------------------------ Tied
@pytest.mark.fast
@pytest.mark.parametrize("positions", [(), (4,)], ids=repr)
def test_a_tied_table_has_the_sum_of_the_gradients_of_both_uses(positions):
    between = fn.Chain(fn.Dense(3, 3), fn.Tanh())
    net, apart = fn.Tied(TABLE, between), fn.Chain(TABLE, between, fn.Dense(3, 5, bias=False))
    (table, own), x, y = params_of(net), tokens(1, 5, 4, *positions), random(2, 4, *positions, 5)
    untied = table, own, {"w": np.asarray(table["e"]).T}
    value, (of_table, of_layer) = value_and_grad(net, LOSS, (table, own), x, y)
    other, (first, middle, last) = value_and_grad(apart, LOSS, untied, x, y)
    assert disagreement((value, of_layer), (other, middle)) <= 1e-13
    assert disagreement(of_table["e"], np.asarray(first["e"]) + np.asarray(last["w"]).T) <= 1e-13
    both, each = backprop(net, LOSS, (table, own), x, y), backprop(apart, LOSS, untied, x, y)
    norms, sums = jax.jit(fn.example_square_norms)(net, both), jax.jit(fn.example_square_norms)(apart, each)
    assert disagreement(norms, sums) > 1e-2  # the term between the two uses


def test_what_does_not_fit_between_the_ends_of_a_table_is_refused():
    for layer in (fn.Dense(4, 3), fn.Dense(3, 4)):
        with pytest.raises(ValueError, match=r"Tied: Embedding\(5, 3\) gives 3 features.*Make them 3"):
            fn.Tied(TABLE, layer)
    with pytest.raises(TypeError, match="Embedding"):
        fn.Tied(fn.Dense(5, 3), fn.Dense(3, 3))
    for sizes in ((0, 3), (5, 0)):
        with pytest.raises(ValueError, match="sizes must be 1 or more"):
            fn.Embedding(*sizes)


# ------------------------------------------------------------------ LearnedPositions
@pytest.mark.fast
def test_learned_positions_of_shorter_batches():
    layer = fn.LearnedPositions(5, 2)
    params, x = params_of(layer), random(1, 3, 2, 4, 2)
    y, tape = layer.forward(params, x)
    assert tape == ()
    assert (y == np.asarray(x) + np.asarray(params["e"])[:4]).all()
    short, long = random(2, 3, 2, 2, 2), random(3, 4, 4, 2)

    @jax.jit
    def run(short, long):
        each = layer.example_gradients((), short)["e"], layer.example_gradients((), long)["e"]
        sums = layer.gradient((), short)["e"], layer.square_sum((), short)["e"]
        return each, layer.inner((), short, (), long), *sums, layer.square_norms((), short)

    (of_short, of_long), products, sums, squares, norms = run(short, long)
    assert disagreement(of_short, np.pad(np.asarray(short).sum(1), ((0, 0), (0, 3), (0, 0)))) <= 1e-14
    assert disagreement(sums, np.asarray(of_short).sum(0)) <= 1e-14
    assert disagreement(squares, np.square(of_short).sum(0)) <= 1e-14
    assert disagreement(products, np.einsum("itf,jtf->ij", of_short, of_long)) <= 1e-14
    assert disagreement(norms, np.square(of_short).sum((1, 2))) <= 1e-14


def test_more_positions_than_rows_are_refused():
    layer = fn.LearnedPositions(5, 2)
    with pytest.raises(
        ValueError, match=r"takes up to 5 positions, got 6 \(shape \(3, 6, 2\)\). Cut the sequences to 5"
    ):
        fn.predict(layer, params_of(layer), np.zeros((3, 6, 2)))
    with pytest.raises(ValueError, match="with T positions, got shape"):
        fn.predict(layer, params_of(layer), np.zeros((3, 2)))
    net = fn.gpt(5, 4, 4, 2, 1)
    with pytest.raises(ValueError, match="takes up to 4 positions, got 5"):
        jax.eval_shape(lambda p: fn.predict(net, p, np.zeros((1, 5), int)), params_of(net))


# ------------------------------------------------------------------ Gated, Last
@pytest.mark.fast
def test_swiglu_is_what_it_is_by_hand():
    net = fn.Chain(fn.Dense(3, 8), fn.Gated(), fn.Dense(4, 3))
    params, x = jax.tree.map(np.asarray, params_of(net)), np.asarray(random(1, 5, 2, 3))
    a, b = np.split(x @ params[0]["w"] + params[0]["b"], 2, -1)
    expected = (a / (1 + np.exp(-a)) * b) @ params[2]["w"] + params[2]["b"]
    assert disagreement(jax.jit(fn.predict)(net, params, x), expected) <= 1e-13
    assert fn.Gated() == fn.Gated(fn.SiLU())


def test_gates_that_cannot_be_are_refused():
    for layer in (fn.Softmax(), fn.Dense(2, 2), fn.LayerNorm(2)):
        with pytest.raises(ValueError, match="expected an elementwise activation such as SiLU"):
            fn.Gated(layer)
    with pytest.raises(ValueError, match="expected an even number of features, two halves, got shape"):
        fn.predict(fn.Gated(), (), np.zeros((2, 3)))


@pytest.mark.fast
def test_the_last_position_takes_all_of_the_error():
    layer, x = fn.Last(), random(1, 2, 3, 2)
    y, tape = layer.forward((), x)
    assert (y == x[:, 2]).all()
    assert tape.size == 0
    back = np.asarray(layer.backward((), tape, y)[0])
    assert (back == np.asarray(x) * np.array([0, 0, 1])[:, None]).all()
    for shape in ((2, 3), (2, 0, 3), (2, 3, 3, 2)):
        with pytest.raises(ValueError, match="with positions, got shape"):
            layer.forward((), jnp.zeros(shape))


# ------------------------------------------------------------------ GRU, LSTM
def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def of_gru(p, x):
    """As the docstring has it, in a loop."""
    n = len(p["c"])
    h, states = np.zeros((len(x), n)), []
    for at in x.swapaxes(0, 1):
        from_x, from_h = (np.split(a, 3, -1) for a in (at @ p["w"] + p["b"], h @ p["u"]))
        r, z = sigmoid(from_x[0] + from_h[0]), sigmoid(from_x[1] + from_h[1])
        h = (1 - z) * np.tanh(from_x[2] + r * (from_h[2] + p["c"])) + z * h
        states.append(h)
    return np.stack(states, 1)


def of_lstm(p, x):
    h = c = np.zeros((len(x), len(p["u"])))
    states = []
    for at in x.swapaxes(0, 1):
        i, f, g, o = np.split(at @ p["w"] + h @ p["u"] + p["b"], 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return np.stack(states, 1)


@pytest.mark.fast
@pytest.mark.parametrize(("layer", "loop"), [(fn.GRU(3, 2), of_gru), (fn.LSTM(3, 2), of_lstm)], ids=["GRU", "LSTM"])
def test_states_are_those_of_a_plain_loop(layer, loop):
    params, x = jax.tree.map(np.asarray, params_of(layer)), np.asarray(random(1, 4, 6, 3))
    y, tape = jax.jit(layer.forward)(params, x)
    assert disagreement(y, loop(params, x)) <= 1e-13
    assert disagreement(tape[1], y) == 0
    assert disagreement(rows_of(layer, params, x[:, :2]), np.asarray(y)[:, :2]) <= 1e-14


@pytest.mark.fast
@pytest.mark.parametrize("layer", [fn.GRU(3, 2), fn.LSTM(3, 2)], ids=repr)
def test_no_positions_no_states(layer):
    params, x = params_of(layer), jnp.zeros((4, 0, 3))
    y, tape = layer.forward(params, x)
    back, deltas = layer.backward(params, tape, y)
    assert (y.shape, back.shape) == ((4, 0, 2), (4, 0, 3))
    assert not any(leaf.any() for leaf in jax.tree.leaves(layer.gradient(tape, deltas)))


@pytest.mark.fast
@pytest.mark.parametrize(("layer", "gates"), [(fn.GRU(5, 4), 3), (fn.LSTM(5, 4), 4)], ids=["GRU", "LSTM"])
def test_states_start_orthogonal_by_gate_and_remember(layer, gates):
    params = jax.tree.map(np.asarray, jax.jit(layer.init)(jax.random.key(0)))
    parts = np.split(params["u"], gates, 1)
    for u in parts:
        np.testing.assert_allclose(u @ u.T, np.eye(4), atol=1e-12)
    assert min(np.abs(a - b).max() for a in parts for b in parts if a is not b) > 0.1
    of_w = np.split(params["w"], gates, 1)
    assert 0.5 * np.sqrt(6 / 9) < min(np.abs(w).max() for w in of_w)
    assert max(np.abs(w).max() for w in of_w) <= np.sqrt(6 / 9)
    forget = [1.0] * 4 if gates == 4 else [0.0] * 4
    assert params["b"].tolist() == [0.0] * 4 + forget + [0.0] * 4 * (gates - 2)
    assert not params.get("c", np.zeros(4)).any()


@pytest.mark.fast
@pytest.mark.parametrize("kind", [fn.GRU, fn.LSTM])
def test_what_a_state_cannot_go_through_is_refused(kind):
    layer = kind(3, 2)
    params = params_of(layer)
    for shape, words in (
        ((4, 3), "with T positions, got shape"),
        ((4, 2, 5, 3), "with one axis of positions, got shape"),
        ((4, 5, 2), "3 features"),
    ):
        with pytest.raises(ValueError, match=words):
            fn.predict(layer, params, np.zeros(shape))
    with pytest.raises(ValueError, match="sizes must be 1 or more"):
        kind(0, 2)
    with pytest.raises(ValueError, match="gives 2 features, but Dense.3, 1. takes 3"):
        fn.Chain(layer, fn.Last(), fn.Dense(3, 1))


@pytest.mark.fast
@pytest.mark.parametrize("per_layer", [False, True])
def test_where_both_uses_of_a_table_nearly_cancel_a_norm_is_not_too_small(per_layer):
    """The square of a norm is a difference there, whose rounding must not let an example past the bound."""
    n, m, bound, draw = 8, 4, 0.1, np.random.default_rng(1)
    net = fn.Tied(fn.Embedding(300, n), fn.Dense(n, n, bias=False))
    turn = draw.normal(size=(n, n))
    turn = turn - turn.T + 3e-4 * np.eye(n)  # nearly antisymmetric: then the uses are opposite
    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), ({"e": draw.normal(size=(300, n))}, {"w": turn}))
    x = np.arange(m)[:, None]

    @jax.jit
    def run(params, x):
        y = fn.predict(net, params, x)
        y = y - 1e3 * jax.nn.one_hot(x, 300, dtype=y.dtype)
        bp = fn.backprop(net, fn.SquaredError(), params, x, y)
        _, squares = fn.clipped_gradient(net, bp, bound, per_layer, trainable=(True, False))
        return squares, fn.example_gradients(net, bp)[0]["e"], fn.example_square_norms(net, bp)

    squares, grads, norms = run(params, x)
    true = np.square(np.asarray(grads, np.float64)).sum((1, 2))
    found = np.asarray(squares[0]["e"] if per_layer and isinstance(squares[0], dict) else jax.tree.leaves(squares)[0])
    assert (found >= true).all()
    assert (np.asarray(norms) >= true).all()
