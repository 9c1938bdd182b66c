"""`evaluate`, and what `fit` records, in pieces: the numbers of one piece, whatever their size."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from table import Scale, cost, params_of, predict, random

import funcnet as fn
from funcnet.train import evaluation

NET, LOSS = fn.Chain(fn.Dense(3, 8), fn.Tanh(), fn.Dropout(0.3), fn.Dense(8, 4)), fn.CrossEntropy()
PARAMS, X, Y = params_of(NET), random(1, 45, 3), np.random.default_rng(2).integers(0, 4, 45)
METRICS = [fn.Accuracy(), fn.F1(), fn.TopK(2)]
WEIGHTS = np.random.default_rng(3).uniform(size=45)


def expected(x=X, y=Y, weights=None, net=NET, loss=LOSS, params=PARAMS, metrics=METRICS):
    output = predict(net, params, x)
    given = None if weights is None else jnp.asarray(weights)
    values = {metric.name: float(metric.value(output, jnp.asarray(y), given)) for metric in metrics}
    return {"cost": float(cost(net, loss, params, x, y, weights=weights))} | values


@pytest.fixture(params=[1, 600, 2**24], ids=["single rows", "some", "all"])
def _pieces(request, monkeypatch):
    monkeypatch.setattr(evaluation, "ROOM", request.param)
    for program in (evaluation._evaluated, evaluation._piece):
        program.kinds.clear()
    yield
    for program in (evaluation._evaluated, evaluation._piece):
        program.kinds.clear()


@pytest.mark.fast
@pytest.mark.usefixtures("_pieces")
@pytest.mark.parametrize("weights", [None, WEIGHTS, WEIGHTS > 0.5], ids=["alike", "weighted", "chosen"])
@pytest.mark.parametrize("host", [False, True], ids=["device", "host"])
def test_it_is_the_cost_and_the_metrics_of_all(weights, host):
    x = np.array(X).view(np.memmap) if host else X
    values = fn.evaluate(NET, LOSS, PARAMS, (x, Y), metrics=METRICS, weights=weights)
    wide = None if weights is None else np.asarray(weights, float)
    assert values == pytest.approx(expected(weights=wide), rel=1e-12)
    assert list(values) == ["cost", "accuracy", "f1", "top_2"]
    assert values == fn.evaluate(NET, LOSS, PARAMS, (x, Y, weights), metrics=METRICS)


@pytest.mark.fast
@pytest.mark.usefixtures("_pieces")
def test_positions_and_regressions():
    net, loss = fn.mlp((3, 5, 2)), fn.SquaredError()
    params, x, y, weights = params_of(net), random(1, 7, 4, 3), random(2, 7, 4, 2), np.ones((7, 4))
    weights[2, 1], weights[5] = 0, 0
    metrics = [fn.MeanAbsoluteError(), fn.R2()]
    values = fn.evaluate(net, loss, params, (x, y), metrics=metrics, weights=weights)
    assert values == pytest.approx(expected(x, y, weights, net, loss, params, metrics), rel=1e-12)
    x = x.at[5].set(jnp.inf)  # of weight 0
    assert fn.evaluate(net, loss, params, (x, y), weights=weights)["cost"] == pytest.approx(values["cost"], rel=1e-12)


@pytest.mark.usefixtures("_pieces")
def test_a_training_records_it():
    optimizer = optax.sgd(0.1)
    with jax.numpy_dtype_promotion("standard"):
        state = fn.train_state(optimizer, PARAMS, jax.random.key(0))
        validation = (X[:31], Y[:31], WEIGHTS[:31])
        state, history = fn.fit(
            NET, LOSS, optimizer, state, (X, Y), epochs=2, batch_size=10, validation=validation, metrics=METRICS
        )
    values = expected(params=state.params)
    held = expected(*validation, params=state.params)
    for name in history.names[1:]:
        of = held[name.removeprefix("validation_")] if name.startswith("validation_") else values[name]
        assert history[name][-1] == pytest.approx(of, rel=1e-12), name


@pytest.mark.fast
def test_no_piece_holds_more_than_its_room(monkeypatch):
    seen = []

    @fn.spec
    class Watched(Scale):
        def forward(self, params, x, key=None):
            seen.append(len(x))
            return super().forward(params, x, key)

    net = fn.Chain(Watched(4), fn.Dense(4, 4))
    monkeypatch.setattr(evaluation, "ROOM", 300)
    fn.evaluate(net, fn.SquaredError(), params_of(net), (random(0, 1000, 4), random(1, 1000, 4)))
    assert max(size for size in seen if size != 1000) <= 300 // 12 < 32  # checks see shapes alone


def test_inside_jit_values_are_arrays():
    values = jax.jit(lambda params: fn.evaluate(NET, LOSS, params, (X, Y), metrics=METRICS))(PARAMS)
    assert {name: float(value) for name, value in values.items()} == pytest.approx(expected(), rel=1e-12)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: fn.evaluate(NET, LOSS, PARAMS, X), TypeError, r"data: expected a pair \(x, y\) or three"),
        (lambda: fn.evaluate(NET, LOSS, PARAMS, (X, Y, WEIGHTS), weights=WEIGHTS), ValueError, "given twice"),
        (lambda: fn.evaluate(NET, LOSS, PARAMS, (X, Y), metrics=[fn.Accuracy]), TypeError, "such as Accuracy"),
        (lambda: fn.evaluate(NET, LOSS, PARAMS, (X, Y[:9])), ValueError, "45 examples"),
        (lambda: fn.evaluate(NET, LOSS, PARAMS, (X, Y + 1)), ValueError, "classes must be 0 … 3"),
    ],
)
def test_bad_input(call, kind, words):
    with pytest.raises(kind, match=words):
        call()
