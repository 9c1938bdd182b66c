"""Texts packed in a row, or filled up, by segments: every number is that of each text alone, per example too."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from table import disagreement, params_of, random, tokens

import funcnet as fn
from funcnet._core.context import Context
from funcnet._core.walkers import gradient_of_leaf, layer_forward

V, LOSS = 7, fn.CrossEntropy()
SIZES = [(2, 3), (2,)]  # of the texts in each row; 0 fills the rows up to 6 positions
M, T = len(SIZES), 6


def segments():
    rows = np.zeros((len(SIZES), T), np.int32)
    for row, sizes in zip(rows, SIZES):
        row[: sum(sizes)] = np.repeat(np.arange(1, len(sizes) + 1), sizes)
    return rows


def read(layer):
    return fn.Chain(fn.Embedding(V, 4), layer, fn.Dense(layer.n_out, V))


NETS = {
    "learned positions": fn.gpt(V, 5, 4, 2, 2),
    "rotary, both ways": fn.gpt(V, 5, 4, 2, 2, rotary=True, causal=False, tied=False, norm=fn.RMSNorm),
    "a loop, made again": fn.gpt(V, 5, 4, 2, 2, repeat=True, remat=True, gated=True),
    "gru": read(fn.GRU(4, 3)),
    "lstm": read(fn.LSTM(4, 3)),
    "side by side": read(fn.Parallel(fn.LSTM(4, 3), fn.GRU(4, 2))),
}


def passed(net, params, x, y, weights, segments=None):
    """Costs and gradient of each row, error signals and norms, of costs at these positions."""
    output, tape = layer_forward(net, params, x, Context(None, segments))
    delta = LOSS.delta(output, y) * weights[..., None]
    input_delta, deltas = net.backward(params, tape, delta)
    bp = fn.Backprop((LOSS.value(output, y) * weights).sum(1), output, tape, deltas, input_delta)
    clipped, squares = fn.clipped_gradient(net, bp, 0.5)
    return (
        bp.costs,
        fn.example_gradients(net, bp),
        squares,
        clipped,
        fn.example_gram(net, bp),
        fn.gradient(net, tape, deltas),
    )


@pytest.mark.fast
@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_packed_and_filled_up_texts_are_each_alone(net):
    """The gradient of a row is the sum of its texts' own gradients, which is what each gives in a batch of one."""
    params, x, y, where = params_of(net), tokens(1, V, M, T), tokens(2, V, M, T), segments()
    costs, each, squares, clipped, gram, whole = jax.jit(passed, static_argnums=0)(
        net, params, x, y, jnp.asarray(where > 0, float), where
    )

    @jax.jit
    def alone(params):
        rows = []
        for row, sizes in enumerate(SIZES):
            starts = np.cumsum((0, *sizes))[:-1]

            def cost(params, row=row, starts=starts, sizes=sizes):
                parts = [slice(start, start + size) for start, size in zip(starts, sizes)]
                outputs = [fn.predict(net, params, x[row, part][None]) for part in parts]
                return sum(LOSS.value(out, y[row, part][None]).sum() for out, part in zip(outputs, parts))

            rows.append(jax.value_and_grad(cost)(params))
        return jnp.stack([value for value, _ in rows]), jax.tree.map(lambda *g: jnp.stack(g), *[g for _, g in rows])

    expected, grads = alone(params)
    assert disagreement(costs, expected) <= 1e-12
    assert disagreement(each, grads) <= 1e-11
    assert disagreement(whole, jax.tree.map(lambda g: g.sum(0), grads)) <= 1e-12
    columns = np.concatenate([np.asarray(g).reshape(M, -1) for g in jax.tree.leaves(grads)], 1)
    assert disagreement(squares, (columns**2).sum(1)) <= 1e-10
    assert disagreement(gram, columns @ columns.T) <= 1e-10
    shares = np.minimum(1, 0.5 / np.sqrt((columns**2).sum(1)))
    assert disagreement(clipped, jax.tree.map(lambda g: np.tensordot(shares, g, 1), grads)) <= 1e-10


@pytest.mark.fast
@pytest.mark.parametrize("layer", [fn.Last(), fn.GlobalAveragePool()], ids=repr)
def test_what_leaves_no_positions_sees_no_padding(layer):
    x, delta = random(1, 3, T, 2), random(2, 3, 2)
    sizes = [2, 6, 0]
    there = (np.arange(T)[None] < np.array(sizes)[:, None]).astype(int)

    @jax.jit
    def masked(x, delta):
        y, tape = layer.forward((), x, there)
        return y, layer.backward((), tape, delta)[0]

    y, back = map(np.asarray, masked(x, delta))
    for row, size in enumerate(sizes):
        if size:
            alone, tape = layer.forward((), x[row : row + 1, :size])
            assert disagreement(y[row], alone[0]) <= 1e-14
            assert disagreement(back[row, :size], layer.backward((), tape, delta[row : row + 1])[0][0]) <= 1e-14
        assert not back[row, size:].any()
    assert not y[2].any()
    net = fn.Chain(fn.GRU(2, 3), layer)
    report = fn.check_layer(net, params_of(net), x)
    assert report.ok, str(report)


@pytest.mark.fast
def test_a_text_longer_than_the_table_of_positions_has_no_values():
    layer = fn.LearnedPositions(3, 2)
    y, _ = jax.jit(layer.forward)(params_of(layer), jnp.zeros((1, 6, 2)), jnp.array([[1, 1, 2, 2, 2, 2]]))
    assert np.isnan(np.asarray(y)).all(-1).tolist() == [[False] * 5 + [True]]
    assert gradient_of_leaf(layer, (), jnp.ones((1, 2, 2)))["e"].tolist() == [[1, 1], [1, 1], [0, 0]]


@pytest.mark.fast
@pytest.mark.parametrize(
    "layer", [fn.GRU(2, 3), fn.LSTM(2, 3), fn.Attention(2, 1), fn.Attention(2, 1, causal=False)], ids=repr
)
def test_padding_has_no_output_and_sends_no_error_back(layer):
    where, n_in = segments(), layer.n_in
    params, x, delta = params_of(layer), random(1, M, T, n_in), random(2, M, T, layer.n_out)

    @jax.jit
    def run(params, x, delta):
        y, tape = layer.forward(params, x, where)
        return y, layer.backward(params, tape, delta)[0]

    y, back = map(np.asarray, run(params, x, delta))
    silent = run(params, x, jnp.where((where > 0)[..., None], delta, 0))[1]
    assert not y[where == 0].any()
    assert not back[where == 0].any()
    assert y[where > 0].all()
    assert disagreement(back, silent) == 0


@pytest.mark.fast
def test_rows_of_a_table_of_positions_by_segments():
    """Also where an error signal reaches padding, which takes no row."""
    layer, where = fn.LearnedPositions(6, 2), segments()
    params, x, delta = params_of(layer), random(1, M, T, 2), random(2, M, T, 2)

    @jax.jit
    def run(params, x):
        (_, back), (_, tape) = (
            jax.vjp(lambda p, x: layer.forward(p, x, where)[0], params, x),
            layer.forward(params, x, where),
        )
        each = jax.vmap(
            lambda x, at, d: jax.vjp(lambda p: layer.forward(p, x[None], at[None])[0], params)[1](d[None])[0]
        )
        own = each(x, where, delta)["e"]
        found = (
            layer.gradient(tape, delta)["e"],
            layer.square_norms(tape, delta),
            layer.backward(params, tape, delta)[0],
        )
        grads, input_delta = back(delta)
        return found, (grads["e"], (own * own).sum((1, 2)), input_delta)

    assert disagreement(*run(params, x)) <= 1e-12


# ------------------------------------------------------------------ from the front
WEIGHTS = (segments() > 0).astype(float)


@pytest.mark.fast
@pytest.mark.parametrize("name", ["learned positions", "a loop, made again", "gru"])
def test_a_pair_of_x_and_segments_says_so_everywhere(name):
    net = NETS[name]
    params, x, y, where = params_of(net), tokens(1, V, M, T), tokens(2, V, M, T), segments()

    @jax.jit
    def front(params):
        pair = x, where
        bp = fn.backprop(net, LOSS, params, pair, y, weights=WEIGHTS)
        norms = fn.example_square_norms(net, bp)
        value, grads = fn.value_and_grad(net, LOSS, params, pair, y, weights=WEIGHTS, reduction="sum")
        return bp.costs, norms, fn.gradient(net, bp.tape, bp.deltas), grads, value, fn.predict(net, params, pair)

    costs, norms, sums, grads, value, output = front(params)
    expected = jax.jit(passed, static_argnums=0)(net, params, x, y, WEIGHTS, where)
    assert disagreement((costs, norms, sums, grads), (expected[0], expected[2], expected[5], expected[5])) <= 1e-12
    assert disagreement(value, expected[0].sum()) <= 1e-14
    by_cost = jax.jit(jax.grad(lambda p: fn.cost(net, LOSS, p, (x, where), y, weights=WEIGHTS, reduction="sum")))(
        params
    )
    assert disagreement(grads, by_cost) <= 1e-12
    assert output.shape == (M, T, V)


@pytest.mark.fast
def test_an_example_of_weight_0_is_replaced_with_its_segments():
    net = NETS["gru"]
    params, x, y, where = params_of(net), np.array(tokens(1, V, M, T)), tokens(2, V, M, T), segments()
    weights = WEIGHTS * np.array([[1.0], [0.0]])
    bp = jax.jit(fn.backprop)(net, LOSS, params, (x, where), y, weights=weights)
    assert disagreement(bp.output[1], bp.output[0]) == 0


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, marks=pytest.mark.fast),
        {"privacy": fn.Privacy(0.5, 1e-12)},
        {"telemetry": 1},
    ],
    ids=str,
)
def test_a_training_on_packed_texts(options):
    net, optimizer = NETS["gru"], optax.sgd(0.1)
    params, x, y, where = params_of(net), tokens(1, V, M, T), tokens(2, V, M, T), segments()
    state = fn.train_state(optimizer, params, jax.random.key(0))
    with jax.numpy_dtype_promotion("standard"):
        data = {"weights": WEIGHTS, "validation": ((x, where), y, WEIGHTS), "metrics": [fn.Perplexity()]}
        state, history = fn.fit(net, LOSS, optimizer, state, ((x, where), y), epochs=1, batch_size=M, **data, **options)
    value, grads = jax.jit(fn.value_and_grad)(net, LOSS, params, (x, where), y, weights=WEIGHTS)
    if "privacy" in options:
        bp = jax.jit(fn.backprop)(net, LOSS, params, (x, where), y, weights=WEIGHTS)
        clipped, _ = jax.jit(fn.clipped_gradient, static_argnums=0)(net, bp, 0.5)
        grads = jax.tree.map(lambda g: g / M, clipped)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
    assert disagreement(state.params, expected) <= (
        2e-2 if "compute_dtype" in options else 1e-10 if "privacy" in options else 1e-12
    )
    row = fn.evaluate(net, LOSS, state.params, ((x, where), y), weights=WEIGHTS, metrics=[fn.Perplexity()])
    assert abs(row["cost"] - history["validation_cost"][-1]) <= 1e-12
    assert abs(row["perplexity"] - np.exp(row["cost"])) <= 1e-9
    if not options:
        assert abs(history["cost"][0] - value) <= 1e-12


@pytest.mark.fast
def test_gradients_are_checked_with_segments():
    net = fn.Chain(fn.GRU(2, 6), fn.Attention(2, 1))
    x, y, where = random(1, M, T, 2), random(2, M, T, 2), segments()
    loss, params = fn.SquaredError(), params_of(net)
    report = fn.check_gradients(net, loss, params, (x, where), y, entries=10)
    assert report.ok, str(report)
    cost = jax.grad(lambda x: fn.cost(net, loss, params, (x, where), y))(x)
    assert report.rows[-1].automatic == pytest.approx(float(cost[report.rows[-1].index]), rel=1e-9)


def test_what_takes_no_segments_says_so():
    net = NETS["gru"]
    params, pair, y = params_of(net), (np.asarray(tokens(1, V, M, T)), segments()), tokens(2, V, M, T)
    with pytest.raises(TypeError, match="segment_ids are taken by predict"):
        fn.diagnose(net, LOSS, params, pair, y)
    for wrong, got in (
        (pair[1][:, 1:], r"shape \(2, 5\) of int32"),
        (pair[1][..., None], "int32"),
        (pair[1].astype(float), "float64"),
    ):
        with pytest.raises(
            ValueError, match=rf"segment_ids: expected integers \(m, T\).*got .*{got}.* beside x of shape \(2, 6\)"
        ):
            fn.predict(net, params, (pair[0], wrong))
    assert (fn.predict(net, params, (pair[0], pair[1].tolist())) == fn.predict(net, params, pair)).all()
    x = random(1, M, T, 2)
    with pytest.raises(
        ValueError, match=r"segment_ids: expected integers.*got .*float64.* beside x of shape \(2, 6, 2\)"
    ):
        fn.predict(fn.GRU(2, 3), params_of(fn.GRU(2, 3)), (x, np.ones((M, T))))
    state = fn.train_state(optax.sgd(0.1), params, jax.random.key(0))
    x = np.asarray(pair[0]).view(np.memmap)  # as of a file
    with pytest.raises(TypeError, match="data that stay on the host take no segment_ids"):
        fn.fit(net, LOSS, optax.sgd(0.1), state, ((x, pair[1]), y), epochs=1, batch_size=M)
    with pytest.raises(ValueError, match="validation: has segment_ids, and data has none"):
        fn.fit(net, LOSS, optax.sgd(0.1), state, (pair[0], y), epochs=1, batch_size=M, validation=(pair, y))
    assert fn.predict(fn.Dense(2, 1), params_of(fn.Dense(2, 1)), (np.ones(2), np.ones(2))).shape == (2, 1)
