"""A sick network for every verdict, named rightly; healthy ones, about which nothing is said."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from table import Scale, disagreement, random

import funcnet as fn
from funcnet.diagnosis.evidence import chance_level
from funcnet.diagnosis.trials import scaled

SE, CE, BCE = fn.SquaredError(), fn.CrossEntropy(), fn.BinaryCrossEntropy()
X = random(0, 90, 4)
LABELS = jnp.asarray(np.asarray(X @ random(1, 4, 3)).argmax(1))
Y = jnp.tanh(X @ random(2, 4, 2))


def adam(rate):
    """Its rate is a number of its state, so that all rates share a program."""
    return optax.inject_hyperparams(optax.adam)(learning_rate=rate)


def sgd(rate):
    return optax.inject_hyperparams(optax.sgd)(learning_rate=rate)


ADAM = adam(1e-3)
RELU, TANH = fn.mlp((4, 16, 3), fn.ReLU()), fn.mlp((4, 16, 3))


def start(net, seed=0):
    return fn.init(net, jax.random.key(seed))


def changed(params, layer, name, f):
    """Parameters with one leaf changed."""
    return tuple({**own, name: f(own[name])} if i == layer else own for i, own in enumerate(params))


def larger(params, factor):
    return jax.tree.map(lambda leaf: leaf * factor, params)


def deep(depth, activation, init):
    return fn.mlp((4, *[32] * (depth - 1), 3), activation, init=init)


def chaotic():
    """Tanh with large weights: signals stay bounded, error signals do not (Poole et al., 2016)."""
    net = deep(24, fn.Tanh(), fn.LecunNormal())
    params = start(net)
    return net, (*larger(params[:-1], 4.0), params[-1])


# name: what fn.diagnose is given, the verdicts, and where the first is
SICK = {
    "not finite": (
        lambda: {"params": changed(start(RELU), 2, "w", lambda w: w.at[3, 1].set(jnp.nan))},
        ["cost not finite"],
        "layer 2",
    ),
    "overflow": (lambda: {"params": larger(start(RELU), 1e200)}, ["cost not finite"], "layer 1"),
    "constant classes": (lambda: {"y": jnp.full(90, 2)}, ["labels constant"], "y"),
    "constant targets": (
        lambda: {"net": fn.mlp((4, 16, 2)), "loss": SE, "y": jnp.broadcast_to(jnp.array([[0.3, 0.4]]), (90, 2))},
        ["labels constant"],
        "y",
    ),
    "large inputs": (lambda: {"x": X * jnp.array([[1.0, 1.0, 500.0, 1.0]])}, ["inputs unscaled"], "x"),
    "small inputs": (lambda: {"x": X * 1e-4}, ["inputs unscaled"], "x"),
    "mixed inputs": (lambda: {"x": X * jnp.array([[1.0, 1.0, 1e-3, 1.0]])}, ["inputs unscaled"], "x"),
    "inputs far from 0": (lambda: {"x": 8 + 0.1 * X}, ["inputs unscaled"], "x"),
    "one input far from 0": (
        lambda: {"x": (0.02 * X).at[:, :3].set(X[:, :3]).at[:, 3].add(-3.0)},
        ["inputs unscaled"],
        "x",
    ),
    "small inputs before a LayerNorm": (
        lambda: {"net": fn.Chain(fn.LayerNorm(4), RELU), "x": 1e-4 * X},
        ["inputs unscaled"],
        "x",
    ),
    "large inputs around a LayerNorm": (
        lambda: {"net": fn.Chain(fn.Residual(fn.LayerNorm(4)), RELU), "x": 100 * X},
        ["inputs unscaled"],
        "x",
    ),
    "no inputs": (lambda: {"x": 0 * X}, ["inputs unscaled"], "x"),
    "large last weights": (
        lambda: {"params": changed(start(RELU), 2, "w", lambda w: 60 * w)},
        ["cost above chance"],
        "layer 2",
    ),
    "targets far from 0": (
        lambda: {"net": fn.mlp((4, 16, 2)), "loss": SE, "y": Y + 50},
        ["cost above chance"],
        "layer 2",
    ),
    "equal weights": (lambda: {"net": fn.mlp((4, 16, 3), init=fn.Constant(0.1))}, ["symmetric units"], "layer 1"),
    "zero weights": (lambda: {"net": fn.mlp((4, 16, 3), init=fn.Zeros())}, ["symmetric units"], "layer 1"),
    "two units alike": (
        lambda: {
            "net": TANH,
            "params": changed(
                changed(start(TANH), 0, "w", lambda w: w.at[:, 7].set(w[:, 2])), 2, "w", lambda w: w.at[7].set(w[2])
            ),
        },
        ["symmetric units"],
        "layer 1",
    ),
    "biases far below 0": (
        lambda: {"params": changed(start(RELU), 0, "b", lambda b: b - 20)},
        ["dead units"],
        "layer 1",
    ),
    "large tanh": (
        lambda: {"net": TANH, "params": changed(start(TANH), 0, "w", lambda w: 100 * w)},
        ["saturated units"],
        "layer 1",
    ),
    "deep sigmoid": (
        lambda: {"net": deep(12, fn.Sigmoid(), fn.GlorotUniform())},
        ["vanishing error signals"],
        "layer 1 … 7",
    ),
    "chaotic tanh": (lambda: dict(zip(("net", "params"), chaotic())), ["exploding error signals"], "layer 1"),
    "softmax twice": (
        lambda: {"net": fn.mlp((4, 16, 3), output=fn.Softmax())},
        ["cannot overfit a few examples"],
        "net",
    ),
    "outputs out of reach": (
        lambda: {"net": fn.mlp((4, 16, 2), output=fn.ReLU()), "loss": SE, "y": -jnp.abs(Y)},
        ["cannot overfit a few examples"],
        "net",
    ),
    "rate too high": (
        lambda: {"optimizer": adam(1.0)},
        ["learning rate too high"],
        "optimizer",
    ),
    "rate far too high": (
        lambda: {"net": fn.mlp((4, 16, 2)), "loss": SE, "y": Y, "optimizer": sgd(30.0)},
        ["learning rate too high", "updates too large"],
        "optimizer",
    ),
    "rate too low": (lambda: {"optimizer": adam(1e-5)}, ["learning rate too low"], "optimizer"),
    "rate far too low": (
        lambda: {"optimizer": sgd(1e-6)},
        ["learning rate too low", "updates too small"],
        "optimizer",
    ),
    "a rate of 0": (lambda: {"optimizer": sgd(0.0)}, ["updates too small"], "optimizer"),
    "all held fixed": (lambda: {"optimizer": optax.set_to_zero()}, ["updates too small"], "optimizer"),
    "the minus forgotten": (
        lambda: {"optimizer": optax.chain(optax.scale_by_adam(), optax.scale(1e-2))},
        ["updates uphill"],
        "optimizer",
    ),
    "no rate at all": (lambda: {"optimizer": optax.scale_by_adam()}, ["updates uphill"], "optimizer"),
    "a rate below 0": (lambda: {"optimizer": sgd(-0.1)}, ["updates uphill"], "optimizer"),
}


def diagnosed(net=RELU, loss=CE, params=None, x=X, y=LABELS, **options):
    params = start(net) if params is None else params
    with jax.numpy_dtype_promotion("standard" if "optimizer" in options else "strict"):  # as optax wants it
        return fn.diagnose(net, loss, params, x, y, **options)


@pytest.mark.fast
@pytest.mark.parametrize("name", SICK)
def test_a_sick_network_is_named(name):
    given, names, where = SICK[name]
    diagnosis = diagnosed(**given())
    assert list(diagnosis.names) == names, diagnosis
    assert diagnosis.verdicts[0].where.startswith(where), diagnosis
    assert not diagnosis.healthy
    assert all(verdict.evidence and verdict.remedy in str(verdict) for verdict in diagnosis.verdicts)


@pytest.mark.fast
def test_units_that_a_penalty_switched_off_are_no_copies():
    params = start(TANH)
    off = changed(changed(params, 0, "w", lambda w: w.at[:, 5:9].multiply(1e-9)), 2, "w", lambda w: w.at[5:9].set(0))
    assert diagnosed(TANH, params=off).healthy


def history_of(cost, validation, best_epoch=0):
    columns = {"cost": jnp.array(cost), "validation_cost": jnp.array(validation)}
    return fn.History(tuple(columns), columns, len(cost), best_epoch)


FELL, ROSE = [1.0, 0.5, 0.4, 0.3, 0.2, 0.1], [1.0, 0.6, 0.5, 0.6, 0.7, 0.8]


@pytest.mark.fast
@pytest.mark.parametrize(
    ("history", "named"),
    [
        (history_of(FELL, ROSE), True),
        (history_of(ROSE, FELL), False),
        (history_of(FELL, FELL), False),
        (history_of(FELL[:3], ROSE[:3]), False),
        (history_of(ROSE, ROSE), False),  # a training that went wrong, not one that learned too much
        (history_of([1.0, 0.5, 0.4, 0.398, 0.396, 0.39], ROSE), False),
        (history_of(FELL, [1.0, 0.6, 0.5, 0.5, 0.5, 0.8]), False),  # one bad epoch
        (history_of(FELL, [1.0, 0.6, 0.02, 0.03, 0.03, 0.03]), False),  # from next to nothing
        (history_of(FELL, ROSE, best_epoch=3), False),  # early stopping gave the best back
    ],
)
def test_overfitting_seen_in_a_history(history, named):
    found = diagnosed(history=history)
    assert list(found.names) == ["overfitting"] * named, found


NAN, INF = float("nan"), float("inf")


@pytest.mark.fast
@pytest.mark.parametrize(
    ("cost", "validation", "names", "said"),
    [
        (FELL, [1, NAN, 0.6, 0.8, 1, 1.5], ["cost not finite", "overfitting"], "tion_cost first not finite in epoch 2"),
        ([1, 0.5, INF, NAN, NAN], [1, 0.5, 0.4, NAN, NAN], ["cost not finite"], "not finite in epoch 3, in 3 of 5"),
        (FELL, [NAN] * 6, ["cost not finite"], "no epoch with finite costs"),
        (FELL, [1.0, -INF, 0.6, 0.6, 0.6, 0.6], ["cost not finite"], "0.6 at its least (epoch 3)"),
    ],
)  # fmt: skip
def test_a_history_with_costs_that_are_not_finite(cost, validation, names, said):
    found = diagnosed(history=history_of(cost, validation))
    assert list(found.names) == names, found
    assert {verdict.where for verdict in found.verdicts} == {"history"}
    assert said in str(found).replace("\n        ", " ")
    if np.isfinite(validation[0]):  # early stopping gave back what came before
        assert diagnosed(history=history_of(cost, validation, best_epoch=1)).healthy


WIDE, FAST_ADAM = fn.mlp((4, 64, 3)), optax.adam(1e-2)


@jax.jit
def by_heart(params, x, y, steps):
    """Parameters that have learned these labels in so many steps, and nothing else."""

    def step(_, carry):
        params, opt_state = carry
        updates, opt_state = FAST_ADAM.update(fn.value_and_grad(WIDE, CE, params, x, y)[1], opt_state)
        return optax.apply_updates(params, updates), opt_state

    with jax.numpy_dtype_promotion("standard"):
        return jax.lax.fori_loop(0, steps, step, (params, FAST_ADAM.init(params)))[0]


@pytest.mark.fast
def test_overfitting_seen_in_a_gap():
    x, drawn = np.asarray(X), np.random.default_rng(0).integers(0, 3, 90)
    params = by_heart(start(WIDE), x[:40], drawn[:40], 300)
    given = {"net": WIDE, "x": x[:40], "y": drawn[:40]}
    found = diagnosed(**given, params=params, validation=(x[40:80], drawn[40:80]))
    assert found.names == ("overfitting",)
    assert found.verdicts[0].where == "validation"
    assert diagnosed(**given, params=params, validation=(x[:40], drawn[:40])).healthy
    before = diagnosed(**given, validation=(20 * x[40:80], drawn[40:80]))
    assert before.healthy, before  # nothing is learned yet, so nothing too much


def assert_healthy(net, loss, x, y, optimizer, seed, batch_size=32, epochs=20, params=None, validation=None):
    """Nothing to say before training and nothing after it."""
    m, key = len(x), jax.random.key(seed)
    if validation is None and m > 10:
        rows = np.asarray(jax.random.permutation(key, m))
        (x, y), validation = (
            (x[rows[: m * 4 // 5]], y[rows[: m * 4 // 5]]),
            (x[rows[m * 4 // 5 :]], y[rows[m * 4 // 5 :]]),
        )
    params = fn.init(net, key) if params is None else params
    options = {"optimizer": optimizer, "batch_size": batch_size, "validation": validation, "key": key}
    before = diagnosed(net, loss, params, x, y, **options)
    assert before.healthy, before
    with jax.numpy_dtype_promotion("standard"):
        state, history = fn.fit(
            net, loss, optimizer, fn.train_state(optimizer, params, key), (x, y), epochs=epochs, batch_size=batch_size,
            validation=validation,
        )  # fmt: skip
    assert history["cost"][-1] < 0.7 * history["cost"][0]
    after = diagnosed(net, loss, state.params, x, y, **options, history=history if validation else None)
    assert after.healthy, after


def standardised(values):
    return (values - values.mean(0)) / values.std(0)


@pytest.mark.thorough
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", ["digits", "deep digits", "wine", "diabetes"])
def test_healthy_networks_draw_no_alarm(name, seed):
    data = pytest.importorskip("sklearn.datasets")
    if "digits" in name:
        x, y = data.load_digits(return_X_y=True)
        depth = {"digits": [128], "deep digits": [64] * 9}[name]
        net = fn.mlp((64, *depth, 10), fn.ReLU(), init=fn.HeNormal())
        assert_healthy(net, CE, jnp.asarray(x / 16), jnp.asarray(y), optax.adam(1e-3), seed)
    elif name == "wine":
        x, y = data.load_wine(return_X_y=True)
        assert_healthy(
            fn.mlp((13, 16, 3)), CE, jnp.asarray(standardised(x)), jnp.asarray(y), optax.adam(1e-2), seed, batch_size=16
        )
    else:
        x, y = data.load_diabetes(return_X_y=True)
        x, y = jnp.asarray(standardised(x)), jnp.asarray(standardised(y)[:, None])
        assert_healthy(fn.mlp((10, 16, 1)), SE, x, y, optax.adam(3e-3), seed)


@pytest.mark.thorough
@pytest.mark.parametrize("seed", [None, 0, 1])
def test_test_scores_draw_no_alarm(seed):
    net = fn.Chain(fn.Dense(2, 3, bias=False), fn.Sigmoid(), fn.Dense(3, 1, bias=False), fn.Sigmoid())
    hours = jnp.array([[3.0, 5.0], [5.0, 1.0], [10.0, 2.0]])
    worked = fn.from_weights(net, [[[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], [[0.7], [0.8], [0.9]]])
    x, y = hours / hours.max(0, keepdims=True), jnp.array([[0.75], [0.82], [0.93]])
    params = worked if seed is None else None
    assert_healthy(net, SE, x, y, optax.adam(1e-2), seed or 0, batch_size=3, epochs=300, params=params)


@pytest.mark.thorough
@pytest.mark.fast
def test_a_ten_layer_network_draws_no_alarm():
    net = fn.mlp((4, *[32] * 9, 3), fn.ReLU(), init=fn.HeNormal())
    for seed in range(3):
        found = diagnosed(net, params=start(net, seed))
        assert found.healthy, found
    assert "at layer 10, a factor" in str(found)


def level(loss, y, outputs, weights=None):
    shape = (*y.shape[: y.ndim if jnp.issubdtype(y.dtype, jnp.integer) else -1], outputs)
    return chance_level(loss, jax.ShapeDtypeStruct(shape, jnp.float64), y, weights)


def entropy(shares):
    return -sum(share * np.log(share) for share in shares)


@pytest.mark.fast
def test_chance_level_is_the_cost_of_the_best_constant():
    classes, y = jnp.array([0, 0, 1, 2]), jnp.array([[1.0], [2.0], [3.0], [10.0]])
    weights = jnp.array([1.0, 1.0, 2.0, 0.0])
    rows = {
        "entropy": (level(CE, classes, 4), entropy([0.5, 0.25, 0.25])),
        "entropy, weighted": (level(CE, classes, 4, weights), entropy([0.5, 0.5])),
        "smoothed": (level(fn.CrossEntropy(0.4), classes, 4), entropy([0.4, 0.25, 0.25, 0.1])),
        "probabilities": (level(CE, jnp.array([[0.1, 0.9], [0.3, 0.7]] * 2), 2), entropy([0.2, 0.8])),
        "positions": (level(CE, classes.reshape(2, 2), 3), entropy([0.5, 0.25, 0.25])),
        "yes and no": (level(BCE, jnp.array([[1.0], [0.0], [0.0], [0.0]]), 1), entropy([0.25, 0.75])),
        "half the variance": (level(SE, y, 1), 50 / 8),
        "two outputs": (level(SE, jnp.asarray(np.tile(y, 2)), 2), 50 / 4),
        "weighted variance": (level(SE, y, 1, jnp.array([1.0, 1.0, 0.0, 0.0])), 1 / 8),
        "from the median": (level(fn.AbsoluteError(), y, 1), 10 / 4),
    }
    for name, (found, expected) in rows.items():
        assert abs(found[0] - expected) <= 1e-12 * expected, name
    assert level(SE, y, 1)[1] == pytest.approx(50 / 8 + 0.5, rel=1e-12)  # every output off by 1
    assert level(SE, y, 2) is None  # targets of another shape


@pytest.mark.fast
def test_the_account_of_updates_and_the_rate():
    params = ({"w": jnp.full((2, 2), 2.0), "b": jnp.zeros(2)}, (), {"w": jnp.ones((2, 1)), "b": jnp.zeros(1)})
    grads = jax.tree.map(jnp.ones_like, params)
    optimizer = scaled(optax.sgd(0.5), fn.mlp((2, 2, 1)))
    *rest, last = optimizer.init(params)
    state = (*rest, last._replace(factor=jnp.asarray(10.0)))
    update = jax.jit(optimizer.update)
    for _ in range(12):
        updates, state = update(grads, state, params)
    assert disagreement(updates, jax.tree.map(lambda g: -5 * g, grads)) <= 1e-12
    sizes = np.sqrt([16 / 6, 2 / 3])
    np.testing.assert_allclose(state[-1].moved, [[50, 50], [60, 60]], rtol=1e-12)
    np.testing.assert_allclose(state[-1].sizes, [10 * sizes, 12 * sizes], rtol=1e-12)


def text(diagnosis):
    return [(look.what, look.seen) for look in diagnosis.looks]


@pytest.mark.fast
def test_what_has_weight_0_is_not_looked_at():
    weights = np.ones(135)
    weights[::3] = 0
    x, y = np.full((135, 4), 1e9), np.full(135, 2)
    x[weights != 0], y[weights != 0] = X, LABELS
    found = diagnosed(x=x, y=y, weights=weights, optimizer=ADAM)
    assert text(found) == text(diagnosed(optimizer=ADAM))
    only = np.where(np.asarray(LABELS) == 1, 1.0, 0.0)
    assert "labels constant" in diagnosed(weights=only).names


@pytest.mark.fast
def test_more_weight_counts_more():
    weights = np.where(np.asarray(LABELS) == 0, 20.0, 1.0)
    found = diagnosed(weights=weights)
    shares = np.bincount(LABELS, np.asarray(weights)) / float(weights.sum())
    assert f"chance level (the best constant output) {entropy(shares):.3g}" in str(found)
    J = float(jax.jit(fn.cost)(RELU, CE, start(RELU), X, LABELS, weights=weights))
    assert f"cost {J:.3g}, all gradients finite" in str(found)


@fn.spec
class Lookup:
    """A user's own layer on integers: the rows of a table."""

    n: int
    n_out: int

    def init(self, key):
        return {"w": jax.random.normal(key, (self.n, self.n_out))}

    def forward(self, params, x, key=None):
        return params["w"][x[..., 0]], jax.nn.one_hot(x[..., 0], self.n, dtype=jnp.int32)

    def backward(self, params, tape, delta):
        return jnp.zeros((*tape.shape[:-1], 1)), delta

    def gradient(self, tape, deltas):
        rows = tuple(range(tape.ndim - 1))
        return {"w": jnp.tensordot(tape.astype(deltas.dtype), deltas, (rows, rows))}


@fn.spec
class Margin:
    """A user's own loss, whose targets are of a shape of their own: pairs (class, margin)."""

    def value(self, output, y):
        along = jnp.take_along_axis(output, y[:, :1].astype(int), 1)[:, 0]
        return jnp.maximum(y[:, 1] - along, 0)

    def delta(self, output, y):
        along = jnp.take_along_axis(output, y[:, :1].astype(int), 1)[:, 0]
        hot = jax.nn.one_hot(y[:, 0].astype(int), output.shape[-1], dtype=output.dtype)
        return -hot * (along < y[:, 1])[:, None]


KINDS = (
    "residual, norm, dropout, feedback, own layer, penalty", "weights by position", "integers", "one layer",
    "one layer of zeros", "yes or no", "own loss", "bfloat16",
)  # fmt: skip


def of_many_kinds():
    block = fn.Residual(fn.Chain(fn.LayerNorm(16), fn.Dense(16, 16), fn.GELU(), fn.Dropout(0.2)))
    mixed = fn.Chain(fn.FeedbackAlignment(fn.Dense(4, 16)), Scale(16), fn.Tanh(), block, fn.Dense(16, 3))
    positions = np.asarray(random(3, 40, 5, 4))
    weights = np.ones((40, 5))
    weights[:, 3] = 0
    words = np.random.default_rng(0).integers(0, 7, (60, 3, 1))
    narrow = jax.tree.map(lambda leaf: np.asarray(leaf).astype(jnp.bfloat16), (start(RELU), X))
    return {
        "residual, norm, dropout, feedback, own layer, penalty": {"net": mixed, "penalty": fn.L2(1e-4)},
        "weights by position": {"x": positions, "y": positions[..., :3].argmax(-1), "weights": weights},
        "integers": {"net": fn.Chain(Lookup(7, 3)), "x": words, "y": words[..., 0] % 3},
        "one layer": {"net": fn.Dense(4, 3)},
        "one layer of zeros": {"net": fn.Dense(4, 3, init=fn.Zeros())},
        "yes or no": {"net": fn.mlp((4, 8, 1)), "loss": BCE, "y": np.asarray(LABELS)[:, None] > 0},
        "own loss": {"loss": Margin(), "y": np.stack([LABELS, np.ones(90, int)], 1).astype(float)},
        "bfloat16": {"params": narrow[0], "x": narrow[1]},
    }


@pytest.mark.thorough
@pytest.mark.parametrize("name", KINDS)
def test_networks_of_many_kinds_draw_no_alarm(name):
    found = diagnosed(**of_many_kinds()[name], optimizer=optax.adam(5e-3))
    assert found.healthy, found


@fn.spec
class Free:
    """A loss that costs nothing, whatever the output."""

    def value(self, output, y):
        return 0 * output[..., 0]

    def delta(self, output, y):
        return 0 * output


@pytest.mark.thorough
def test_networks_that_cannot_learn_are_no_failure():
    x, y = np.asarray(X)[:1], np.asarray(LABELS)[:1]
    assert diagnosed(fn.Softmax(), params=(), x=random(5, 90, 3), optimizer=ADAM).healthy
    one = diagnosed(x=x, y=y, optimizer=ADAM, batch_size=np.int64(5))
    assert one.healthy
    assert [look.what for look in one.looks if not look.done] == [
        "labels", "dead and saturated units", "a few examples by heart", "overfitting",
    ]  # fmt: skip
    assert "there is nothing to learn" in str(diagnosed(fn.mlp((4, 8, 1)), Free(), x=x, y=np.zeros((1, 1))))


def test_an_optimizer_that_asks_for_more():
    assert diagnosed(optimizer=optax.lbfgs(memory_size=2), batch_size=90).names in ((), ("updates too large",))


@pytest.mark.fast
def test_outputs_may_start_equal_and_weights_at_0():
    absent = np.minimum(LABELS, 1)  # of four classes two never come, so their outputs are equal
    warming_up = optax.adam(optax.exponential_decay(1e-3, 1, 2.0, end_value=1.0))  # each update as large as the weights
    found = diagnosed(fn.Dense(4, 4, init=fn.Zeros()), y=absent, optimizer=warming_up)
    assert found.healthy, found


@pytest.mark.fast
def test_units_with_equal_weights_may_differ_by_what_follows():
    params = changed(start(TANH), 0, "w", lambda w: jnp.full_like(w, 0.3))
    assert diagnosed(TANH, params=params).healthy


@pytest.mark.thorough
@pytest.mark.fast
def test_rare_features_are_no_small_ones():
    rare = np.zeros((90, 1))
    rare[7] = 0.3
    assert diagnosed(fn.mlp((6, 8, 3)), x=np.concatenate([30**0.5 * X, rare, 0 * rare], 1)).healthy


@pytest.mark.thorough
@pytest.mark.fast
def test_inputs_may_have_offsets_that_do_no_harm():
    flags = np.ones((180, 2))
    flags[7, 1] = 0  # never off, and once
    offsets = diagnosed(x=np.concatenate([random(12, 180, 2), flags], 1), y=np.tile(LABELS, 2))
    assert offsets.healthy, offsets
    assert diagnosed(x=X + 7).healthy  # as far from 0 as raw irises
    normed = fn.Chain(fn.LayerNorm(4), RELU)
    assert diagnosed(normed, x=100 * X).healthy
    assert diagnosed(normed, x=8 + 0.1 * X).healthy


@pytest.mark.thorough
@pytest.mark.fast
def test_rare_classes_draw_no_alarm():
    x = np.asarray(random(11, 2000, 4))
    rare, once = np.zeros((2000, 1)), np.zeros(900, int)
    rare[::50], once[4] = 1, 1
    found = diagnosed(fn.mlp((4, 16, 1), fn.ReLU()), BCE, x=x, y=rare)
    assert found.healthy, found
    two = fn.mlp((4, 16, 2), fn.ReLU())
    for seed in range(3):
        found = diagnosed(two, params=start(two, seed), x=x[:900], y=once)
        assert found.healthy, found
    assert level(CE, once, 2)[1] == pytest.approx(np.log(2), rel=1e-12)
    remedy = diagnosed(params=changed(start(RELU), 2, "w", lambda w: 60 * w)).verdicts[0].remedy
    assert "for classes, at the log of their frequencies" in remedy


@pytest.mark.fast
def test_one_layer_may_be_held_fixed():
    labels = ({"w": "no", "b": "no"}, (), {"w": "yes", "b": "yes"})
    optimizer = optax.multi_transform({"yes": optax.adam(5e-3), "no": optax.set_to_zero()}, labels)
    assert diagnosed(optimizer=optimizer).healthy


@pytest.mark.thorough
@pytest.mark.fast
def test_a_training_that_stands_still_is_named_after_learning_too():
    x, y = np.asarray(X)[:40], np.asarray(LABELS)[:40]
    params = by_heart(start(WIDE), x, y, 300)
    given = {"net": WIDE, "params": params, "x": x, "y": y}
    assert diagnosed(**given, optimizer=adam(0.0)).names == ("updates too small",)


@pytest.mark.fast
def test_a_rate_far_too_high_is_no_wrong_sign():
    found = diagnosed(optimizer=sgd(300.0))
    assert "learning rate too high" in found.names, found
    assert "updates uphill" not in found.names, found
    assert " at 0.001 ×" in str(found)


@pytest.mark.fast
def test_large_updates_that_do_better_are_right():
    params = jax.tree.map(lambda leaf: 0.01 * leaf, start(fn.mlp((4, 16, 2))))
    optimizer = sgd(0.5)
    assert diagnosed(fn.mlp((4, 16, 2)), SE, params, X, Y, optimizer=optimizer).healthy


@pytest.mark.fast
def test_remedies_for_a_rate_too_low():
    net = fn.mlp((4, 16, 2))
    wide = diagnosed(net, SE, x=X, y=1e3 * Y, optimizer=ADAM)
    assert wide.names == ("learning rate too low",), wide
    assert "still warming up may be right" in wide.verdicts[0].remedy
    assert "(y - mean) / std" in wide.verdicts[0].remedy
    narrow = diagnosed(optimizer=adam(1e-5))
    assert "(y - mean) / std" not in narrow.verdicts[0].remedy


@pytest.mark.fast
def test_what_a_small_network_cannot_learn_by_heart():
    x = random(9, 60, 1)
    found = diagnosed(fn.Dense(1, 1), SE, x=x, y=x + 2 * np.asarray(random(10, 60, 1)))
    assert found.healthy, found
    look = next(look for look in found.looks if look.what == "a few examples by heart")
    assert look.seen.endswith("2 parameters need not suffice for 20 targets.")
    assert not look.done


@pytest.mark.fast
def test_a_few_examples_in_float16():
    params, x = jax.tree.map(lambda leaf: np.asarray(leaf).astype(np.float16), (start(RELU), X))
    found = diagnosed(params=params, x=x)
    assert found.healthy, found


@pytest.mark.fast
def test_a_rate_need_not_be_the_best():
    found = diagnosed(optimizer=adam(5e-3))
    tenth, own, tenfold = (float(part.split()[0]) for part in str(found).split("steps end at ")[1].split(", ")[:3])
    assert tenth > 1.5 * own > 3 * tenfold  # ten times the rate gains clearly more in so few steps
    assert found.healthy, found


@pytest.mark.thorough
@pytest.mark.fast
def test_a_low_rate_may_be_right_after_training():
    x, y = np.asarray(X)[:40], np.random.default_rng(1).integers(0, 3, 40)
    params = start(WIDE)
    slow = {"net": WIDE, "x": x, "y": y, "optimizer": adam(1e-5)}
    assert "learning rate too low" in diagnosed(**slow, params=params).names
    assert diagnosed(**slow, params=by_heart(params, x, y, 60)).healthy


@pytest.mark.fast
def test_what_a_verdict_explains_is_left_out():
    left_out = {look.what: look.seen for look in diagnosed(x=1e3 * X, optimizer=ADAM).looks if not look.done}
    assert left_out["learning rate and updates"] == "inputs unscaled: cure that first."
    assert set(left_out) == {
        "dead and saturated units", "cost against chance", "error signals", "a few examples by heart",
        "learning rate and updates", "overfitting",
    }  # fmt: skip


def test_a_sample_of_many_examples_and_a_line_for_each_look(capsys):
    x = np.asarray(random(8, 5000, 4))
    y = (x[:, 0] > 0).astype(int)
    found = diagnosed(fn.mlp((4, 8, 2)), x=x, y=y, progress=True)
    assert found.healthy
    assert "2000 of 5000 examples" in str(found)
    assert capsys.readouterr().err.splitlines() == [f"looking at {look.what}" for look in found.looks]
    again = diagnosed(fn.mlp((4, 8, 2)), x=x, y=y, key=jax.random.key(5))
    assert text(again) != text(found) == text(diagnosed(fn.mlp((4, 8, 2)), x=x, y=y, key=jax.random.key(0)))


BAD = {
    "under jit, labels of NumPy": (
        lambda: jax.jit(lambda x: str(diagnosed(x=x, y=np.asarray(LABELS, np.int64))))(X),
        TypeError,
        "cannot be called under jit",
    ),
    "under jit, nothing traced": (
        lambda: jax.jit(lambda: str(diagnosed(x=np.asarray(X), y=np.asarray(LABELS))))(),
        TypeError,
        "cannot be called under jit",
    ),
    "under jit": (lambda: jax.jit(lambda x: str(diagnosed(x=x)))(X), TypeError, "cannot be called under jit"),
    "optimizer": (lambda: diagnosed(optimizer=0.1), TypeError, "optimizer: expected one of optax's"),
    "batch size": (lambda: diagnosed(batch_size=0), ValueError, "batch_size: expected an integer, 1 or more, got 0"),
    "a batch size that is none": (lambda: diagnosed(batch_size=True), TypeError, "1 or more, got True"),
    "histories": (
        lambda: diagnosed(history=jax.tree.map(lambda *leaves: np.stack(leaves), *[history_of(FELL, ROSE)] * 2)),
        ValueError,
        "history of many trainings. Give that of one: many[0][1]",
    ),
    "validation of nothing": (lambda: diagnosed(validation=(X[:0], LABELS[:0])), ValueError, "validation: expected an"),
    "validation without labels": (
        lambda: diagnosed(validation=X),
        TypeError,
        "expected a pair (x, y), got shape",
    ),
    "validation of three": (lambda: diagnosed(validation=(X, LABELS, X)), TypeError, "(x, y), got 3 parts"),
    "history": (lambda: diagnosed(history={"cost": [1.0]}), TypeError, "history: expected the History"),
    "history of nothing": (lambda: diagnosed(history=history_of([], [])), ValueError, "over 0 epochs"),
    "key": (lambda: diagnosed(key=0), TypeError, "key: expected one key"),
    "keys": (lambda: diagnosed(key=jax.random.split(jax.random.key(0), 90)), TypeError, "key: expected one key"),
    "no example": (lambda: diagnosed(x=X[:0], y=LABELS[:0]), ValueError, "x: expected an example or more"),
    "no weight": (lambda: diagnosed(weights=jnp.zeros(90)), ValueError, "x: expected an example or more"),
    "penalty": (lambda: diagnosed(penalty=0.1), TypeError, "penalty: expected one such as L2"),
    "labels": (lambda: diagnosed(y=LABELS[:80]), ValueError, "x has 90 examples"),
    "validation": (lambda: diagnosed(validation=(X[:, :3], LABELS)), ValueError, "validation: "),
    "not finite": (lambda: diagnosed(x=X.at[3, 1].set(jnp.nan)), ValueError, "x[3, 1] is nan"),
}


@pytest.mark.fast
@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    call, error, message = BAD[name]
    with pytest.raises(error) as raised:
        call()
    assert message in str(raised.value)
