"""What comes of arguments of the wrong kind: the most telling messages, and a sample of `wrong_arguments.py`."""

import dataclasses
import inspect
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas
import pytest
import right_calls
import scipy.sparse
import wrong_arguments
from right_calls import DEEP, LABELS, NET, PLANE, SGD, batch, params, state

import funcnet as fn

RIGHT, CE, BCE = batch(), fn.CrossEntropy(), fn.BinaryCrossEntropy()
X, Y, CLASSES = RIGHT["x"], RIGHT["y"], jnp.asarray(LABELS)
TABLE = pandas.DataFrame({"age": [1.0, 2.0], "city": ["Rome", "Oslo"]})
TEXTS = np.array(["cat", "dog"])[LABELS]


def predict(x=X, params=RIGHT["params"], net=NET):
    return fn.predict(net, params, x)


def cost(**changed):
    return fn.cost(**{**RIGHT, **changed})


def fit(function=fn.fit, **changed):
    own = {"epochs": 1, "batch_size": 3} if function is fn.fit else {"batch_size": 3}
    first = {"net": NET, "loss": fn.SquaredError(), "optimizer": SGD, "state": state(), "data": (X, Y)}
    return function(**{**first, **own, **changed})


of_epoch = partial(fit, fn.train_epoch)
ROWS = {
    "no x": (partial(predict, None), TypeError, ["x: expected an array of numbers, got None"]),
    "x of text": (partial(predict, "text"), TypeError, ["x: expected numbers, got text, such as 'text'"]),
    "x of bytes": (partial(predict, b"text"), TypeError, ["x: expected numbers, got text"]),
    "x of a missing value": (
        partial(predict, np.array([[1.0, 2.0, None]], object)),
        TypeError,
        ["x[0, 2] is None", "Fill it in"],
    ),
    "x of objects": (partial(predict, np.ones((2, 3), object)), TypeError, ["x.astype(float)"]),
    "x of rows of unequal length": (
        partial(predict, [[1.0, 2.0, 3.0], [4.0]]),
        ValueError,
        ["x: expected rows of equal length, got 1 and 3"],
    ),
    "a table with text": (partial(predict, TABLE), TypeError, ["x: ", "text in column 'city'", "'Rome'"]),
    "a sparse matrix": (
        partial(predict, scipy.sparse.csr_matrix(np.eye(2, 3))),
        TypeError,
        ["x: expected a dense array, got a sparse csr_matrix", "x.toarray()"],
    ),
    "dates": (
        partial(predict, np.array([["2026-01-01"]], "datetime64[D]")),
        TypeError,
        ["x: ", "datetime64", "x.min()"],
    ),
    "x of a class": (partial(predict, fn.Tanh), TypeError, ["x: ", "the class Tanh"]),
    "x of a generator": (partial(predict, (i for i in range(3))), TypeError, ["x: ", "a generator"]),
    "a key for x": (partial(predict, jax.random.key(0)), TypeError, ["x: expected numbers, got a random key"]),
    "too large an integer": (partial(predict, 10**30), ValueError, ["x: expected numbers that an array can hold"]),
    "a state for params": (partial(predict, params=state()), TypeError, ["params: ", "TrainState", "state.params"]),
    "no params": (
        partial(predict, params=None),
        TypeError,
        ["params: expected parameters, got None", "fn.init(net, key)"],
    ),
    "a class for a network": (partial(predict, net=fn.Tanh), TypeError, ["net: ", "the class Tanh", "Write Tanh(...)"]),
    "params for a state": (
        partial(of_epoch, state=RIGHT["params"]),
        TypeError,
        ["state: expected a TrainState", "fn.train_state(optimizer, params, key)", "Parameters alone are no state"],
    ),
    "params for a state, in fit": (partial(fit, state=RIGHT["params"]), TypeError, ["state: expected a TrainState"]),
    "no state": (partial(fit, state=None), TypeError, ["state: expected a TrainState", "got None"]),
    "one metric without a list": (
        partial(fit, metrics=fn.R2()),
        TypeError,
        ["metrics: expected a list", "metrics=[R2()]"],
    ),
    "the class of a metric": (partial(fit, metrics=[fn.R2]), TypeError, ["metrics: ", "the class R2", "Write R2(...)"]),
    "the name of a metric": (partial(fit, metrics="accuracy"), TypeError, ["metrics: ", "[Accuracy()]", "'accuracy'"]),
    "too few flags": (
        partial(fit, trainable=(True, False)),
        ValueError,
        ["trainable: ", "does not fit the parameters", "(False, True, True)"],
    ),
    "an optimiser that is not called": (
        partial(fit, optimizer=optax.adam),
        TypeError,
        ["optimizer: ", "optax.adam(1e-3)", "Call it"],
    ),
    "the class of a penalty": (partial(cost, penalty=fn.L2), TypeError, ["penalty: ", "L2(1e-4)", "Write L2(...)"]),
    "the class of a loss": (partial(cost, loss=fn.CrossEntropy), TypeError, ["loss: ", "Write CrossEntropy(...)"]),
    "a list for a word": (partial(cost, reduction=["mean"]), TypeError, ["reduction: expected 'mean' or 'sum'"]),
    "y of text": (
        partial(cost, loss=CE, y=TEXTS),
        TypeError,
        ["y: expected numbers, got text, such as 'cat'", "classes, y = numpy.unique(y, return_inverse=True)"],
    ),
    "y of text, in fit": (partial(fit, loss=CE, data=(X, list(TEXTS))), TypeError, ["y: ", "numpy.unique"]),
    "one-hot y": (partial(cost, loss=CE, y=jnp.eye(2, dtype=int)[CLASSES]), ValueError, ["y.argmax(-1)"]),
    "labels as floats": (partial(cost, loss=CE, y=CLASSES.astype(X.dtype)), ValueError, ["Use y.astype(int)."]),
    "labels as other floats": (partial(cost, loss=CE, y=CLASSES.astype("bfloat16")), TypeError, ["Use y.astype(int)."]),
    "labels as a column of floats": (
        partial(cost, loss=CE, y=CLASSES.astype(X.dtype)[:, None]),
        ValueError,
        ["Use y[..., 0].astype(int)."],
    ),
    "numbers as labels": (
        partial(cost, loss=CE, y=CLASSES.astype(X.dtype) + 0.5),
        ValueError,
        ["y.astype(int) for classes, which are whole numbers", "SquaredError()"],
    ),
    "one output for classes": (
        partial(cost, net=DEEP, params=params(DEEP), loss=CE, y=CLASSES),
        ValueError,
        ["CrossEntropy()", "BinaryCrossEntropy()", "(6, 1)"],
    ),
    "classes for several answers": (
        partial(cost, loss=BCE, y=CLASSES),
        ValueError,
        ["BinaryCrossEntropy()", "one target for 2 outputs", "use CrossEntropy()"],
    ),
    "one target for two outputs": (
        partial(cost, y=Y[:, :1]),
        ValueError,
        ["SquaredError()", "one target for 2 outputs", "Dense(…, 1)"],
    ),
    "a tape of text": (
        lambda: fn.gradient(NET, "tape", ()),
        TypeError,
        ["tape: expected arrays", "fn.forward(net, params, x)", "'tape'"],
    ),
    "no matrices": (lambda: fn.from_weights(NET, None), TypeError, ["ws: expected a list", "None"]),
    "no axes": (lambda: fn.plot_weights(NET, params(), (1, 3), ax=3), TypeError, ["ax: expected matplotlib's axes"]),
    "a name that cannot be one": (
        lambda: fn.plot_decision_regions(PLANE, params(PLANE), X[:, :2], LABELS, names=3),
        ValueError,
        ["names must be those of the two inputs, got 3"],
    ),
    "a sweep of no names": (
        lambda: fn.fit_many(NET, fn.SquaredError(), SGD, (X, Y), epochs=1, batch_size=3, sweep=[1]),
        TypeError,
        ["sweep: expected names and their values", "[1]"],
    ),
    "a layer for a function": (
        lambda: fn.check_function(None, params(), X),
        TypeError,
        ["f: expected a function of params and x", "None"],
    ),
    "no class": (lambda: fn.spec("Layer"), TypeError, ["spec: cls: expected a class"]),
}


@pytest.mark.parametrize("name", ROWS)
def test_message(name):
    call, kind, fragments = ROWS[name]
    with pytest.raises(kind) as error:
        call()
    for fragment in fragments:
        assert fragment in str(error.value), str(error.value)


def test_advice_for_labels_leads_to_something_that_works():
    right = fn.cost(**{**RIGHT, "loss": CE, "y": CLASSES})
    _, numbered = np.unique(TEXTS, return_inverse=True)
    one_hot, floats = jnp.eye(2, dtype=int)[CLASSES], CLASSES.astype(X.dtype)
    for y in (numbered, one_hot.argmax(-1), floats.astype(int), floats[:, None][..., 0].astype(int)):
        assert cost(loss=CE, y=y) == right


def test_a_training_with_integers_of_numpy_is_that_with_pythons(tmp_path):
    numbers = {"epochs": np.int64(1), "batch_size": np.int8(3), "telemetry": np.uint8(1), "accumulate": np.int32(3)}
    fit(checkpoint=fn.Checkpoint(tmp_path), **numbers)
    plain = {name: int(value) for name, value in numbers.items()} | {"epochs": 2}
    _, history = fit(checkpoint=fn.Checkpoint(tmp_path), **plain)  # of another training it would be refused
    assert history.epochs == 2


def test_every_public_function_has_a_right_call():
    called = {re.split(r"\W", name)[0] for name in right_calls.CALLS}
    values = {name: getattr(fn, name) for name in fn.__all__}
    functions = {name for name, value in values.items() if inspect.isfunction(value)}
    records = {name for name, value in values.items() if isinstance(value, type) and dataclasses.is_dataclass(value)}
    taking = functions | {name for name in records if dataclasses.fields(values[name])}
    results = {"Diagnosis", "Verdict"}
    files = {"save_model", "load_model", "to_json", "from_json"}  # tested in tests/io
    assert taking - called == results | files


def test_a_sample_of_wrong_calls_is_answered_in_own_words():
    found = [one for each in wrong_arguments.count(("Dense", "L2", "windows", "mlp", "as_cost")) for one in each]
    wrong = [one for one in found if one.kind in ("unnamed", "internal", "accepted", "slow")]
    assert len(found) > 800
    assert not wrong, wrong
