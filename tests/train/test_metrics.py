"""Metrics, called directly and in a training: which reading of y is meant, and what has no value."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sklearn.metrics as sk
from table import random

import funcnet as fn

OUTPUT = random(3, 40, 4)
ANSWERS = np.random.default_rng(4).integers(0, 2, (40, 4))
WEIGHTS = np.random.default_rng(5).integers(0, 3, 40) / 2


def value(metric, output, y, weights=None):
    return float(jax.jit(metric.value)(output, y, weights))


@pytest.mark.fast
@pytest.mark.parametrize("dtype", [bool, np.uint8, int, np.float32, float])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["alike", "weighted"])
def test_several_labels_are_questions_of_their_own_in_every_type(dtype, weights):
    """Float targets of 0 and 1 once fell back to argmax."""
    read, y = np.asarray(OUTPUT > 0), ANSWERS.astype(dtype)
    expected = np.average((read == ANSWERS).mean(-1), weights=weights)
    assert value(fn.Accuracy(), OUTPUT, y, weights) == pytest.approx(expected)
    expected = sk.f1_score(ANSWERS, read, average="macro", sample_weight=weights, zero_division=0)
    assert value(fn.F1(), OUTPUT, y, weights) == pytest.approx(expected)
    hits = [bool(ANSWERS[i, np.argsort(-OUTPUT[i])[:2]].any()) for i in range(40)]
    assert value(fn.TopK(2), OUTPUT, y, weights) == pytest.approx(np.average(hits, weights=weights))


@pytest.mark.fast
def test_probabilities_mean_their_largest():
    y = np.array(jax.nn.softmax(3 * random(7, 40, 4)))
    read, true = np.asarray(OUTPUT).argmax(-1), y.argmax(-1)
    assert value(fn.Accuracy(), OUTPUT, y) == pytest.approx((read == true).mean())
    assert value(fn.F1(), OUTPUT, y) == pytest.approx(sk.f1_score(true, read, average="macro"))
    assert value(fn.TopK(2), OUTPUT, y) == pytest.approx(sk.top_k_accuracy_score(true, OUTPUT, k=2))
    y[5] = 7  # a row that does not count says nothing about how the others are meant
    weights = np.arange(40) != 5
    expected = (read == true)[weights].mean()
    assert value(fn.Accuracy(), OUTPUT, y, jnp.asarray(weights, float)) == pytest.approx(expected)


@pytest.mark.fast
def test_of_what_never_varies_nothing_can_be_explained():
    """It was -1e14, -inf or 1, by what was left of rounding."""
    y = np.array(random(8, 40, 2))
    for constant in (0.0, 0.1, 1e9):
        y[:, 1] = constant
        for output in (y, y + 0.1):
            assert np.isnan(value(fn.R2(), output, y))
    y[:, 1] = np.where(WEIGHTS > 0, 0.1, y[:, 0])  # it varies only where nothing counts
    assert np.isnan(value(fn.R2(), y + 0.1, y, WEIGHTS))
    assert not np.isnan(value(fn.R2(), y + 0.1, y))


@pytest.mark.fast
@pytest.mark.parametrize("metric", [fn.MeanAbsoluteError(), fn.R2()], ids=repr)
def test_shapes_are_never_broadcast(metric):
    """(m,) against (m, 1) is (m, m): a perfect fit had an error of 1.6."""
    for output, y in (((5, 1), (5,)), ((5, 1), (1, 5)), ((5, 2), (5, 1))):
        with pytest.raises(ValueError, match=r"expected y shaped like the output.*y\[\.\.\., None\]"):
            metric.value(random(0, *output), random(0, *y), None)


@pytest.mark.fast
@pytest.mark.parametrize("metric", [fn.Accuracy(), fn.F1(), fn.TopK(1)], ids=repr)
def test_classes_have_one_axis_less_than_the_output(metric):
    for output, y in (((5, 3), (5, 1)), ((5, 3), (1,)), ((5, 1), (5,)), ((5, 2, 3), (5, 3))):
        with pytest.raises(ValueError, match="expected integer classes shaped"):
            metric.value(random(0, *output), np.zeros(y, int), None)


@pytest.mark.fast
@pytest.mark.parametrize("names", [("accuracy",), ("cost",)], ids=str)
def test_no_column_overwrites_another(names):
    @fn.spec
    class Own:
        name: str
        larger_is_better: bool = True

        def value(self, output, y, weights):
            return jnp.zeros(())

    net, optimizer = fn.Dense(4, 4), optax.sgd(0.1)
    state = fn.train_state(optimizer, fn.init(net, jax.random.key(0)), jax.random.key(1))
    metrics = [fn.Accuracy(), *map(Own, names)]
    call = (net, fn.CrossEntropy(), optimizer)
    data = OUTPUT, ANSWERS[:, 0]
    for train in (lambda **o: fn.fit(*call, state, data, **o), lambda **o: fn.fit_many(*call, data, **o)):
        with pytest.raises(ValueError, match=f"two columns would be called '{names[0]}'"):
            train(epochs=1, batch_size=4, metrics=metrics)
