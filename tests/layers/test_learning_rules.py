"""Other learning rules: what comes down is by hand, what goes up is the layer's own, and the angle to the truth."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits
from table import Scale, backprop, disagreement, params_of, predict, random, value_and_grad

import funcnet as fn

SE, CE = fn.SquaredError(), fn.CrossEntropy()
NET = fn.mlp((3, 5, 4, 2))
PARAMS, X, Y = params_of(NET), random(1, 6, 3), random(2, 6, 2)
RULES = [fn.FeedbackAlignment(NET, seed=7), fn.SignSymmetric(NET)]
each_rule = pytest.mark.parametrize("rule", RULES, ids=["feedback", "signs"])


@pytest.fixture(autouse=True)
def _as_optax_wants_it():
    with jax.numpy_dtype_promotion("standard"):
        yield


def feedback(rule):
    key = jax.random.fold_in(jax.random.key(rule.seed), 0x0B)
    return jax.tree.map(np.asarray, jax.jit(rule.layer.init)(key))


def sent_down(rule, params):
    """What stands in place of the parameters backwards."""
    if isinstance(rule, fn.FeedbackAlignment):
        return feedback(rule)
    params = jax.tree.map(np.asarray, params)
    return jax.tree.map(lambda w: np.sign(w) * np.abs(w).mean() if w.ndim > 1 else w, params)


@pytest.mark.fast
@each_rule
def test_the_gradient_is_that_of_a_loop_by_hand(rule):
    first, second, third = (np.asarray(PARAMS[i]["w"]) for i in (0, 2, 4))
    x, y = np.asarray(X), np.asarray(Y)
    a = np.tanh(x @ first + np.asarray(PARAMS[0]["b"]))
    b = np.tanh(a @ second + np.asarray(PARAMS[2]["b"]))
    top = (b @ third + np.asarray(PARAMS[4]["b"]) - y) / 6
    down = sent_down(rule, PARAMS)
    fixed = [down[i]["w"] for i in (2, 4)]
    middle = (top @ fixed[1].T) * (1 - b * b)
    low = (middle @ fixed[0].T) * (1 - a * a)
    expected = tuple({"b": d.sum(0), "w": kept.T @ d} for kept, d in ((x, low), (a, middle), (b, top)))
    value, grads = value_and_grad(rule, SE, PARAMS, X, Y)
    assert disagreement((grads[0], grads[2], grads[4]), expected) <= 1e-12
    true_value, true = value_and_grad(NET, SE, PARAMS, X, Y)
    assert np.isclose(value, true_value, rtol=1e-14)
    assert disagreement(grads[4], true[4]) <= 1e-14  # the output's error signal is still the true one
    assert disagreement(grads[2], true[2]) > 1e-2


@pytest.mark.fast
@each_rule
def test_the_forward_pass_is_the_layers_own(rule):
    assert (predict(rule, PARAMS, X) == predict(NET, PARAMS, X)).all()
    key = jax.random.key(5)
    assert disagreement(fn.init(rule, key), fn.init(NET, key)) == 0
    dropping = fn.Chain(fn.Dense(3, 4), fn.Dropout(0.5), fn.Dense(4, 2))
    params = params_of(dropping)
    own = type(rule)(dropping)
    for tree, other in zip(own.forward(params, X, key), dropping.forward(params, X, key)):
        assert disagreement(tree, other) == 0


@pytest.mark.fast
def test_the_feedback_is_fixed_by_its_seed_and_takes_the_type_of_the_weights():
    low = jax.tree.map(lambda leaf: np.asarray(leaf).astype(np.float32), PARAMS)

    def gradient(seed, params=PARAMS):
        x, y = (np.asarray(a).astype(params[0]["w"].dtype) for a in (X, Y))
        return value_and_grad(fn.FeedbackAlignment(NET, seed), SE, params, x, y)[1][0]["w"]

    assert disagreement(gradient(7), gradient(7)) == 0
    assert disagreement(gradient(7), gradient(8)) > 1e-2
    moved = jax.tree.map(np.asarray, PARAMS)
    moved[2]["w"] = -moved[2]["w"]
    deltas = [fn.FeedbackAlignment(NET, 7).backward(p, NET.forward(PARAMS, X)[1], Y)[0] for p in (PARAMS, moved)]
    assert disagreement(*deltas) == 0
    assert gradient(7, low).dtype == jnp.float32


@pytest.mark.fast
@pytest.mark.parametrize("seed", [0, 7])
def test_the_feedback_has_nothing_in_common_with_weights_drawn_from_the_same_seed(seed):
    net = fn.Dense(20, 20)
    params = fn.init(net, jax.random.key(seed))
    fixed = feedback(fn.FeedbackAlignment(net, seed))["w"]
    assert abs(np.corrcoef(np.ravel(params["w"]), np.ravel(fixed))[0, 1]) < 0.2
    delta, _ = fn.FeedbackAlignment(net, seed).backward(params, np.ones((20, 20)), np.eye(20))
    assert disagreement(delta, fixed.T) <= 1e-15


@pytest.mark.fast
@each_rule
def test_inside_a_chain_and_a_fit_it_is_the_rule_written_out(rule):
    net = fn.Chain(fn.Dense(3, 3), fn.Tanh(), rule)
    params = params_of(net)
    bp = backprop(net, SE, params, X, Y)
    signal, _ = jax.jit(rule.backward)(params[2], bp.tape[2], np.asarray(bp.output) - np.asarray(Y))
    hand = {"b": (d := np.asarray(signal) * (1 - np.square(bp.tape[1]))).sum(0), "w": np.asarray(X).T @ d}
    assert disagreement(jax.jit(fn.gradient)(net, bp.tape, bp.deltas)[0], hand) <= 1e-12
    sgd = optax.sgd(0.1)
    state = fn.train_state(sgd, params, jax.random.key(0))
    found, _ = fn.fit(net, SE, sgd, state, (X, Y), epochs=2, batch_size=6)
    for _ in range(2):
        _, grads = value_and_grad(net, SE, params, X, Y)
        params = jax.tree.map(lambda w, g: np.asarray(w) - 0.1 * np.asarray(g), params, grads)
    assert disagreement(found.params, params) <= 1e-12


@pytest.mark.thorough
@each_rule
def test_they_learn_the_digits(rule):
    digits = load_digits()
    x, y = jnp.asarray(digits.data / 16), jnp.asarray(digits.target)
    net = fn.mlp((64, 32, 10))
    net = fn.FeedbackAlignment(net, seed=1) if isinstance(rule, fn.FeedbackAlignment) else fn.SignSymmetric(net)
    adam = optax.adam(1e-2)
    state = fn.train_state(adam, fn.init(net, jax.random.key(0)), jax.random.key(1))
    train, held = (x[:1500], y[:1500]), (x[1500:], y[1500:])
    options = {"epochs": 15, "batch_size": 50, "validation": held, "metrics": [fn.Accuracy()]}
    _, history = fn.fit(net, CE, adam, state, train, **options)
    assert history["validation_accuracy"][-1] > 0.85


@functools.partial(jax.jit, static_argnums=(0, 1))
def gradients_one_by_one(layers, loss, params, x, y, down):
    """Each example's gradient, layer by layer from JAX's pullbacks, with `down` for params in what is sent down."""
    rows = []
    for i in range(len(x)):
        signals = [x[i : i + 1]]
        for layer, own in zip(layers, params):
            signals.append(layer.forward(own, signals[-1])[0])
        delta, grads = loss.delta(signals[-1], y[i : i + 1]), []
        for layer, own, other, came in reversed(list(zip(layers, params, down, signals))):
            grads.append(jax.vjp(lambda p, layer=layer, came=came: layer.forward(p, came)[0], own)[1](delta)[0])
            delta = jax.vjp(lambda z, layer=layer, other=other: layer.forward(other, z)[0], came)[1](delta)[0]
        rows.append(jnp.concatenate([jnp.ravel(g) for g in jax.tree.leaves(grads)]))
    return jnp.stack(rows)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("kind", "positions"),
    [(fn.FeedbackAlignment, ()), (fn.FeedbackAlignment, (3,)), (fn.SignSymmetric, (1,)), (fn.SignSymmetric, (3,))],
)
def test_cosines_are_those_of_gradients_written_out(kind, positions):
    layers = (fn.Dense(3, 4), fn.LayerNorm(4), fn.Tanh(), Scale(4), fn.Dense(4, 2, bias=False))
    net = fn.Chain(*layers)
    rule, params = kind(net), params_of(net)
    x, y = random(1, 4, *positions, 3), random(2, 4, *positions, 2)
    bps = [backprop(one, SE, params, x, y) for one in (net, rule)]
    true = np.asarray(gradients_one_by_one(layers, SE, params, x, y, params))
    other = np.asarray(gradients_one_by_one(layers, SE, params, x, y, sent_down(rule, params)))
    expected = (true * other).sum(1) / np.linalg.norm(true, axis=1) / np.linalg.norm(other, axis=1)
    assert np.abs(expected).max() < 1 - 1e-3
    cosines = jax.jit(fn.example_cosines)
    assert disagreement(cosines(net, *bps), expected) <= 1e-10
    assert disagreement(cosines(net, *reversed(bps)), expected) <= 1e-10
    assert disagreement(cosines(net, bps[1], bps[1]), np.ones(4)) <= 1e-12
    turned = bps[0]._replace(deltas=jax.tree.map(np.negative, bps[0].deltas))
    assert disagreement(cosines(net, bps[0], turned), -np.ones(4)) <= 1e-12


@pytest.mark.fast
def test_cosines_of_gradients_of_zero_and_of_every_size():
    y = np.array(Y)
    y[2] = predict(NET, PARAMS, X)[2]
    cosines = jax.jit(lambda net, *bps: fn.example_cosines(net, *bps))
    values = np.asarray(cosines(NET, *(backprop(one, SE, PARAMS, X, y) for one in (NET, RULES[0]))))
    assert values[2] == 0
    assert np.isfinite(values).all()
    assert (values[np.arange(6) != 2] != 0).all()
    layer = fn.Dense(3, 2)
    for scale in (1e-12, 1e12):
        narrow = (np.asarray(a, np.float32) for a in (X, Y))
        bp = backprop(layer, SE, params_of(layer, dtype=np.float32), *narrow)
        bp = bp._replace(deltas=np.asarray(bp.deltas) * np.float32(scale))
        assert np.allclose(cosines(layer, bp, bp), 1, rtol=1e-5)


def test_cosines_refuse_what_does_not_go_together():
    bp = fn.backprop(NET, SE, PARAMS, X, Y)
    with pytest.raises(ValueError, match="other: has 4 examples, expected 6"):
        fn.example_cosines(NET, bp, fn.backprop(NET, SE, PARAMS, X[:4], Y[:4]))
    layer = fn.Dense(3, 2)
    with pytest.raises(ValueError, match="other: is of another network"):
        fn.example_cosines(NET, bp, fn.backprop(layer, SE, params_of(layer), X, Y))
    with pytest.raises(TypeError, match="other: expected a Backprop"):
        fn.example_cosines(NET, bp, X)


@pytest.mark.fast
@each_rule
def test_it_obeys_the_laws_and_is_no_gradient(rule):
    report = fn.check_layer(rule, PARAMS, X)
    assert not report.ok
    assert all(law.held for law in report.laws), str(report)
    wrong = {row.where for row in report.rows if row.verdict == "wrong"}
    right = {row.where for row in report.rows if row.verdict == "right"}
    assert "layer 1, w[" in str(wrong)
    assert not any(where.startswith("layer 5") for where in wrong)
    assert right, str(report)


@each_rule
def test_what_each_example_says_is_what_the_gradient_is_made_of(rule):
    @jax.jit
    def run(bp):
        return fn.example_gradients(rule, bp), fn.gradient(rule, bp.tape, bp.deltas), fn.example_square_norms(rule, bp)

    each, whole, norms = run(backprop(rule, SE, PARAMS, X, Y))
    assert disagreement(jax.tree.map(lambda g: np.sum(g, 0), each), whole) <= 1e-12
    squares = sum((np.asarray(g) ** 2).reshape(6, -1).sum(1) for g in jax.tree.leaves(each))
    assert disagreement(norms, squares) <= 1e-12


def test_a_rule_is_a_spec_like_any_other():
    assert repr(fn.FeedbackAlignment(fn.Dense(2, 1), seed=3)) == "FeedbackAlignment(Dense(2, 1), seed=3)"
    assert RULES[0] == fn.FeedbackAlignment(fn.mlp((3, 5, 4, 2)), seed=7) != fn.FeedbackAlignment(NET, seed=8)
    for kind in (fn.FeedbackAlignment, fn.SignSymmetric):
        with pytest.raises(TypeError, match="layer must be a layer, got 3"):
            kind(3)
