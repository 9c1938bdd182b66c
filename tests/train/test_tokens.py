"""Tokens through everything: trainings, evaluation, checks, other programs and files of a small transformer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from table import disagreement, params_of, tokens, value_and_grad

import funcnet as fn

VOCABULARY, M, T = 6, 7, 4  # batches of 3: the last holds one example
NET = fn.gpt(VOCABULARY, T, 4, 2, 1)
LOSS, SGD, PRIVATE = fn.CrossEntropy(), optax.sgd(0.1), fn.Privacy(0.5, 0.7)
X, Y = tokens(1, VOCABULARY, M, T), tokens(2, VOCABULARY, M, T)
WEIGHTS = np.random.default_rng(3).uniform(0.5, 2, (M, T))


@pytest.fixture(autouse=True)
def _as_optax_wants_it():
    with jax.numpy_dtype_promotion("standard"):
        yield


def fit(net, params, x, y=Y, optimizer=SGD, **options):
    state = fn.train_state(optimizer, params, jax.random.key(0))
    return fn.fit(net, LOSS, optimizer, state, (x, y), **{"epochs": 2, "batch_size": 3} | options)


@pytest.mark.parametrize(
    "options",
    [
        {"weights": WEIGHTS, "validation": (X[:2], Y[:2])},
        {"telemetry": 1},
        {"privacy": PRIVATE},
        {"compute_dtype": "bfloat16"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_a_training_on_tokens_is_that_on_unit_vectors(options):
    """Of a `Dense` without bias in place of the `Embedding`; with telemetry, privacy and bfloat16."""
    rest = fn.Tanh(), fn.Dense(3, VOCABULARY)
    net, other = fn.Chain(fn.Embedding(VOCABULARY, 3), *rest), fn.Chain(fn.Dense(VOCABULARY, 3, bias=False), *rest)
    table, *own = params_of(net)
    units = jnp.eye(VOCABULARY)
    trained, history = fit(net, (table, *own), X, **options)
    if "validation" in options:
        options = options | {"validation": (units[X[:2]], Y[:2])}
    same, record = fit(other, ({"w": table["e"]}, *own), units[X], **options)
    (of_table, *layers), (of_dense, *others) = trained.params, same.params
    rounding = 1e-3 if "compute_dtype" in options else 1e-12  # XLA leaves out roundings between bfloat16
    assert disagreement((of_table["e"], layers), (of_dense["w"], others)) <= rounding
    assert disagreement(np.asarray(table["e"]), np.asarray(of_table["e"])) > 1e-3
    for name in {"cost", "validation_cost", "noise_scale"} & set(record.names):
        np.testing.assert_allclose(history[name], record[name], rtol=1e-9)


def test_a_transformer_trains_in_bfloat16():
    net = fn.gpt(VOCABULARY, T, 4, 2, 2, rotary=True, kv_heads=1, gated=True, repeat=True, remat=True, dropout=0.1)
    options = {"compute_dtype": "bfloat16", "telemetry": 1, "epochs": 20}
    trained, history = fit(net, params_of(net), X, (X + 1) % VOCABULARY, optax.adam(0.03), **options)
    assert history["cost"][-1] < 0.8 * history["cost"][0]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trained.params))
    assert any("block 2" in name for name in history.telemetry)


def test_a_private_step_of_a_transformer_clips_its_examples():
    """With next to no noise: the sum of clipped gradients over the expected batch size, of all examples."""
    params, private = params_of(NET), fn.Privacy(0.5, 1e-9)
    trained, _ = fit(NET, params, X, privacy=private, epochs=1, batch_size=M)
    bp = jax.jit(fn.backprop)(NET, LOSS, params, X, Y)
    clipped, squares = jax.jit(fn.clipped_gradient, static_argnums=2)(NET, bp, 0.5)
    assert (np.asarray(squares) > 0.25).all()
    expected = jax.tree.map(lambda w, g: np.asarray(w) - 0.1 * np.asarray(g) / M, params, clipped)
    assert disagreement(trained.params, expected) <= 1e-8


def test_many_trainings_are_each_of_them_alone():
    many = fn.fit_many(NET, LOSS, SGD, (X, Y), epochs=2, batch_size=3, seeds=(0, 1))
    weights, order = jax.random.split(jax.random.key(1))
    state = fn.train_state(SGD, fn.init(NET, weights), order)
    alone, _ = fn.fit(NET, LOSS, SGD, state, (X, Y), epochs=2, batch_size=3)
    assert disagreement(many[1][0].params, alone.params) <= 1e-12


def test_evaluation_is_the_cost_and_knows_classes():
    params = params_of(NET)
    row = fn.evaluate(NET, LOSS, params, (X, Y), weights=WEIGHTS, metrics=[fn.Accuracy()])
    found = value_and_grad(NET, LOSS, params, X, Y, weights=WEIGHTS)[0]
    np.testing.assert_allclose(row["cost"], found, rtol=1e-12)
    guessed = np.argmax(jax.jit(fn.predict)(NET, params, X), -1) == np.asarray(Y)
    np.testing.assert_allclose(row["accuracy"], (guessed * WEIGHTS).sum() / WEIGHTS.sum(), rtol=1e-12)


def test_a_diagnosis_finds_nothing_wrong_with_integers():
    report = str(fn.diagnose(NET, LOSS, params_of(NET), X, Y))
    assert report.startswith("healthy")
    assert "x is int32" in report


@pytest.mark.parametrize(
    "net", [NET, fn.gpt(VOCABULARY, T, 4, 2, 1, rotary=True, tied=False, remat=True)], ids=["a", "b"]
)
def test_gradients_check(net):
    report = fn.check_gradients(net, LOSS, params_of(net), X[:2], Y[:2], entries=5)
    assert report.ok, str(report)


def test_inside_other_programs():
    f, params = fn.as_function(NET), params_of(NET)
    cost = fn.as_cost(NET, LOSS, X, Y)

    @jax.jit
    def run(params):
        by_function = jax.grad(lambda p: jnp.mean(LOSS.value(f(p, X), Y)))(params)
        return by_function, jax.grad(cost)(params), fn.value_and_grad(NET, LOSS, params, X, Y)[1]

    by_function, by_cost, expected = run(params)
    assert disagreement(by_function, expected) <= 1e-12
    assert disagreement(by_cost, expected) <= 1e-12


def test_files_bring_back_the_network(tmp_path):
    net = fn.gpt(VOCABULARY, T, 4, 2, 2, rotary=True, kv_heads=1, gated=True, repeat=True, remat=True, dropout=0.1)
    for each in (NET, net):
        assert fn.from_json(fn.to_json(each)) == each
        params = params_of(each, dtype=np.float32)
        fn.save_model(tmp_path / "model", each, params)
        same, found = fn.load_model(tmp_path / "model")
        assert same == each
        assert disagreement(found, params) == 0


# ------------------------------------------------------------------ files of tokens
@pytest.mark.fast
def test_windows_are_views_one_token_apart():
    tokens = np.arange(23, dtype=np.uint16)
    x, y = fn.windows(tokens, 5)
    assert x.tolist() == [[5 * i + j for j in range(5)] for i in range(4)]
    assert (y == x + 1).all()
    assert np.shares_memory(x, tokens)
    assert np.shares_memory(y, tokens)
    assert fn.windows([1, 2, 3], 2)[1].tolist() == [[2, 3]]
    assert fn.windows(np.arange(20), 5)[0].shape == (3, 5)  # the last token has none behind it


def test_a_file_of_tokens_trains_as_in_memory(tmp_path):
    np.random.default_rng(0).integers(0, 300, 403).astype(np.uint16).tofile(tmp_path / "tokens")
    x, y = fn.windows(np.memmap(tmp_path / "tokens", np.uint16, "r"), 6)
    assert isinstance(x, np.memmap)
    net, optimizer = fn.Chain(fn.Embedding(300, 4), fn.GRU(4, 5), fn.Dense(5, 300)), optax.sgd(0.1)

    def trained(x, y):
        state = fn.train_state(optimizer, fn.init(net, jax.random.key(0)), jax.random.key(1))
        options = {"epochs": 2, "batch_size": 8, "metrics": [fn.Perplexity()]}
        state, history = fn.fit(net, fn.CrossEntropy(), optimizer, state, (x, y), **options)
        return state.params, history["cost"], history["perplexity"]

    read, held = trained(x, y), trained(np.array(x), np.array(y))
    assert disagreement(read, held) <= 1e-14
    assert abs(np.log(held[2][-1]) - np.log(300)) < 0.1


@pytest.mark.parametrize(
    ("tokens", "length", "kind", "message"),
    [
        (np.zeros((2, 3), int), 2, TypeError, "integers in one row"),
        (np.zeros(5), 2, TypeError, "got shape \\(5,\\) of float64"),
        (np.arange(3), 3, ValueError, "expected 4 tokens or more, .* got 3"),
        (np.arange(3), 0, ValueError, "length: expected a number of tokens"),
    ],
)
def test_windows_that_cannot_be_are_refused(tokens, length, kind, message):
    with pytest.raises(kind, match=message):
        fn.windows(tokens, length)


def test_perplexity_is_exp_of_the_cost():
    loss, weights = fn.CrossEntropy(), np.array([[1.0, 0.0], [2.0, 0.5]])
    net = fn.Chain(fn.Embedding(7, 3), fn.Dense(3, 7))
    params, x, y = params_of(net), np.array([[1, 2], [3, 4]]), np.array([[0, 6], [5, 2]])
    for given in (None, weights, weights[:, 0]):
        found = fn.evaluate(net, loss, params, (x, y), metrics=[fn.Perplexity()], weights=given)
        assert abs(found["perplexity"] - np.exp(found["cost"])) <= 1e-12 * found["perplexity"]
