"""Estimators beside scikit-learn's own: the same numbers where the same is done, and its checks, whole."""

import importlib
import pickle
import sys

import jax
import numpy as np
import pandas as pd
import pytest
import sklearn.neural_network as theirs
from scipy.sparse import csr_array
from sklearn.datasets import load_breast_cancer, load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from sklearn.utils.estimator_checks import check_estimator

import funcnet as fn
import funcnet.sklearn as ours
from funcnet.sklearn import MLPClassifier, MLPRegressor, estimator, solvers
from funcnet.sklearn.solvers import Plateau

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*iprint.*:DeprecationWarning"),  # scikit-learn 1.7 calls SciPy with it
]

IRIS, KINDS = load_iris(return_X_y=True)
CELLS, ILL = (a[:90] for a in load_breast_cancer(return_X_y=True))
CELLS = scale(CELLS)
NUMBERS = np.stack([CELLS[:, 0] * CELLS[:, 1], np.sin(CELLS[:, 2])], -1)
LABELS = np.stack([ILL, 1 - ILL, CELLS[:, 0] > 0], -1).astype(int)
SMALL = {"hidden_layer_sizes": (6,), "random_state": 3, "max_iter": 40}


def distance(a, b):
    """The largest difference of parameters, over the largest entry of each."""
    pairs = zip(a.coefs_ + a.intercepts_, b.coefs_ + b.intercepts_, strict=True)
    return max(np.abs(p - q).max() / np.abs(q).max() for p, q in pairs)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("kind", "data", "options", "bound"),
    [
        ("MLPClassifier", (IRIS, KINDS), {"solver": "sgd", "alpha": 0.3}, 1e-12),
        ("MLPClassifier", (IRIS, KINDS), {"solver": "adam", "epsilon": 1e-16, "activation": "tanh"}, 1e-7),
        ("MLPClassifier", (CELLS, ILL), {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.05}, 1e-12),
        ("MLPClassifier", (CELLS, LABELS), {"solver": "lbfgs", "max_iter": 8}, 1e-9),
        ("MLPRegressor", (CELLS, NUMBERS[:, 0]), {"solver": "lbfgs", "max_iter": 8, "hidden_layer_sizes": (5,)}, 1e-9),
        (
            "MLPRegressor",
            (CELLS, NUMBERS[:, 1]),
            {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.2, "activation": "logistic", "momentum": 0.5,
             "nesterovs_momentum": False},
            1e-12,
        ),
    ],
)  # fmt: skip
def test_the_same_numbers_as_scikit_learn(kind, data, options, bound):
    one, other = (getattr(module, kind)(**SMALL | options).fit(*data) for module in (ours, theirs))
    assert distance(one, other) <= bound
    assert one.n_iter_ == other.n_iter_
    assert one.loss_ == pytest.approx(other.loss_, rel=bound * 100)
    assert (one.out_activation_, one.n_layers_, one.n_outputs_) == (
        other.out_activation_, other.n_layers_, other.n_outputs_,
    )  # fmt: skip
    assert one.score(*data) == pytest.approx(other.score(*data), rel=bound * 100)
    assert np.allclose(one.predict(data[0]), other.predict(data[0]), rtol=bound * 100)
    if kind == "MLPClassifier":
        assert np.array_equal(one.classes_, other.classes_)
        assert np.allclose(one.predict_proba(data[0]), other.predict_proba(data[0]), atol=bound * 100)
        assert np.allclose(one.predict_log_proba(data[0]), other.predict_log_proba(data[0]), atol=1e-6)
    if options["solver"] != "lbfgs":
        assert np.allclose(one.loss_curve_, other.loss_curve_, rtol=bound * 100)
        assert one.best_loss_ == pytest.approx(other.best_loss_, rel=bound * 100)
        assert one.t_ == other.t_


@pytest.mark.thorough
@pytest.mark.parametrize("estimator", [MLPClassifier(max_iter=100), MLPRegressor(max_iter=100)], ids=repr)
def test_scikit_learns_checks(estimator):
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    status = {result["check_name"]: result["status"] for result in results}
    skipped = {"check_array_api_input", "check_classifiers_multilabel_output_format_decision_function"}
    assert {name for name, said in status.items() if said != "passed"} <= skipped
    assert len(status) > 50


def test_tables_of_nearly_as_many_rows_share_a_program():
    X, y = load_digits(return_X_y=True)
    X, y = X[:403] / 16, y[:403]
    before = len(solvers.run.kinds)
    grid = GridSearchCV(
        make_pipeline(StandardScaler(), MLPClassifier(**SMALL | {"max_iter": 3})),
        {"mlpclassifier__alpha": [0.0, 1e-2], "mlpclassifier__learning_rate_init": [1e-3, 1e-2]},
        cv=KFold(3),
        refit=False,
    ).fit(X, y)
    assert len(solvers.run.kinds) == before + 1
    assert grid.best_params_["mlpclassifier__learning_rate_init"] == 1e-2
    for folds, row in enumerate((7, 16), 2):  # 128 and 129 rows, 140 and 141
        cross_val_score(MLPClassifier(**SMALL | {"max_iter": 3}), IRIS, KINDS, cv=KFold(row, shuffle=True))
        assert len(solvers.run.kinds) <= before + folds


@pytest.mark.fast
@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_a_weight_counts_as_so_many_rows(solver):
    X, y = IRIS[::2], KINDS[::2]
    weights = np.arange(len(X)) % 4
    model = MLPClassifier(**SMALL | {"solver": solver, "max_iter": 10, "alpha": 0.5})
    weighted = model.fit(X, y, sample_weight=weights)
    model = MLPClassifier(**model.get_params())
    repeated = model.fit(X.repeat(weights, 0), y.repeat(weights))
    assert distance(weighted, repeated) <= 1e-9


def test_class_weights_are_those_of_the_rows():
    names = np.array(["setosa", "versicolor", "virginica"])[KINDS][:120]
    X, weights = IRIS[:120], {"setosa": 1.0, "versicolor": 1.0, "virginica": 2.5}
    options = SMALL | {"solver": "sgd", "max_iter": 5}
    for class_weight in (weights, "balanced"):
        chosen = weights if class_weight is weights else {"setosa": 0.8, "versicolor": 0.8, "virginica": 2.0}
        by_class = MLPClassifier(**options, class_weight=class_weight).fit(X, names)
        by_row = MLPClassifier(**options).fit(X, names, sample_weight=[chosen[name] for name in names])
        assert distance(by_class, by_row) <= 1e-12
        assert by_class.classes_.tolist() == ["setosa", "versicolor", "virginica"]
        assert set(by_class.predict(X)) <= set(names)


def test_early_stopping_gives_the_best_epoch_back():
    options = SMALL | {"solver": "sgd", "learning_rate_init": 0.05, "n_iter_no_change": 4, "max_iter": 60}
    for model, data in ((MLPClassifier, (IRIS, KINDS)), (MLPRegressor, (CELLS, NUMBERS))):
        stopped = model(**options, early_stopping=True, tol=0.0).fit(*data)
        scores = stopped.validation_scores_
        assert len(scores) == stopped.n_iter_ == len(stopped.loss_curve_) < 60
        assert max(scores) == stopped.best_validation_score_
        assert stopped.best_loss_ is None
        best = int(np.argmax(scores)) + 1
        until_then = model(**options | {"max_iter": best}, early_stopping=True, tol=0.0).fit(*data)
        assert distance(stopped, until_then) == 0


def test_a_score_that_is_never_a_number_costs_no_training():
    flat = np.stack([CELLS[:, 0], np.ones(90)], -1)  # R² of what never varies is NaN
    model = MLPRegressor(**SMALL | {"max_iter": 5}, early_stopping=True).fit(CELLS, flat)
    assert np.isnan(model.validation_scores_).all()
    assert distance(model, MLPRegressor(**SMALL | {"max_iter": 1}, early_stopping=True).fit(CELLS, flat)) > 1e-4


def test_a_table_is_filled_up_to_the_same_rows_whatever_comes_between(monkeypatch):
    monkeypatch.setattr(estimator, "ROWS", [])
    assert [estimator.rows_for(m) for m in (144, 130, 144, 143, 161, 162)] == [160, 144, 160, 144, 176, 176]
    model = MLPClassifier(**SMALL | {"max_iter": 1}).fit(IRIS, KINDS)
    before = list(estimator.ROWS)
    model.predict(IRIS[:20])
    assert before == estimator.ROWS


def test_epochs_one_by_one_and_from_a_file_are_those_of_a_whole_training():
    options = SMALL | {"solver": "sgd", "max_iter": 3}
    whole = MLPClassifier(**options).fit(IRIS, KINDS)
    parts = MLPClassifier(**options)
    for _ in range(3):
        parts = pickle.loads(pickle.dumps(parts.partial_fit(IRIS, KINDS, classes=[0, 1, 2])))
    assert distance(parts, whole) <= 1e-14
    assert (parts.t_, parts.n_iter_, len(parts.loss_curve_)) == (450, 1, 3)
    with pytest.raises(ValueError, match=r"y: expected the classes \[0 1 2\] of the first call, got \[0 3\]"):
        parts.partial_fit(IRIS[:4], [0, 3, 0, 3])
    numbers = MLPRegressor(**options).partial_fit(CELLS, NUMBERS)
    with pytest.raises(ValueError, match="y: expected 2 outputs, as in the first call, got 1"):
        numbers.partial_fit(CELLS, NUMBERS[:, 0])


def test_a_warm_start_goes_on():
    options = SMALL | {"solver": "sgd", "max_iter": 5}
    model = MLPClassifier(**options, warm_start=True).fit(IRIS, KINDS)
    first = model.loss_
    again = model.fit(IRIS, KINDS)
    assert again.loss_ < first
    assert len(again.loss_curve_) == 10
    assert again.n_iter_ == 5
    with pytest.raises(ValueError, match=r"warm_start goes on with the classes \[0 1 2\], got \[0 1\]"):
        again.fit(IRIS[:100], KINDS[:100])


def test_any_network():
    X, y = load_digits(return_X_y=True)
    images, y = X[:200].reshape(-1, 8, 8, 1) / 16, y[:200]
    net = fn.Chain(fn.Conv(1, 4, (3, 3), stride=2), fn.ReLU(), fn.Flatten(), fn.Dense(64, 10))
    model = MLPClassifier(net=net, random_state=0, max_iter=40, learning_rate_init=0.02).fit(images, y)
    assert model.score(images, y) > 0.8
    assert np.allclose(model.predict_proba(images).sum(-1), 1)
    logits = fn.predict(model.net_, model.params_, images)
    assert np.array_equal(logits.argmax(-1), model.predict(images))
    tokens = np.random.default_rng(0).integers(0, 5, (60, 6))
    read = fn.Chain(fn.Embedding(5, 4), fn.Flatten(), fn.Dense(24, 1))
    reader = MLPRegressor(net=read, random_state=0, solver="lbfgs", alpha=0.0).fit(tokens, tokens.sum(-1))
    assert reader.score(tokens, tokens.sum(-1)) > 0.99
    two = MLPClassifier(net=fn.mlp((30, 2)), random_state=0, solver="lbfgs").fit(CELLS, ILL)
    assert two.out_activation_ == "softmax"
    assert two.score(CELLS, ILL) > 0.95
    for wrong, words in ((fn.mlp((30, 3)), r"3 outputs, but y needs 1 or 2"), (fn.Dense, "net: expected a layer")):
        with pytest.raises((TypeError, ValueError), match=words):
            MLPClassifier(net=wrong).fit(CELLS, ILL)


def test_the_type_is_that_of_the_table():
    jax.config.update("jax_enable_x64", False)
    try:
        for dtype in (np.float32, np.float64):
            model = MLPClassifier(**SMALL | {"max_iter": 2}).fit(IRIS.astype(dtype), KINDS)
            assert {leaf.dtype for leaf in model.coefs_ + model.intercepts_} == {np.dtype(dtype)}
            assert model.predict_proba(IRIS).dtype == dtype
            assert not jax.config.jax_enable_x64
    finally:
        jax.config.update("jax_enable_x64", True)


def test_tables_of_pandas_and_sparse_ones():
    frame = pd.DataFrame(IRIS, columns=["sepal length", "sepal width", "petal length", "petal width"])
    plain, framed, sparse = (
        MLPClassifier(**SMALL | {"max_iter": 2}).fit(X, KINDS) for X in (IRIS, frame, csr_array(IRIS))
    )
    assert distance(framed, plain) == distance(sparse, plain) == 0
    assert framed.feature_names_in_.tolist() == list(frame.columns)
    assert np.array_equal(sparse.predict(csr_array(IRIS)), plain.predict(IRIS))
    labels = MLPClassifier(**SMALL | {"max_iter": 2}).fit(CELLS, csr_array(LABELS))
    assert labels.predict(CELLS).shape == LABELS.shape


def test_several_labels_and_several_numbers():
    model = MLPClassifier(**SMALL | {"max_iter": 60, "learning_rate_init": 0.05}).fit(CELLS, LABELS)
    assert model.predict(CELLS).shape == model.predict_proba(CELLS).shape == (90, 3)
    assert model.score(CELLS, LABELS) > 0.8
    watched = MLPClassifier(**SMALL, early_stopping=True).fit(CELLS, LABELS)
    assert all(round(score * 9) == pytest.approx(score * 9) for score in watched.validation_scores_)
    numbers = MLPRegressor(**SMALL | {"max_iter": 200, "learning_rate_init": 0.02}).fit(CELLS, NUMBERS)
    assert numbers.predict(CELLS).shape == (90, 2)
    assert numbers.score(CELLS, NUMBERS) > 0.8
    robust = MLPRegressor(fn.Huber(0.5), **SMALL).fit(CELLS, NUMBERS[:, 0])
    assert robust.predict(CELLS).shape == (90,)
    assert robust.loss_curve_[-1] < robust.loss_curve_[0]


def test_one_class_alone():
    model = MLPClassifier(**SMALL).fit(IRIS[:50], ["setosa"] * 50)
    assert set(model.predict(IRIS)) == {"setosa"}
    assert model.predict_proba(IRIS).shape == (150, 1)


def test_dropout_draws():
    options = SMALL | {"max_iter": 2, "solver": "sgd"}
    plain, dropped, again = (MLPClassifier(**options, dropout=rate).fit(IRIS, KINDS) for rate in (0.0, 0.5, 0.5))
    assert distance(dropped, plain) > 1e-3
    assert distance(dropped, again) == 0
    assert np.array_equal(dropped.predict_proba(IRIS[:7]), dropped.predict_proba(IRIS)[:7])


@pytest.mark.fast
def test_the_rule_that_ends_a_training():
    rule = Plateau(tol=0.1, patience=2, best=np.inf)
    seen = [(rule.sees(value), rule.waited, rule.ends) for value in (1.0, 0.95, 0.92, 0.5, 0.45, 0.6, 0.5)]
    assert seen == [
        (True, 0, False), (True, 1, False), (True, 2, False), (True, 0, False), (True, 1, False), (False, 2, False),
        (False, 3, True),
    ]  # fmt: skip
    assert rule.best == 0.45


def test_progress_is_printed(capsys):
    model = MLPClassifier(**SMALL | {"max_iter": 2}, verbose=True).fit(IRIS, KINDS)
    assert capsys.readouterr().out == "".join(
        f"Iteration {i}, loss = {loss:.8f}\n" for i, loss in enumerate(model.loss_curve_, 1)
    )
    MLPClassifier(**SMALL | {"max_iter": 2, "solver": "lbfgs"}, verbose=True).fit(IRIS, KINDS)
    assert capsys.readouterr().out.count("\n") == 2
    MLPClassifier(**SMALL | {"max_iter": 1}, verbose=True, early_stopping=True).fit(IRIS, KINDS)
    assert "validation score 0." in capsys.readouterr().out


def test_an_interrupted_training_keeps_what_it_learned(monkeypatch):
    calls, run = [], solvers.run

    def cut(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return run(*arguments)

    monkeypatch.setattr(solvers, "run", cut)
    calls.append("the first is the second")
    with pytest.warns(UserWarning, match="interrupted"):
        assert MLPClassifier(**SMALL).fit(IRIS, KINDS).predict(IRIS).shape == (150,)
    calls.clear()
    with pytest.warns(UserWarning, match="interrupted; it keeps what it has learned"):
        model = MLPClassifier(**SMALL).fit(IRIS, KINDS)
    assert model.n_iter_ == len(model.loss_curve_) == 11


def test_what_is_not_enough_says_so():
    with pytest.warns(ConvergenceWarning, match="max_iter: 3 epochs were not enough"):
        MLPClassifier(**SMALL | {"max_iter": 3}).fit(IRIS, KINDS)
    with pytest.warns(ConvergenceWarning, match="L-BFGS did not converge: .*ITERATIONS"):
        MLPClassifier(**SMALL | {"max_iter": 3, "solver": "lbfgs"}).fit(IRIS, KINDS)
    with pytest.warns(UserWarning, match="batch_size: 500 is more than the 150 examples"):
        MLPClassifier(**SMALL | {"max_iter": 1}, batch_size=500).fit(IRIS, KINDS)
    with pytest.raises(ValueError, match=r"stopped being finite in epoch \d+. Scale the features"):
        MLPRegressor(**SMALL | {"solver": "sgd", "learning_rate_init": 1e3}).fit(CELLS * 1e3, NUMBERS)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"solver": "newton"}, "solver: expected 'adam' or 'sgd' or 'lbfgs', got 'newton'"),
        ({"learning_rate": "falling"}, "learning_rate: expected 'constant' or 'invscaling' or 'adaptive'"),
        (
            {"activation": "swish"},
            r"activation: expected one of 'identity', .* or a layer such as fn.GELU\(\), got 'swish'",
        ),
        ({"activation": fn.LayerNorm(6)}, "activation: expected a layer without parameters"),
        ({"hidden_layer_sizes": (3, 0)}, "hidden_layer_sizes: expected whole numbers, 1 or more, got 0"),
        ({"hidden_layer_sizes": "100"}, "hidden_layer_sizes: expected whole numbers, 1 or more, got '100'"),
        ({"alpha": -1.0}, "alpha: expected a number, 0 or more, got -1.0"),
        ({"batch_size": 0}, 'batch_size: expected "auto", or a whole number, 1 or more, got 0'),
        ({"batch_size": 32, "shuffle": False}, "shuffle: False is not supported for several batches"),
        ({"learning_rate_init": 0.0}, "learning_rate_init: expected a number above 0"),
        ({"momentum": 1.0}, "momentum: expected a number, 0 or more and below 1, got 1.0"),
        ({"max_iter": 0}, "max_iter: expected a whole number, 1 or more, got 0"),
        ({"tol": float("nan")}, "tol: expected a number, 0 or more, got nan"),
        ({"early_stopping": "yes"}, "early_stopping: expected True or False, got 'yes'"),
        ({"early_stopping": True, "validation_fraction": 0.01}, "validation_fraction: 0.01 of 90 examples leaves 1"),
        ({"dropout": 1.0}, "dropout: expected a number, 0 or more and below 1"),
        ({"dropout": 0.5, "solver": "lbfgs"}, "dropout: L-BFGS needs one cost"),
        ({"dropout": 0.5, "net": fn.mlp((30, 1))}, "dropout: is for the network that hidden_layer_sizes build"),
        ({"class_weight": "even"}, 'class_weight: expected "balanced" or a dict'),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_had_is_refused_by_its_name(options, words):
    with pytest.raises((TypeError, ValueError), match=words):
        MLPClassifier(**options).fit(CELLS, ILL)


def test_what_one_epoch_cannot_have():
    for options, arguments, words in (
        ({"early_stopping": True}, {"classes": [0, 1]}, "early_stopping: partial_fit is one epoch"),
        ({"class_weight": "balanced"}, {"classes": [0, 1]}, 'class_weight: "balanced" needs all data'),
        ({}, {}, "classes: the first call of partial_fit needs all classes"),
    ):
        with pytest.raises(ValueError, match=words):
            MLPClassifier(**options).partial_fit(CELLS, ILL, **arguments)
    assert not hasattr(MLPRegressor(solver="lbfgs"), "partial_fit")
    with pytest.raises(
        ValueError, match=r'loss: expected "squared_error", or a loss such as fn.Huber\(\), got \'poisson\''
    ):
        MLPRegressor("poisson").fit(CELLS, NUMBERS)
    with pytest.raises(ValueError, match="sample_weight: all are 0|at least one non-zero"):
        MLPRegressor().fit(CELLS, NUMBERS, sample_weight=np.zeros(90))
    with pytest.raises(NotFittedError):
        MLPRegressor().predict(CELLS)
    assert not hasattr(MLPClassifier(), "coefs_")


def test_without_scikit_learn_the_way_to_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"pip install -e '.\[sklearn\]'"):
        importlib.reload(ours)
