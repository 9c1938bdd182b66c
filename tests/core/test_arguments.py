"""Bad input: what is wrong, what was expected, what came, what to change. One row each."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from table import KEY, Scale, params_of, random

import funcnet as fn

NET = fn.mlp((3, 4, 2))
PARAMS = params_of(NET)
X, Y = random(1, 6, 3), random(2, 6, 2)
LABELS = jnp.array([0, 1, 0, 1, 0, 1])
SE, CE, BCE = fn.SquaredError(), fn.CrossEntropy(), fn.BinaryCrossEntropy()


def run(net=NET, loss=SE, params=PARAMS, x=X, y=Y, **options):
    return lambda: fn.value_and_grad(net, loss, params, x, y, **options)


def without(*path):
    params = [dict(layer) if layer else layer for layer in PARAMS]
    del params[path[0]][path[1]]
    return tuple(params)


def half(*names):
    functions = {name: getattr(Scale, name) for name in names}
    return fn.spec(type("Half", (), functions | {"__annotations__": {"n": int}}))(3)


ROWS = {
    "feature count": (run(x=random(0, 6, 5)), ValueError, ["Dense(3, 4)", "3 features", "(6, 5)", "previous layer"]),
    "one example without its axis": (
        run(x=X[0], y=Y[0]),
        ValueError,
        ["x", "(m, *positions, features)", "(3,)", "x[None]"],
    ),
    "params of another network": (
        run(params=params_of(fn.mlp((3, 5, 2)))),
        ValueError,
        ["layer 1, b", "(5,)", "(4,)", "fn.init"],
    ),
    "missing leaf": (run(params=without(2, "b")), ValueError, ["layer 2, b is missing", "fn.init"]),
    "extra leaf": (
        run(params=({**PARAMS[0], "c": jnp.ones(1)}, *PARAMS[1:])),
        ValueError,
        ["layer 1, c is not a parameter of this network"],
    ),
    "params in a list": (run(params=list(PARAMS)), ValueError, ["structure"]),
    "integer params": (
        run(params=jax.tree.map(lambda p: p.astype(int), PARAMS)),
        TypeError,
        ["layer 1, b is int64", "floating"],
    ),
    "lengths of x and y": (run(y=Y[:5]), ValueError, ["x has 6 examples", "(5, 2)", "in the order x, y"]),
    "x and y swapped": (run(x=Y, y=X), ValueError, ["Dense(3, 4)", "3 features", "(6, 2)"]),
    "output (m, 1) against y (m,)": (
        run(net=fn.mlp((3, 1)), params=params_of(fn.mlp((3, 1))), y=Y[:, 0]),
        ValueError,
        ["SquaredError()", "(6, 1)", "(6,)", "y[..., None]"],
    ),
    "classes as a column": (
        run(loss=CE, y=LABELS[:, None]),
        ValueError,
        ["CrossEntropy()", "(6,)", "(6, 1)", "y[..., 0]"],
    ),
    "integer x": (run(x=jnp.ones((6, 3), int)), TypeError, ["Dense(3, 4)", "int64", "float64", "x.astype"]),
    "float32 x": (run(x=X.astype(np.float32)), TypeError, ["layer 1, b is float64", "x is float32", "astype"]),
    "float32 y": (run(y=Y.astype(np.float32)), TypeError, ["SquaredError()", "float64", "float32", "y.astype"]),
    "integer y for a regression": (run(y=jnp.ones((6, 2), int)), TypeError, ["SquaredError()", "int64", "y.astype"]),
    "labels out of range": (run(loss=CE, y=LABELS.at[3].set(2)), ValueError, ["CrossEntropy()", "0 … 1", "y[3] is 2"]),
    "negative label": (run(loss=CE, y=LABELS.at[4].set(-1)), ValueError, ["0 … 1", "y[4] is -1"]),
    "labels as floats": (run(loss=CE, y=LABELS.astype(float)), ValueError, ["probabilities", "(6, 2)", "(6,)"]),
    "labels as booleans": (run(loss=CE, y=LABELS > 0), TypeError, ["integer classes", "bool", "astype(int)"]),
    "probabilities that do not sum to 1": (run(loss=CE, y=abs(Y)), ValueError, ["sum to 1", "y[0]"]),
    "binary targets outside 0 and 1": (run(loss=BCE, y=Y), ValueError, ["0 … 1", "y["]),
    "x not finite": (run(x=X.at[2, 1].set(jnp.nan)), ValueError, ["x[2, 1] is nan", "weight 0"]),
    "y not finite": (run(y=Y.at[5, 0].set(jnp.inf)), ValueError, ["y[5, 0] is inf"]),
    "predict with x not finite": (
        lambda: fn.predict(NET, PARAMS, X.at[2, 1].set(jnp.inf)),
        ValueError,
        ["x[2, 1] is inf"],
    ),
    "negative weights": (run(weights=jnp.array([1.0, 1, -2, 1, 1, 1])), ValueError, ["weights", "0 or more", "-2.0"]),
    "weights not finite": (run(weights=jnp.full(6, jnp.nan)), ValueError, ["weights[0] is nan"]),
    "weights of a wrong length": (run(weights=jnp.ones(5)), ValueError, ["weights", "(6,)", "(5,)"]),
    "a key where none is used": (
        run(key=jax.random.key(0)),
        ValueError,
        ["key", "no layer", "Leave key out", 'takes = ("key",)'],
    ),
    "a seed as a key": (
        run(net=fn.Dropout(0.5), params=(), y=X, key=0),
        TypeError,
        ["key", "jax.random.key(seed)", "0"],
    ),
    "too few keys": (
        run(net=fn.Dropout(0.5), params=(), y=X, key=jax.random.split(jax.random.key(0), 4)),
        TypeError,
        ["split(key, 6)", "(4,)"],
    ),
    "init with a seed": (lambda: fn.init(NET, 0), TypeError, ["jax.random.key(seed)", "0"]),
    "init with several keys": (
        lambda: fn.init(NET, jax.random.split(jax.random.key(0), 2)),
        TypeError,
        ["one key", "(2,)"],
    ),
    "reduction": (run(reduction="average"), ValueError, ["'mean' or 'sum'", "'average'"]),
    "penalty": (run(penalty=0.1), TypeError, ["penalty", "L2(1e-4)", "0.1"]),
    "penalty on nothing": (
        run(penalty=fn.L2(0.1, on=("kernel",))),
        ValueError,
        ["no parameter is named kernel", "['b', 'w']", "on="],
    ),
    "penalty of several strengths": (run(penalty=fn.L2(jnp.ones(3))), ValueError, ["(3,)", "jax.vmap"]),
    "negative strength": (lambda: fn.ElasticNet(0.1, -1), ValueError, ["ElasticNet", "l2", "-1"]),
    "loss class": (run(loss=fn.SquaredError), TypeError, ["loss", "SquaredError()"]),
    "loss without delta": (run(loss=NET), TypeError, ["loss", "lacks value"]),
    "network class": (lambda: fn.predict(fn.Tanh, (), X), TypeError, ["net", "the class Tanh"]),
    "no network": (lambda: fn.predict(3, (), X), TypeError, ["net", "3", "lacks init, forward, backward, gradient"]),
    "a layer that lacks backward": (
        lambda: fn.predict(half("init", "forward", "gradient"), (), X),
        TypeError,
        ["Half", "lacks backward"],
    ),
    "a layer that lacks gradient, in a chain": (
        lambda: fn.Chain(fn.Tanh(), half("init", "forward", "backward")),
        TypeError,
        ["layers[1]", "Half lacks gradient"],
    ),
    "size of zero": (lambda: fn.Dense(0, 2), ValueError, ["Dense(0, 2)", "1 or more"]),
    "negative size": (lambda: fn.LayerNorm(-1), ValueError, ["LayerNorm(-1)", "1 or more"]),
    "dropout of everything": (lambda: fn.Dropout(1.0), ValueError, ["Dropout(1.0)", "below 1"]),
    "slope of zero": (lambda: fn.LeakyReLU(0.0), ValueError, ["LeakyReLU(0.0)", "ReLU()"]),
    "alpha of zero": (lambda: fn.ELU(0.0), ValueError, ["ELU(0.0)", "ReLU()"]),
    "threshold of zero": (lambda: fn.Huber(0.0), ValueError, ["Huber(0.0)", "positive"]),
    "smoothing of one": (lambda: fn.CrossEntropy(1.0), ValueError, ["CrossEntropy(1.0)", "below 1"]),
    "negative epsilon": (lambda: fn.Uniform(-1.0), ValueError, ["Uniform", "-1.0"]),
    "sizes that do not meet": (
        lambda: fn.Chain(fn.Dense(2, 3), fn.Tanh(), fn.Dropout(0.1), fn.Dense(4, 1)),
        ValueError,
        ["Dense(2, 3) gives 3 features", "Dense(4, 1) takes 4"],
    ),
    "sizes of nested chains that do not meet": (
        lambda: fn.Chain(fn.Chain(fn.Tanh(), fn.Dense(2, 3)), fn.Residual(fn.Tanh()), fn.LayerNorm(4)),
        ValueError,
        ["gives 3 features", "LayerNorm(4) takes 4"],
    ),
    "a residual that changes the size": (
        lambda: fn.Residual(fn.Chain(fn.Dense(2, 3), fn.Tanh())),
        ValueError,
        ["takes 2 features and gives 3", "cannot be added"],
    ),
    "one size": (lambda: fn.mlp((3,)), ValueError, ["two sizes", "(3,)"]),
    "too few matrices": (
        lambda: fn.from_weights(NET, [np.ones((3, 4))]),
        ValueError,
        ["ws has 1 entries", "layer 1, w; layer 2, w"],
    ),
    "a transposed matrix": (
        lambda: fn.from_weights(NET, [np.ones((4, 3)), np.ones((4, 2))]),
        ValueError,
        ["layer 1, w", "(4, 3)", "(3, 4)", "(from, to)", 'order="to,from"?'],
    ),
    "an unknown order": (
        lambda: fn.from_weights(NET, [], order="from, to"),
        ValueError,
        ["order: expected 'from,to' or 'to,from', got 'from, to'"],
    ),
    "too few biases": (
        lambda: fn.from_weights(NET, [np.ones((3, 4)), np.ones((4, 2))], [np.ones(3), 0.0]),
        ValueError,
        ["layer 1, b", "(3,)", "(4,)", "one number"],
    ),
    "biases where there are none": (
        lambda: fn.from_weights(fn.Dense(1, 1, bias=False), [[[1.0]]], [0.0]),
        ValueError,
        ["bs has 1 entries", "0: none"],
    ),
    "one example to check a layer": (
        lambda: fn.check_layer(fn.Tanh(), (), X[:1]),
        ValueError,
        ["two examples or more", "got 1"],
    ),
    "a function that narrows": (
        lambda: fn.check_function(lambda p, x: (p * x).astype(jnp.float32), jnp.ones(()), jnp.ones(3)),
        TypeError,
        ["float32", "float64", "cast"],
    ),
    "backward of another type": (
        lambda: fn.backward(NET, PARAMS, fn.forward(NET, PARAMS, X)[1], Y.astype(np.float32)),
        TypeError,
        ["float64", "float32"],
    ),
    "delta of integers": (
        lambda: fn.backward(NET, PARAMS, fn.forward(NET, PARAMS, X)[1], np.ones((6, 2), int)),
        TypeError,
        ["delta", "int64", "∂J/∂output"],
    ),
    "delta of booleans": (
        lambda: fn.backward(NET, PARAMS, fn.forward(NET, PARAMS, X)[1], np.ones((6, 2), bool)),
        TypeError,
        ["delta", "bool", "∂J/∂output"],
    ),
    "x of one example to a function": (lambda: fn.as_function(NET)(PARAMS, X[0]), ValueError, ["x[None]"]),
}


BP = fn.backprop(NET, SE, PARAMS, X, Y)
STATE = fn.train_state(optax.sgd(0.1), PARAMS, jax.random.key(0))


def fit(**options):
    options = {"epochs": 1, "batch_size": 3} | options
    return fn.fit(NET, SE, optax.sgd(0.1), STATE, (X, Y), **options)


def fit_many(**options):
    options = {"epochs": 1, "batch_size": 3} | options
    return fn.fit_many(NET, SE, optax.sgd(0.1), (X, Y), **options)


def diagnose(**options):
    return fn.diagnose(NET, SE, PARAMS, X, Y, **options)


def needs(**options):
    return fn.noise_multiplier(
        **{"epsilon": 2.0, "delta": 1e-5, "examples": 60, "batch_size": 6, "epochs": 2} | options
    )


# What takes a whole number, a flag or a seed: its caller, its name, and a few values that are none.
PRIVATE = {"max_norm": 1, "noise_multiplier": 1, "expected_batch_size": 1}
NO_INTEGER, NO_FLAG, NO_SEED = (True, 2.5, "3", None, -1), (1, 0.5, "False", None), (0.2, True, -1, 2**32, "0")
TAKES = [
    (fit, "epochs", NO_INTEGER), (fit, "batch_size", NO_INTEGER), (fit, "accumulate", NO_INTEGER),
    (fit, "telemetry", NO_INTEGER), (fit, "progress", NO_FLAG),
    (fit_many, "epochs", NO_INTEGER), (fit_many, "progress", NO_FLAG),
    *[(lambda seeds, call=fit_many: call(seeds=(0, seeds)), "seeds", (value,)) for value in NO_SEED],
    (fit, "trainable", (0.5, "False", 1)), (fit_many, "trainable", (0.5, "False", 1)),
    (partial(fn.Checkpoint, "folder"), "keep", NO_INTEGER),
    (partial(fn.Checkpoint, "folder"), "seconds", (np.nan, -1, True, "30")),
    (partial(fn.Checkpoint, "folder"), "overwrite", NO_FLAG), (partial(fn.Checkpoint, "folder"), "name", (3, None)),
    (fn.Checkpoint, "directory", (3, None, True)), (fit, "on_epoch", (3, "print")), (fit_many, "on_epoch", (3,)),
    (partial(fn.Privacy, 1.0, 1.0), "per_layer", NO_FLAG),
    (partial(fn.EarlyStopping, "cost"), "patience", NO_INTEGER),
    (partial(fn.EarlyStopping, "cost"), "min_change", (np.nan, True, "0", -1)),
    (partial(fn.EarlyStopping, "cost"), "start_from_epoch", NO_INTEGER), (fit, "non_finite", ("ignore", None, True)),
    (fn.BinaryCrossEntropy, "positive_weight", (np.nan, True, "2", 0.0, -1)),
    (fn.TopK, "k", NO_INTEGER),
    (partial(fn.Dense, 2), "n_out", NO_INTEGER[:-1]), (partial(fn.Dense, 2, 2), "bias", NO_FLAG),
    (partial(fn.FeedbackAlignment, NET), "seed", NO_SEED),
    (partial(fn.scale_by_kfac, NET, SE), "seed", NO_SEED), (partial(fn.scale_by_kfac, NET, SE), "every", NO_INTEGER),
    (partial(fn.scale_by_kfac, NET, SE), "damping", (np.nan, -1)),
    (partial(fn.example_square_norms, NET, BP), "per_layer", NO_FLAG),
    (partial(fn.clipped_gradient, NET, BP, 1.0), "per_layer", NO_FLAG),
    (partial(fn.clipped_gradient, NET, BP, 1.0), "trainable", (0.5, "False", 1)),
    (partial(fn.private_gradient, NET, BP, KEY, **PRIVATE), "per_layer", NO_FLAG),
    (diagnose, "batch_size", (True, 2.5, "3", -1)), (diagnose, "progress", NO_FLAG),
    (partial(fn.check_gradients, NET, SE, PARAMS, X, Y), "entries", NO_INTEGER),
    (partial(fn.check_gradients, NET, SE, PARAMS, X, Y), "seed", NO_SEED),
    (partial(fn.check_layer, NET, PARAMS, X), "entries", NO_INTEGER),
    (partial(fn.check_layer, NET, PARAMS, X), "seed", NO_SEED),
    (partial(fn.check_function, jnp.sin, X, X), "entries", NO_INTEGER),
    (partial(fn.check_function, jnp.sin, X, X), "seed", NO_SEED),
    (partial(fn.explain, NET, SE, PARAMS, X, Y, (1, 0, 0)), "example", (True, 2.5, "3", -1)),
    (partial(fn.explain, NET, SE, PARAMS, X, Y, (1, 0, 0)), "largest", NO_INTEGER),
    (partial(fn.explain, NET, SE, PARAMS, X, Y, (1, 0, 0)), "digits", NO_INTEGER),
    (partial(fn.worksheet, NET, SE, PARAMS, X, Y), "learning_rate", (np.nan, True, "0", -1)),
    (partial(fn.plot_cost_surface, NET, SE, PARAMS, X, Y, [(1, 0, 0), (1, 0, 1)]), "points", NO_INTEGER),
    (partial(fn.plot_weights, NET, PARAMS, shape=(1, 3)), "most", NO_INTEGER),
    (needs, "epsilon", (np.nan, np.inf, True, "2", 0)), (needs, "delta", (np.nan, True, "2", 0, 1)),
    (needs, "examples", NO_INTEGER), (needs, "batch_size", (*NO_INTEGER, 61)), (needs, "epochs", NO_INTEGER),
]  # fmt: skip


@pytest.mark.fast
@pytest.mark.parametrize(
    ("call", "name", "value"),
    [pytest.param(call, name, value, id=f"{name} {value!r}") for call, name, values in TAKES for value in values],
)
def test_what_is_no_number_no_flag_and_no_seed_is_refused_by_name(call, name, value):
    with pytest.raises((TypeError, ValueError)) as error:
        call(**{name: value})
    assert name in str(error.value)
    assert repr(value) in str(error.value)


@pytest.mark.parametrize("name", ROWS)
def test_message(name):
    call, kind, fragments = ROWS[name]
    with pytest.raises(kind) as error:
        call()
    for fragment in fragments:
        assert fragment in str(error.value), str(error.value)


SHAPES = [
    name for name in ROWS if any(word in name for word in ("count", "lengths", "against", "leaf", "another network"))
]


@pytest.mark.parametrize("name", SHAPES)
def test_what_shapes_tell_is_refused_under_jit_too(name):
    call, kind, fragments = ROWS[name]
    with pytest.raises(
        kind, match="|".join(fragment.replace("(", r"\(").replace(")", r"\)") for fragment in fragments[:1])
    ):
        jax.jit(lambda: call())()


def test_several_valid_shapes_of_weights_are_named():
    with pytest.raises(ValueError, match=r"\(4,\) or \(4, 2\)"):
        fn.cost(NET, SE, PARAMS, random(0, 4, 2, 3), random(0, 4, 2, 2), weights=jnp.ones((4, 3)))


def test_labels_are_seen_before_anything_is_computed():
    calls = []

    @fn.spec
    class Counted:
        def init(self, key):
            return ()

        def forward(self, params, x, key=None):
            calls.append(isinstance(x, jax.core.Tracer))
            return x, ()

        def backward(self, params, tape, delta):
            return delta, delta

        def gradient(self, tape, deltas):
            return ()

    for loss, y in ((CE, LABELS.at[3].set(2)), (BCE, Y), (SE, Y[:, 0])):
        with pytest.raises(ValueError, match="y"):
            fn.value_and_grad(fn.Chain(Counted(), fn.Dense(3, 2)), loss, ((), params_of(fn.Dense(3, 2))), X, y)
    assert all(calls)  # traced for its shapes, never run


def test_labels_that_cannot_be_seen_make_the_cost_nan():
    J, grads = jax.jit(fn.value_and_grad)(NET, CE, PARAMS, X, LABELS.at[3].set(7))
    assert np.isnan(J)
    assert all(np.isnan(leaf).any() for leaf in jax.tree.leaves(grads))


def test_a_dead_example_may_hold_anything():
    weights = jnp.ones(6).at[3].set(0)
    for loss, y in ((CE, LABELS.at[3].set(-100)), (SE, Y.at[3].set(jnp.nan)), (BCE, abs(Y * 0).at[3].set(9))):
        assert np.isfinite(fn.cost(NET, loss, PARAMS, X.at[3].set(jnp.nan), y, weights=weights))
