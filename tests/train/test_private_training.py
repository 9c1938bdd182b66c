"""Private training: the loop written out, who is in a batch, what fills it up, ε, and what is refused."""

import os
import shutil
import sys

import dp_accounting as dp
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from dp_accounting import rdp
from scipy import stats
from table import Scale, backprop, disagreement, params_of, predict, random, same_bits

import funcnet as fn
from funcnet.train import host_data
from funcnet.train import order as orders
from funcnet.train.options import Data, Options
from funcnet.train.order import order_of
from funcnet.train.privacy_account import capacity
from funcnet.train.update import Batch, update

NET = fn.Chain(fn.Dense(3, 4), fn.Tanh(), fn.Dropout(0.3), fn.Dense(4, 2))
LOSS, ADAM = fn.SquaredError(), optax.adam(1e-2)
M, BATCH = 29, 6
X, Y = random(1, M, 3), random(2, M, 2)
WEIGHTS = jnp.asarray(np.random.default_rng(3).uniform(0.5, 2, M))
HELD = random(4, 6, 3), random(5, 6, 2)
PRIVATE = fn.Privacy(0.5, 0.7)


@pytest.fixture(autouse=True)
def _as_optax_wants_it():
    with jax.numpy_dtype_promotion("standard"):
        yield


def start(optimizer=ADAM, net=NET):
    return fn.train_state(optimizer, params_of(net), jax.random.key(0))


def fit(privacy=PRIVATE, epochs=3, optimizer=ADAM, x=X, state=None, net=NET, **options):
    options = {"epochs": epochs, "batch_size": BATCH, "privacy": privacy} | options
    return fn.fit(net, LOSS, optimizer, state or start(optimizer, net), (x, Y), **options)


@jax.jit
def traced(state):
    return fit(state=state)


def assert_same_bits(found, expected):
    (state, history), (other, record) = found, expected
    for a, b in zip(jax.tree.leaves(state[:3]), jax.tree.leaves(other[:3]), strict=True):
        assert same_bits(a, b)
    assert (jax.random.key_data(state.key) == jax.random.key_data(other.key)).all()
    for name in record.names:
        assert same_bits(history[name], record[name]), name


@jax.jit
def step_by_hand(carry, privacy_numbers, weights, rows, counted, draw_key, number):
    params, opt_state = carry
    max_norm, sigma = privacy_numbers
    keys = jax.vmap(lambda row: jax.random.fold_in(draw_key, row))(rows)
    weights = weights[rows] * counted.astype(weights.dtype)
    bp = fn.backprop(NET, LOSS, params, X[rows], Y[rows], weights=weights, key=keys)
    noise_key = jax.random.fold_in(draw_key, jnp.uint32(2**31) + number)
    grads = fn.private_gradient(
        NET, bp, noise_key, max_norm=max_norm, noise_multiplier=sigma, expected_batch_size=BATCH
    )
    grads = jax.tree.map(jnp.add, grads, fn.L2(0.01).gradient(params))
    updates, opt_state = ADAM.update(grads, opt_state, params)
    return (optax.apply_updates(params, updates), opt_state), bp.costs.sum()


@pytest.mark.fast
def test_it_is_the_loop_written_out():
    state = start()
    carry, key, costs = (state.params, state.opt_state), state.key, []
    options = Options(NET, LOSS, ADAM, BATCH, privacy=PRIVATE)
    for _ in range(3):
        order = jax.jit(order_of, static_argnums=(1, 2))(key, M, options)
        assert order.rows.shape == order.counted.shape == (5, M)
        total = mass = 0.0
        for number, (rows, counted) in enumerate(zip(np.asarray(order.rows), np.asarray(order.counted))):
            penalty = 0.01 * sum((np.asarray(layer["w"]) ** 2).sum() for layer in carry[0] if layer)
            own = np.asarray(WEIGHTS)[rows[counted]].sum()
            carry, cost = step_by_hand(carry, (0.5, 0.7), WEIGHTS, rows, counted, order.draw_key, np.uint32(number))
            total, mass = total + float(cost) + penalty * own, mass + own
        costs.append(total / mass)
        key = order.next_key
    found, history = fit(penalty=fn.L2(0.01), weights=WEIGHTS)
    assert disagreement((found.params, found.opt_state[0].nu), (carry[0], carry[1][0].nu)) <= 1e-12
    assert int(found.step) == 15
    assert np.allclose(history["cost"], np.array(costs), rtol=1e-12, atol=0)


one_update = jax.jit(update)


def updated(x, rows, counted=None, privacy=PRIVATE, step=0, accumulate=1, draw_key=None):
    """The parameters after one update, and the gradient it was made from."""
    rows, state = jnp.asarray(rows), start()
    counted = np.ones(len(rows), bool) if counted is None else counted
    batch = Batch(Data(x[rows], Y[rows], None), rows, counted, jnp.asarray(step))
    options = Options(NET, LOSS, ADAM, BATCH, accumulate, privacy=privacy)
    key = jax.random.key(8) if draw_key is None else draw_key
    (params, _), outcome = one_update(options, key, (state.params, state.opt_state), batch)
    return params, outcome


@pytest.mark.fast
@pytest.mark.parametrize("accumulate", [1, 2])
def test_rows_that_fill_up_contribute_exactly_nothing(accumulate):
    rows, counted = [3, 7, 8, 20, 0, 0, 0, 0], jnp.arange(8) < 4
    expected = updated(X, rows, counted, accumulate=accumulate)
    for value in (1e300, np.inf, np.nan):
        found = updated(X.at[0].set(value), rows, counted, accumulate=accumulate)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert same_bits(a, b)
    alone = updated(X, rows[:4])  # the batch itself, in one part
    assert disagreement(expected, alone) <= 1e-12
    assert float(expected[1].mass) == 4


@pytest.mark.fast
def test_parts_of_a_batch_are_the_whole():
    """With a bound for each layer; without, it is the test above."""
    rows, per_layer = list(range(3, 11)), fn.Privacy(0.5, 0.7, per_layer=True)
    whole = updated(X, rows, privacy=per_layer)
    assert disagreement(updated(X, rows, privacy=per_layer, accumulate=2), whole) <= 1e-12
    assert disagreement(updated(X, rows)[0], whole[0]) > 1e-6


def test_an_empty_batch_is_noise_alone():
    params, outcome = updated(X, [0, 0, 0, 0], jnp.zeros(4, bool))
    assert float(outcome.value) == float(outcome.mass) == 0
    noise, _ = updated(X * 0, [1, 2, 3, 4], jnp.zeros(4, bool))
    assert disagreement(params, noise) == 0
    assert all(g.all() for g in jax.tree.leaves(outcome.grads))


@pytest.mark.fast
def test_noise_is_fresh_at_every_step_and_never_an_examples_key():
    rows, nobody = [0, 0, 0, 0], jnp.zeros(4, bool)
    noises = [updated(X, rows, nobody, step=step)[1].grads for step in (0, 1, 4)]
    noises.append(updated(X, rows, nobody, draw_key=jax.random.key(9))[1].grads)
    drawn = np.stack([np.concatenate([np.ravel(g) for g in jax.tree.leaves(noise)]) for noise in noises])
    assert len(np.unique(drawn)) == drawn.size
    assert np.abs(np.corrcoef(drawn) - np.eye(4)).max() < 0.7
    numbers = np.concatenate([np.arange(200), 2**31 + np.arange(200)]).astype(np.uint32)  # of rows, and of steps
    keys = jax.vmap(lambda number: jax.random.fold_in(jax.random.key(8), number))(numbers)
    assert len(np.unique(jax.random.key_data(keys), axis=0)) == 400


@pytest.mark.fast
def test_every_example_is_in_every_batch_with_probability_q_independently():
    m, batch_size, number = 40, 8, 4000
    options = Options(NET, LOSS, ADAM, batch_size, privacy=PRIVATE)
    keys = jax.random.split(jax.random.key(3), number)
    found = jax.jit(jax.vmap(lambda key: order_of(key, m, options)[:2]))(keys)
    rows, counted = map(np.asarray, found)
    assert rows.shape == (number, 5, 40)
    assert (counted == (np.arange(40) < counted.sum(-1, keepdims=True))).all()
    assert (rows[~counted] == 0).all()
    chosen = np.zeros((number, 5, m + 1), bool)
    np.put_along_axis(chosen, np.where(counted, rows, m), True, -1)
    chosen = chosen[..., :m]
    assert (chosen.sum(-1) == counted.sum(-1)).all()  # none twice
    q, spread = 0.2, np.sqrt(0.2 * 0.8)
    z = (chosen.mean((0, 1)) - q) / (spread / np.sqrt(5 * number))
    assert np.abs(z).max() < 4.5
    assert 1e-4 < stats.chi2.sf((z**2).sum(), m) < 1 - 1e-4
    sizes = np.bincount(counted.sum(-1).ravel(), minlength=m + 1)
    expected = stats.binom.pmf(np.arange(m + 1), m, q) * 5 * number
    many = expected > 10
    assert stats.chi2.sf(((sizes - expected)[many] ** 2 / expected[many]).sum(), many.sum()) > 1e-4
    centred = (chosen - q).reshape(number, -1) / spread  # steps and rows, all pairs of them
    together = (centred.T @ centred / number - np.eye(5 * m)) * np.sqrt(number)
    assert np.abs(together[~np.eye(5 * m, dtype=bool)]).max() < 6


def drawn(key, m, options):
    """The rows of an epoch's batches and which of them count, traced anew in every call."""
    return map(np.asarray, jax.jit(lambda key: order_of(key, m, options)[:2])(key))


@pytest.mark.fast
def test_the_probability_is_never_above_the_accounts(monkeypatch):
    edge = 2**32 // 3
    bits = np.array([edge, edge - 1, 2**32 - 1], np.uint32)
    monkeypatch.setattr(jax.random, "bits", lambda *_: jnp.asarray(bits))
    rows, counted = drawn(jax.random.key(0), 3, Options(NET, LOSS, ADAM, 1, privacy=PRIVATE))
    assert np.asarray(rows[counted]).tolist() == [1, 1, 1]
    rows, counted = drawn(jax.random.key(0), 3, Options(NET, LOSS, ADAM, 3, privacy=PRIVATE))
    assert np.asarray(rows[counted]).tolist() == [0, 1, 2]


@pytest.mark.fast
@pytest.mark.parametrize("parts", [1, 4])
def test_a_batch_has_room_for_more_than_the_exact_tail(parts):
    for m in (1, 2, 29, 100, 1000, 60_000, 10**6, 10**9):
        for batch_size in (b for b in (1, 2, 8, 64, 256, 4096, 60_000) if b <= m):
            room = capacity(m, batch_size, parts)
            assert room % parts == 0
            assert room <= min(m, batch_size + 7.5 * np.sqrt(batch_size) + 20) + parts
            # Room that all others of the data may fill: whether they do is nobody's secret.
            assert room >= m or stats.binom.sf(room - 1, m, batch_size / m) <= 1e-12, (m, batch_size)


def test_what_does_not_fit_is_left_out(monkeypatch):
    options = Options(NET, LOSS, ADAM, BATCH, privacy=PRIVATE)
    rows, counted = drawn(jax.random.key(5), M, options)
    with monkeypatch.context() as patched:
        patched.setattr(orders, "capacity", lambda *_: 3)
        fewer, some = drawn(jax.random.key(5), M, options)
        found, history = fit(fn.Privacy(0.5, 0.7001))  # a method of its own: what is compiled here is used nowhere else
    assert fewer.shape == (5, 3)
    assert (counted.sum(1) > 3).any()
    assert (fewer == rows[:, :3]).all()
    assert (some == counted[:, :3]).all()
    assert np.isfinite(history["cost"]).all()
    assert history.stopped == ""
    assert disagreement(found.params, fit()[0].params) > 1e-6


def accounted(steps, q, sigma, delta):
    account = rdp.RdpAccountant()
    account.compose(dp.PoissonSampledDpEvent(q, dp.GaussianDpEvent(sigma)), steps)
    return account.get_epsilon(0.99 * delta)


@pytest.mark.fast
def test_epsilon_is_the_accountants(monkeypatch):
    expected = [accounted(5 * epochs, BATCH / M, 0.7, 1e-5) for epochs in (1, 2, 3)]
    _, history = fit()
    assert history.names == ("cost", "epsilon")
    assert np.allclose(history["epsilon"], expected, rtol=1e-12, atol=0)
    assert f"{expected[2]:.5g}" in repr(history)
    assert np.allclose(traced(start())[1]["epsilon"], expected, rtol=1e-12, atol=0)
    found = fn.Privacy(9.0, 0.7, delta=1e-3).epsilons(M, BATCH, 2)
    assert np.allclose(found[1], accounted(10, BATCH / M, 0.7, 1e-3), rtol=1e-12, atol=0)
    assert len(PRIVATE.epsilons(M, BATCH, 0)) == 0


def test_many_private_trainings_are_each_one_alone():
    many = fn.fit_many(NET, LOSS, ADAM, (X, Y), seeds=(0, 4), epochs=3, batch_size=BATCH, privacy=PRIVATE)
    weights, order = jax.random.split(jax.random.key(4))
    alone, history = fit(state=fn.train_state(ADAM, fn.init(NET, weights), order))
    state, record = many[1]
    assert disagreement(state.params, alone.params) <= 1e-9
    assert np.allclose(record["cost"], history["cost"], rtol=1e-9, atol=0)
    assert (record["epsilon"] == history["epsilon"]).all()


@pytest.mark.fast
@pytest.mark.parametrize("wanted", [0.5, 8.0])
def test_the_noise_for_an_epsilon(wanted):
    case = {"examples": 1000, "batch_size": 32, "epochs": 4}
    sigma = fn.noise_multiplier(wanted, delta=1e-5, **case)
    reached = fn.Privacy(1.0, sigma).epsilons(**case)[-1]
    assert wanted * (1 - 1e-3) < reached <= wanted * (1 + 1e-6)


def test_inside_jit_it_is_the_same_training():
    assert disagreement(traced(start())[0].params, fit()[0].params) <= 1e-12


@pytest.mark.fast
def test_data_on_the_host_give_the_same_bits(monkeypatch):
    monkeypatch.setattr(host_data, "PIECE_BYTES", 1)  # a batch at a time, so that all pieces have one shape
    assert_same_bits(fit(x=np.array(X).view(np.memmap)), fit())


def test_taken_up_again_it_ends_with_the_same_bits(tmp_path):
    checkpoint = fn.Checkpoint(tmp_path / "run", seconds=0)
    fit(checkpoint=checkpoint)
    shutil.rmtree(tmp_path / "run" / "epoch_00000003")
    assert os.listdir(tmp_path / "run")
    assert_same_bits(fit(checkpoint=checkpoint), fit())
    with pytest.raises(ValueError, match="privacy"):
        fit(fn.Privacy(0.5, 0.8), checkpoint=checkpoint)


def test_what_is_not_trainable_stays_and_validation_may_stop_it():
    stopping = fn.EarlyStopping("validation_cost", patience=2)
    found, _ = fit(trainable=(False, True, True, True), validation=HELD, early_stopping=stopping)
    assert disagreement(found.params[0], start().params[0]) == 0
    assert disagreement(found.params[3], start().params[3]) > 1e-6


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


MIXING = fn.Chain(fn.Dense(3, 2), Centre())
KFAC = fn.scale_by_kfac(NET, LOSS)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("options", "kind", "fragments"),
    [
        ({"optimizer": optax.lbfgs()}, ValueError, ["more than the gradient", "optax.adam", "value"]),
        ({"optimizer": optax.chain(KFAC, optax.sgd(0.1))}, ValueError, ["Backprop", "not private", "optax.adam"]),
        ({"early_stopping": fn.EarlyStopping("cost")}, ValueError, ["must not depend", "validation_cost"]),
        (
            {"early_stopping": fn.EarlyStopping("mae"), "metrics": [fn.MeanAbsoluteError()]},
            ValueError,
            ["must not depend", "validation_cost"],
        ),
        ({"net": MIXING}, ValueError, ["Centre()", "mixes examples", "LayerNorm"]),
        ({"privacy": 3.0}, TypeError, ["privacy", "Privacy(max_norm, noise_multiplier)", "3.0"]),
    ],
    ids=["lbfgs", "kfac", "cost", "metric", "mixing", "number"],
)
def test_what_cannot_be_private_is_refused(options, kind, fragments):
    with pytest.raises(kind) as error:
        fit(**options)
    for fragment in fragments:
        assert fragment in str(error.value), str(error.value)


def mixing_layer(backwards=False, **says):
    """`Centre`, or one that is centred in its backward pass alone, and says nothing."""

    def forward(self, params, x, key=None):
        return (x if backwards else x - x.mean(0, keepdims=True)), ()

    return fn.spec(type("Silent", (Centre,), {"forward": forward, "mixes_examples": False} | says))()


@pytest.mark.fast
@pytest.mark.parametrize("layer", [mixing_layer(), mixing_layer(backwards=True)], ids=["forward", "backward"])
@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, "clipping one example's gradient"),
        ({"privacy": None}, "Choose a batch_size that divides m"),
        ({"privacy": None, "batch_size": M, "accumulate": M}, "Leave accumulate out"),
        ({"privacy": None, "x": np.asarray(X).view(np.memmap)}, "Choose a batch_size that divides m"),
    ],
    ids=["private", "filled up", "in parts", "from the host"],
)
def test_a_layer_that_mixes_examples_and_does_not_say_so_is_found(layer, options, why):
    net = fn.Chain(fn.Dense(3, 2), fn.Residual(layer), fn.Dense(2, 2))
    with pytest.raises(ValueError, match=rf"Silent\(\) mixes examples: .*{why}"):
        fit(net=net, **options)


@pytest.mark.fast
def test_a_layer_of_ones_own_that_treats_each_alone_passes_and_full_batches_may_mix():
    net = fn.Chain(fn.Dense(3, 2), Scale(2), fn.Dropout(0.3))
    fit(net=net, epochs=1)
    fit(net=MIXING, privacy=None, epochs=1, batch_size=M)
    with pytest.raises(ValueError, match=r"Centre\(\) mixes examples: .*divides m"):
        fn.train_epoch(MIXING, LOSS, ADAM, start(ADAM, MIXING), (X, Y), batch_size=BATCH)
    with pytest.raises(ValueError, match=r"Centre\(\) mixes examples: .*divides m"):
        fn.fit_many(MIXING, LOSS, ADAM, (X, Y), seeds=(0,), epochs=1, batch_size=BATCH)


@pytest.mark.fast
def test_a_second_fit_warns_that_epsilon_is_its_own(tmp_path):
    state, first = fit(epochs=1)
    assert not first.note
    with pytest.warns(RuntimeWarning, match="The 5 updates made before it are not in it"):
        _, second = fit(epochs=1, state=state)
    assert "epsilon counts this fit alone" in second.note
    assert second.note in repr(second)
    checkpoint = fn.Checkpoint(tmp_path, seconds=0)
    fit(epochs=1, checkpoint=checkpoint)
    _, resumed = fit(epochs=2, checkpoint=checkpoint)  # one training, one account
    assert not resumed.note
    assert same_bits(resumed["epsilon"], fit(epochs=2)[1]["epsilon"])


@pytest.mark.fast
def test_one_examples_cost_does_not_end_it():
    """That it ended earlier with this example than without would tell that it is there."""
    state, history = fn.fit(
        NET, LOSS, ADAM, start(), (X, Y.at[4].set(1e200)), epochs=3, batch_size=BATCH, privacy=PRIVATE
    )
    assert int(history.epochs) == 3
    assert not np.isfinite(history["cost"]).all()
    assert not history.stopped
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


@pytest.mark.fast
@pytest.mark.parametrize("privacy", [PRIVATE, None], ids=["private", "plain"])
def test_a_state_given_back_in_mid_epoch_carries_the_key_of_the_next(privacy):
    """With this epoch's key a second fit would draw the same batches, and the same noise."""
    batch = BATCH if privacy else 6
    bad = optax.sgd(lambda step: jnp.where(step == 8, jnp.inf, 1e-2))
    with pytest.warns(RuntimeWarning, match="Stopped in epoch 2: at step 4 of 5"):
        state, _ = fit(privacy, optimizer=bad, batch_size=batch)
    assert int(state.step) == 8
    whole, _ = fit(privacy, optimizer=optax.sgd(1e-2), epochs=1, batch_size=batch)
    expected = jax.random.split(whole.key, 3)[0]
    assert (jax.random.key_data(state.key) == jax.random.key_data(expected)).all()


@pytest.mark.fast
@pytest.mark.parametrize("per_layer", [False, True])
def test_what_is_frozen_takes_nothing_of_the_clipping_norm(per_layer):
    """The head alone is trained: its clipped gradient is that of a network that is the head."""
    net, bound = fn.Chain(fn.Dense(3, 4), fn.Tanh(), fn.Dense(4, 2)), 0.01
    params = jax.tree.map(lambda leaf: 3 * leaf, params_of(net))
    bp = backprop(net, LOSS, params, X, Y)
    inner = predict(fn.Chain(fn.Dense(3, 4), fn.Tanh()), params[:2], X)
    head = fn.Chain(fn.Dense(4, 2))
    alone = backprop(head, LOSS, params[2:], inner, Y)
    found, squares = fn.clipped_gradient(net, bp, bound, per_layer, trainable=(False, True, True))
    expected, others = fn.clipped_gradient(head, alone, bound, per_layer)
    assert disagreement(found[2], expected[0]) <= 1e-12
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(found[0]))
    assert disagreement(jax.tree.leaves(squares), jax.tree.leaves(others)) <= 1e-12
    start, barely = fn.train_state(optax.sgd(1.0), params, jax.random.key(0)), fn.Privacy(bound, 1e-3, 1e-5, per_layer)
    options = {"epochs": 1, "batch_size": len(X), "privacy": barely, "trainable": (False, True, True)}  # all in a batch
    state, _ = fn.fit(net, LOSS, optax.sgd(1.0), start, (X, Y), **options)
    step = jax.tree.map(lambda new, old: len(X) * (old - new), state.params[2], params[2])
    assert disagreement(step, expected[0]) <= 0.02  # the noise
    assert disagreement(state.params[0], params[0]) == 0


def test_without_the_accountant_one_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    for what in (fit, lambda: fn.noise_multiplier(1.0, delta=1e-5, examples=10, batch_size=2, epochs=1)):
        with pytest.raises(ImportError, match=r"pip install -e '.\[privacy\]'"):
            what()


@pytest.mark.parametrize(
    "numbers", [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.0), (np.inf, 1.0), (1.0, np.nan), (1.0, 1.0, 0.0), (1.0, 1.0, 1.0)]
)
def test_numbers_out_of_range_are_refused(numbers):
    with pytest.raises(ValueError, match=r"Privacy.*(above 0|finite)"):
        fn.Privacy(*numbers)


@pytest.mark.parametrize("epochs", [3, None])
def test_a_function_of_ones_own_is_told_epsilon_as_the_history_has_it(epochs):
    rows = []

    def on_epoch(epoch, row):
        rows.append(row["epsilon"])
        return epochs is None and epoch >= 3

    _, history = fit(epochs=epochs, on_epoch=on_epoch)
    assert rows == history["epsilon"].tolist()
