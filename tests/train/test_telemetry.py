"""Telemetry: every number against plain NumPy, and a training that does not notice that it is looked at."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from table import ACTIVATIONS, backprop, disagreement, params_of, random, same_bits

import funcnet as fn
from funcnet.train import host_data
from funcnet.train.options import Options
from funcnet.train.order import order_of

SE, ADAM = fn.SquaredError(), optax.adam(1e-2)
NET = fn.Chain(fn.Dense(3, 5), fn.Sigmoid(), fn.Dropout(0.3), fn.Dense(5, 2))
M, BATCH, STEPS = 26, 4, 7  # the last batch holds two
X, Y = 3 * random(1, M, 3), random(2, M, 2)
PRIVATE = fn.Privacy(0.5, 0.7)


@pytest.fixture(autouse=True)
def _as_optax_wants_it():
    with jax.numpy_dtype_promotion("standard"):
        yield


def rms(*arrays):
    flat = np.concatenate([np.ravel(np.asarray(a, np.float64)) for a in arrays])
    return np.sqrt(np.mean(flat**2))


@jax.jit
def value_and_slope(activation, z):
    """By JAX, one number at a time."""

    def one(number):
        return activation.forward((), number[None])[0][0]

    value, slope = jax.vmap(jax.value_and_grad(one))(z.ravel())
    return value.reshape(z.shape), slope.reshape(z.shape)


@jax.jit
def flow_of(net, params, x, y, key=None):
    bp = fn.backprop(net, SE, params, x, y, key=key)
    return fn.gradient_flow(net, bp, params), bp, fn.gradient(net, bp.tape, bp.deltas)


ELEMENTWISE = list({type(layer): layer for layer in ACTIVATIONS if getattr(layer, "elementwise", False)}.values())


@pytest.mark.fast
@pytest.mark.parametrize("activation", ELEMENTWISE, ids=repr)
def test_a_chain_with_every_activation_is_that_of_numpy(activation):
    """Two layers with positions; one unit far below, one far above, where some activations are flat."""
    net = fn.Chain(fn.Dense(3, 4), activation, fn.Dense(4, 2))
    params = params_of(net)
    params = ({**params[0], "b": jnp.asarray([-50.0, 50.0, 3.5, -2.0])}, *params[1:])
    x, y = random(1, 5, 2, 3), random(2, 5, 2, 2)
    flow, *_ = flow_of(net, params, x, y)
    params, x, y = jax.tree.map(np.asarray, (params, x, y))
    z = x @ params[0]["w"] + params[0]["b"]
    hidden, slopes = map(np.asarray, value_and_slope(activation, z))
    above = hidden @ params[2]["w"] + params[2]["b"] - y
    below = (above @ params[2]["w"].T) * slopes
    for number, (own, came, delta) in enumerate(((params[0], x, below), (params[2], hidden, above)), 1):
        grads = np.einsum("mti,mtj->ij", came, delta) / 5, np.sum(delta, (0, 1)) / 5
        weight = rms(own["w"], own["b"])
        expected = {"a": rms(came), "delta": rms(delta), "gradient": rms(*grads), "weight": weight}
        expected["gradient_to_weight"] = expected["gradient"] / weight
        found = flow[f"layer {number}"]
        assert set(found) == {*expected, "dead", "saturated"}
        for name, value in expected.items():
            assert np.isclose(found[name], value, rtol=1e-10), (number, name)
    dead = np.mean((np.abs(slopes) < 1e-3).all((0, 1)))
    assert float(flow["layer 1"]["dead"]) == dead
    steepest = {fn.Sigmoid(): 0.25, fn.Tanh(): 1.0}.get(activation)
    flat = float(flow["layer 1"]["saturated"])
    assert np.isnan(flat) if steepest is None else flat == np.mean(slopes < 0.05 * steepest) > 0.4
    assert np.isnan(flow["layer 2"]["dead"])
    if activation == fn.ReLU():
        assert 0.25 <= dead < 1
    if activation in (fn.Sigmoid(), fn.Tanh()):
        assert dead == 0.5


@pytest.mark.fast
def test_residual_layer_norm_dropout_and_what_follows_what():
    branch = fn.Residual(fn.Chain(fn.Dense(4, 4), fn.ReLU()))
    net = fn.Chain(fn.Dense(3, 4), fn.Dropout(0.5), branch, fn.LayerNorm(4), fn.Tanh(), fn.ReLU(), fn.Dense(4, 2))
    params = params_of(net)
    dead = {**params[2][0], "b": jnp.asarray([-90.0, 0, -90.0, 0])}
    params = (*params[:2], (dead, ()), *params[3:])
    x, y = random(1, 6, 3), random(2, 6, 2)
    flow, bp, grads = flow_of(net, params, x, y, jax.random.key(4))
    assert list(flow) == ["layer 1", "layer 2", "layer 3", "layer 4"]
    parts = [(0,), (2, 0), (3,), (6,)]
    for found, path in zip(flow.values(), parts):
        own = [params, grads, bp.tape, bp.deltas]
        for number in path:
            own = [tree[number] for tree in own]
        values = [rms(*jax.tree.leaves(tree)) for tree in own]
        for name, value in zip(("weight", "gradient", "a", "delta"), values):
            assert np.isclose(found[name], value / (6 if name == "gradient" else 1), rtol=1e-10), (path, name)
    assert np.isnan(flow["layer 1"]["dead"])  # dropout is no activation
    z = np.asarray(bp.tape[2][0]) @ np.asarray(dead["w"]) + np.asarray(dead["b"])
    assert float(flow["layer 2"]["dead"]) == np.mean((z <= 0).all(0)) == 0.5
    assert 0 <= float(flow["layer 3"]["saturated"]) < 1  # of tanh, which comes first, and not of the ReLU behind
    assert float(flow["layer 3"]["dead"]) == 0


def fit(telemetry, epochs=2, x=X, state=None, net=NET, **options):
    state = state or fn.train_state(ADAM, params_of(net), jax.random.key(0))
    options = {"batch_size": BATCH} | options
    return fn.fit(net, SE, ADAM, state, (x, Y), epochs=epochs, telemetry=telemetry, **options)


@jax.jit
def sizes(params, moved, x, y, keys, grads):
    bp = fn.backprop(NET, SE, params, x, y, key=keys)
    grads = fn.value_and_grad(NET, SE, params, x, y, key=keys)[1] if grads is None else grads
    return (
        fn.gradient_flow(NET, bp, params),
        grads,
        jnp.sqrt(fn.example_square_norms(NET, bp)),
        fn.noise_scale(NET, bp),
    )


def looked_at_by_hand(epochs=2):
    """Every update, from a loop over batches that hold nothing but their examples."""
    state = fn.train_state(ADAM, params_of(NET), jax.random.key(0))
    params, opt_state, key = state.params, state.opt_state, state.key
    update, rows_of_all = jax.jit(ADAM.update), []
    for _ in range(epochs):
        order = jax.jit(order_of, static_argnums=(1, 2))(key, M, Options(NET, SE, ADAM, BATCH))
        for rows, counted in zip(order.rows, order.counted):
            rows = rows[counted]
            keys = jax.vmap(lambda row, draw=order.draw_key: jax.random.fold_in(draw, row))(rows)
            flow, grads, norms, scale = sizes(params, None, X[rows], Y[rows], keys, None)
            updates, opt_state = update(grads, opt_state, params)
            row = {f"{name}: {what}": value for name, own in flow.items() for what, value in own.items()}
            for number, name in ((0, "layer 1"), (3, "layer 2")):
                ratio = rms(*updates[number].values()) / rms(*params[number].values())
                row[f"{name}: update_to_weight"] = ratio
            row |= {f"gradient_norm {q}%": np.quantile(norms, q / 100) for q in (10, 50, 90)}
            rows_of_all.append(row | {"noise_scale": scale})
            params = optax.apply_updates(params, updates)
        key = order.next_key
    return rows_of_all


@pytest.fixture(scope="module")
def every_update():
    with jax.numpy_dtype_promotion("standard"):
        return looked_at_by_hand()


@pytest.fixture(scope="module")
def looked():
    """A fit that was looked at in every third step."""
    with jax.numpy_dtype_promotion("standard"):
        return fit(3)


@pytest.mark.fast
@pytest.mark.parametrize("every", [1, 3])
def test_fit_records_what_a_loop_by_hand_sees(every, every_update):
    _, history = fit(every)
    steps = [step for epoch in (0, 7) for step in range(epoch, epoch + STEPS // every * every, every)]
    assert history.seen("step").tolist() == [step + 1 for step in steps]
    assert set(history.telemetry) == {"step", *every_update[0]}
    for name in every_update[0]:
        expected = [every_update[step][name] for step in steps]
        assert np.allclose(history.seen(name), expected, rtol=1e-9, atol=1e-12, equal_nan=True), name


def assert_same_sight(history, record, rtol=0.0):
    assert set(history.telemetry) == set(record.telemetry)
    for name in record.telemetry:
        found, expected = history.seen(name), record.seen(name)
        if rtol:
            assert np.allclose(found, expected, rtol=rtol, atol=1e-12, equal_nan=True), name
        else:
            assert same_bits(found, expected), name


@pytest.mark.fast
def test_looking_changes_nothing_of_the_training(looked):
    state, history = looked
    plain, record = fit(0)
    assert disagreement(state[:3], plain[:3]) <= 1e-14  # to the bit, but in JAX 0.12
    assert np.allclose(history["cost"], record["cost"], rtol=1e-14, atol=0)  # summed in another order by old XLA
    assert record.telemetry == {}


@pytest.mark.fast
def test_from_the_host_piece_by_piece_it_is_the_same(looked, monkeypatch):
    monkeypatch.setattr(host_data, "PIECE_BYTES", 2 * BATCH * 5 * 8)  # two batches, made three by telemetry
    state, history = fit(3, x=np.array(X).view(np.memmap))
    assert disagreement(state.params, looked[0].params) <= 1e-14
    assert_same_sight(history, looked[1], rtol=1e-12)


def test_inside_jit_and_side_by_side_it_is_the_same(looked):
    start = fn.train_state(ADAM, params_of(NET), jax.random.key(0))
    _, traced = jax.eval_shape(lambda state: fit(3, state=state), start)
    assert jax.tree.map(jnp.shape, traced.telemetry) == jax.tree.map(jnp.shape, looked[1].telemetry)
    many = fn.fit_many(NET, SE, ADAM, (X, Y), seeds=(0, 4), epochs=2, batch_size=BATCH, telemetry=3, penalty=fn.L2(0.0))
    weights, order = jax.random.split(jax.random.key(4))
    _, alone = fit(3, state=fn.train_state(ADAM, fn.init(NET, weights), order))
    assert_same_sight(many[1][1], alone, rtol=1e-9)


def test_taken_up_again_it_has_seen_the_same(looked, tmp_path):
    checkpoint = fn.Checkpoint(tmp_path / "run", seconds=0)
    fit(3, checkpoint=checkpoint)
    shutil.rmtree(tmp_path / "run" / "epoch_00000002")
    assert (tmp_path / "run" / "epoch_00000001").exists()
    _, history = fit(3, checkpoint=checkpoint)
    assert_same_sight(history, looked[1])


@pytest.mark.fast
def test_a_private_training_is_looked_at_without_what_fills_up():
    _, history = fit(1, epochs=1, privacy=PRIVATE)
    state = fn.train_state(ADAM, params_of(NET), jax.random.key(0))
    order = jax.jit(order_of, static_argnums=(1, 2))(state.key, M, Options(NET, SE, ADAM, BATCH, privacy=PRIVATE))
    rows = np.asarray(order.rows)[0][np.asarray(order.counted)[0]]
    assert 1 < len(rows) < M
    rows = np.asarray(rows)

    @jax.jit
    def by_hand(params, x, y, rows, draw_key):
        keys = jax.vmap(lambda row: jax.random.fold_in(draw_key, row))(rows)
        bp = fn.backprop(NET, SE, params, x, y, key=keys)
        options = {"max_norm": 0.5, "noise_multiplier": 0.7, "expected_batch_size": BATCH}
        grads = fn.private_gradient(NET, bp, jax.random.fold_in(draw_key, jnp.uint32(2**31)), **options)
        norms = jnp.sqrt(fn.example_square_norms(NET, bp))
        return fn.gradient_flow(NET, bp, params), norms, fn.noise_scale(NET, bp), grads

    x, y = np.asarray(X)[rows], np.asarray(Y)[rows]
    flow, norms, scale, grads = by_hand(state.params, x, y, rows, order.draw_key)
    for name in ("a", "delta", "weight", "dead", "saturated"):
        assert np.isclose(history.seen(f"layer 1: {name}")[0], flow["layer 1"][name], rtol=1e-10), name
    assert np.isclose(history.seen("noise_scale")[0], scale, rtol=1e-9)
    assert np.isclose(history.seen("gradient_norm 50%")[0], np.median(norms), rtol=1e-10)
    assert np.isclose(history.seen("layer 2: gradient")[0], rms(*grads[3].values()), rtol=1e-10)


def test_bfloat16_and_early_stopping_may_be_looked_at():
    stopping = fn.EarlyStopping("cost", patience=1, min_change=1e9)
    _, history = fit(3, epochs=5, compute_dtype="bfloat16", early_stopping=stopping)
    assert int(history.epochs) == 2
    assert history.seen("step").tolist() == [1, 4, 8, 11]
    assert np.isfinite(history.seen("layer 1: delta")).all()


@fn.spec
class Centre:
    """y = x − the batch's mean."""

    mixes_examples = True

    def init(self, key):
        return ()

    def forward(self, params, x, key=None):
        return x - x.mean(0, keepdims=True), ()

    def backward(self, params, tape, delta):
        return delta - delta.mean(0, keepdims=True), ()

    def gradient(self, tape, deltas):
        return ()


@pytest.mark.parametrize("every", [-1, 8, 2.5])
def test_how_often_must_fit_an_epoch(every):
    with pytest.raises(ValueError, match=f"telemetry: expected 0 to 7, the updates in an epoch, got {every}"):
        fit(every)


def test_a_layer_that_mixes_examples_is_named():
    with pytest.raises(ValueError, match=r"Centre\(\) mixes examples"):
        fit(3, net=fn.Chain(fn.Dense(3, 2), Centre()))


def test_unknown_names_are_answered_with_those_there_are(looked):
    with pytest.raises(KeyError, match=r"no telemetry 'delta'; there is step, .*layer 1: delta"):
        looked[1].seen("delta")
    with pytest.raises(KeyError, match="none: ask fit for it by telemetry=10"):
        fit(0)[1].seen("noise_scale")


def test_a_backprop_of_another_network_is_refused():
    bp = backprop(NET, SE, params_of(NET), X, Y, key=jax.random.key(0))
    other = fn.mlp((3, 4, 2))
    with pytest.raises(ValueError, match="another network"):
        fn.gradient_flow(other, bp, params_of(other))
    with pytest.raises(TypeError, match="expected a Backprop"):
        fn.gradient_flow(NET, (1, 2), params_of(NET))
