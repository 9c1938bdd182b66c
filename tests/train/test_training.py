"""Whole trainings: the same as epochs one by one, early stopping, what goes wrong, what is recorded."""

import contextlib
import csv
import hashlib
import io
import os
import pathlib
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn import metrics as sk
from table import cost, disagreement, params_of, predict, random

import funcnet as fn
from funcnet.train.options import Options
from funcnet.train.order import order_of
from funcnet.train.progress import duration

NET, LOSS, ADAM = fn.mlp((3, 8, 4)), fn.CrossEntropy(), optax.adam(3e-2)
X = random(1, 50, 3)
LABELS = jnp.asarray(np.random.default_rng(2).integers(0, 4, 50))
DATA, HELD = (X[:30], LABELS[:30]), (X[30:], LABELS[30:])
METRICS = (fn.Accuracy(), fn.F1())
measure = jax.jit(lambda metric, *arguments: metric.value(*arguments), static_argnums=0)


@pytest.fixture(autouse=True)
def _as_optax_wants_it():
    with jax.numpy_dtype_promotion("standard"):
        yield


def start(optimizer=ADAM, net=NET):
    return fn.train_state(optimizer, params_of(net), jax.random.key(0))


def fit(optimizer=ADAM, epochs=12, batch_size=8, data=DATA, net=NET, **options):
    return fn.fit(net, LOSS, optimizer, start(optimizer, net), data, epochs=epochs, batch_size=batch_size, **options)


@pytest.mark.fast
def test_a_fit_is_its_epochs_one_by_one_and_records_what_they_were():
    found, history = fit(validation=HELD, metrics=METRICS)
    state = start()
    for epoch in range(12):
        state, row = fn.train_epoch(NET, LOSS, ADAM, state, DATA, batch_size=8)
        assert np.isclose(history["cost"][epoch], row["cost"], rtol=1e-12)
        held = cost(NET, LOSS, state.params, *HELD)
        assert np.isclose(history["validation_cost"][epoch], held, rtol=1e-12)
        for prefix, (x, y) in (("", DATA), ("validation_", HELD)):
            output = predict(NET, state.params, x)
            for metric in METRICS:
                assert np.isclose(history[prefix + metric.name][epoch], measure(metric, output, y, None), rtol=1e-12)
    assert disagreement(found.params, state.params) <= 1e-12
    assert int(found.step) == int(state.step) == 48
    assert history.names == ("cost", "validation_cost", "accuracy", "validation_accuracy", "f1", "validation_f1")
    assert history.stopped == ""


def after(epochs):
    """The state after so many epochs, one by one."""
    state = start()
    for _ in range(epochs):
        state, _ = fn.train_epoch(NET, LOSS, ADAM, state, DATA, batch_size=8)
    return state


@pytest.mark.fast
@pytest.mark.parametrize(("monitor", "larger"), [("validation_cost", False), ("validation_accuracy", True)])
def test_early_stopping_gives_back_the_best_parameters_and_says_which(monitor, larger):
    stopping = fn.EarlyStopping(monitor, patience=3)
    found, history = fit(epochs=200, validation=HELD, metrics=METRICS, early_stopping=stopping)
    values = history[monitor] if larger else -history[monitor]
    assert history.best_epoch == np.argmax(values) + 1
    assert disagreement(found.params, after(int(history.best_epoch)).params) <= 1e-12
    assert int(history.epochs) == int(history.best_epoch) + 3 < 200
    assert f"since epoch {int(history.best_epoch)}" in history.stopped
    assert "best" in repr(history)


@pytest.mark.fast
def test_a_change_below_the_minimum_is_no_improvement():
    found, history = fit(epochs=50, early_stopping=fn.EarlyStopping("cost", patience=2, min_change=10.0))
    assert int(history.epochs) == 3
    assert int(history.best_epoch) == 1
    assert disagreement(found.params, after(1).params) <= 1e-12


def test_inside_jit_and_vmap_it_is_the_same_training():
    options = {"validation": HELD, "early_stopping": fn.EarlyStopping(patience=3)}

    def train(state, penalty):
        return fn.fit(NET, LOSS, ADAM, state, DATA, epochs=40, batch_size=8, penalty=penalty, **options)

    alone, history = fit(epochs=40, penalty=fn.L2(0.01), **options)
    traced, same = jax.jit(train)(start(), fn.L2(0.01))
    assert disagreement(traced.params, alone.params) <= 1e-12
    assert int(same.epochs) == int(history.epochs)
    assert disagreement(same["validation_cost"], history["validation_cost"]) <= 1e-12
    lanes, stacked = jax.vmap(train, in_axes=(None, 0))(start(), fn.L2(jnp.array([0.0, 0.01, 0.1])))
    assert disagreement(jax.tree.map(lambda leaf: np.asarray(leaf)[1], lanes.params), alone.params) <= 1e-9
    assert stacked.epochs[1] == history.epochs
    assert "stacked" in repr(stacked)


@pytest.mark.fast
def test_a_step_that_is_not_finite_is_named_and_the_state_before_it_returned():
    later = optax.sgd(optax.piecewise_constant_schedule(1e-2, {5: 1e300, 6: 1e300}))
    with pytest.warns(RuntimeWarning, match=r"epoch 2: at step"):
        found, history = fit(later)
    assert int(history.epochs) == 1
    assert np.isfinite(history["cost"]).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found.params))
    assert "smaller learning rate" in history.stopped
    step = int(found.step)
    assert step >= 4
    assert f"step {step - 3} of 4" in history.stopped


@fn.spec
class Cliff:
    """Squared error with a derivative that is not finite."""

    def value(self, output, y):
        return fn.SquaredError().value(output, y)

    def delta(self, output, y):
        return jnp.full_like(output, jnp.inf)


@pytest.mark.fast
def test_the_quantity_that_is_not_finite_first_is_named():
    wild = optax.chain(optax.sgd(1e308), optax.scale(1e9))
    for loss, optimizer, quantity in (
        (Cliff(), ADAM, "the gradient of layer 1, "),
        (fn.SquaredError(), wild, "the new value of layer 1, "),
    ):
        data = (X[:30], X[:30, :2])
        state = fn.train_state(optimizer, params_of(fn.mlp((3, 5, 2))), jax.random.key(0))
        with pytest.warns(RuntimeWarning, match=f"epoch 1: at step 1 of 4 {quantity}"):
            after, history = fn.fit(fn.mlp((3, 5, 2)), loss, optimizer, state, data, epochs=2, batch_size=8)
        assert int(history.epochs) == int(after.step) == 0
        assert disagreement(after.params, state.params) == 0


@pytest.mark.fast
def test_metrics_of_weighted_data_are_weighted_and_those_of_validation_are_not():
    weights = jnp.arange(30.0)
    found, history = fit(epochs=2, weights=weights, validation=HELD, metrics=[fn.F1()])
    for name, (x, y), own in (("f1", DATA, weights), ("validation_f1", HELD, None)):
        expected = measure(fn.F1(), predict(NET, found.params, x), y, own)
        assert np.isclose(history[name][-1], expected, rtol=1e-12)


class Screen:
    """A stderr at whose first line something happens."""

    def __init__(self, at_first_line):
        self.at_first_line, self.lines = at_first_line, 0

    def isatty(self):
        return False

    def flush(self):
        pass

    def write(self, text):
        self.lines += 1
        if self.lines == 1:
            self.at_first_line()


@pytest.fixture
def _python_handles_ctrl_c():
    """A shell that starts the tests in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_python_handles_ctrl_c")
def test_ctrl_c_returns_the_state_so_far(monkeypatch):
    def soon():
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()

    assert threading.current_thread() is threading.main_thread()
    monkeypatch.setattr(sys, "stderr", Screen(soon))
    with pytest.warns(RuntimeWarning, match="Interrupted: the training was cut short after epoch .* of 1000000"):
        found, history = fit(epochs=1_000_000, progress=True)
    assert 0 < int(history.epochs) < 1_000_000
    assert int(found.step) == 4 * int(history.epochs)
    assert "Interrupted" in history.stopped


@pytest.mark.fast
@pytest.mark.usefixtures("_python_handles_ctrl_c")
def test_ctrl_c_is_heard_where_its_exception_is_lost(monkeypatch):
    def unheard():
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(sys, "stderr", Screen(unheard))
    with pytest.warns(RuntimeWarning, match="cut short after epoch 1 of 100"):
        found, history = fit(epochs=100, progress=True)
    assert int(found.step) == 4 * int(history.epochs) == 4
    assert "Interrupted" in history.stopped
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_in_another_thread_no_signal_is_touched():
    def train():
        with jax.numpy_dtype_promotion("standard"):  # a setting of each thread
            return fit(epochs=100)

    with ThreadPoolExecutor(1) as pool:
        assert int(pool.submit(train).result()[1].epochs) == 100


def test_no_epochs_change_nothing():
    found, history = fit(epochs=0)
    assert disagreement(found.params, start().params) == 0
    assert len(history["cost"]) == 0
    assert "epoch" in repr(history)


def test_progress_is_a_line_now_and_then_and_silence_is_the_default(capsys):
    fit(epochs=100, validation=HELD)
    assert capsys.readouterr().err == ""
    fit(epochs=100, validation=HELD, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert 5 <= len(lines) <= 25
    assert lines[-1].startswith("epoch 100/100  cost ")
    for part in ("validation_cost", "epochs/s", "0 s left"):
        assert part in lines[-1]


@pytest.mark.parametrize(("module", "moves"), [("ipykernel.iostream", True), ("logging.streams", False)])
def test_progress_in_a_notebook_is_one_line_that_moves(monkeypatch, module, moves):
    stream = type("OutStream", (io.StringIO,), {"__module__": module})()
    monkeypatch.setattr(sys, "stderr", stream)
    fit(epochs=100, progress=True)
    text = stream.getvalue()
    assert (text.count("\n") == 1) is moves
    assert (text.count("\r") >= 5) is moves
    if moves:
        lines = text.split("\r")[1:]
        assert all(len(line) >= len(before.rstrip()) for before, line in pairwise(lines))  # nothing shows behind it
    assert "s left" in text


def test_history_as_a_file(tmp_path):
    _, history = fit(validation=HELD, metrics=METRICS)
    history.to_csv(tmp_path / "history.csv")
    with open(tmp_path / "history.csv", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["epoch", *history.names]
    assert np.array_equal(np.array(rows[1:], float)[:, 1], history["cost"])
    with pytest.raises(KeyError, match="there are cost, validation_cost"):
        history["loss"]


@pytest.mark.fast
def test_learning_curves_are_the_columns(tmp_path):
    stopping = fn.EarlyStopping("validation_cost", patience=3)
    _, history = fit(epochs=200, validation=HELD, metrics=METRICS, early_stopping=stopping)
    axes = history.plot()
    twin = next(other for other in axes.figure.axes if other is not axes)
    *costs, best = axes.get_lines()
    drawn = dict(zip(["cost", "validation_cost"], costs))
    names = ["accuracy", "validation_accuracy", "f1", "validation_f1"]
    drawn |= dict(zip(names, twin.get_lines(), strict=True))
    for name, line in drawn.items():
        assert np.array_equal(line.get_xdata(), np.arange(1, len(history["cost"]) + 1))
        assert np.array_equal(line.get_ydata(), history[name])
    looks = {name: (line.get_color(), line.get_linestyle()) for name, line in drawn.items()}
    assert len(set(looks.values())) == 6  # each is told apart by colour or dashes
    assert len({looks[name][0] for name in ("cost", "accuracy", "f1")}) == 1
    assert best.get_xdata()[0] == history.best_epoch
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == [*(name.replace("_", " ") for name in drawn), f"best epoch, {int(history.best_epoch)}"]
    assert (axes.get_xlabel(), axes.get_ylabel(), twin.get_ylabel()) == ("epoch", "cost", "accuracy, f1")
    axes.figure.savefig(tmp_path / "history.png")


def test_the_curve_of_one_epoch_is_seen():
    axes = fn.History(("cost",), {"cost": jnp.ones(1)}, 1, 0).plot()
    assert [(line.get_marker(), line.get_markevery()) for line in axes.get_lines()] == [("o", [0])]
    assert len(axes.figure.axes) == 1


def test_what_is_not_finite_is_told_beside_the_curve():
    columns = {"cost": jnp.array([jnp.nan, 1.0, 0.5, jnp.inf, 0.2]), "validation_cost": jnp.full(5, jnp.nan)}
    axes = fn.History(tuple(columns), columns, 5, 0).plot()
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == ["cost (2 not finite)", "validation cost (5 not finite)"]
    assert [line.get_markevery() for line in axes.get_lines()] == [[4], []]  # the last point stands alone
    with pytest.raises(ValueError, match=r"History.plot: this is the history of many trainings.*many\[0\]\[1\]"):
        fn.History(("cost",), {"cost": jnp.ones((2, 3))}, jnp.array([3, 3]), jnp.array([0, 0])).plot()


@pytest.mark.fast
def test_metrics_are_those_of_scikit_learn():
    output = random(3, 40, 4)
    y, weights = np.random.default_rng(4).integers(0, 4, 40), np.random.default_rng(5).uniform(size=40)
    read = np.asarray(output.argmax(-1))
    for w in (None, weights):
        given = None if w is None else jnp.asarray(w)
        expected = {
            fn.Accuracy(): sk.accuracy_score(y, read, sample_weight=w),
            fn.F1(): sk.f1_score(y, read, average="macro", sample_weight=w),
            fn.TopK(2): sk.top_k_accuracy_score(y, output, k=2, sample_weight=w),
        }
        for metric, value in expected.items():
            assert np.isclose(metric.value(output, jnp.asarray(y), given), value, rtol=1e-12), metric
        a, t = random(6, 40, 2), random(7, 40, 2)
        assert np.isclose(fn.R2().value(a, t, given), sk.r2_score(t, a, sample_weight=w), rtol=1e-12)
        error = sk.mean_absolute_error(t, a, sample_weight=w)
        assert np.isclose(fn.MeanAbsoluteError().value(a, t, given), error, rtol=1e-12)
        binary, logits = (t[:, :1] > 0), a[:, :1]
        assert np.isclose(fn.F1().value(logits, binary, given), sk.f1_score(binary, logits > 0, sample_weight=w))
        share = sk.accuracy_score(binary, logits > 0, sample_weight=w)
        assert np.isclose(fn.Accuracy().value(logits, binary, given), share)


def test_metrics_over_positions_and_of_probabilities():
    output, y = random(3, 5, 6, 4), jnp.asarray(np.random.default_rng(4).integers(0, 4, (5, 6)))
    share = fn.Accuracy().value(output, y, None)
    assert np.isclose(share, np.mean(output.argmax(-1) == y))
    assert fn.Accuracy().value(output, jax.nn.one_hot(y, 4), None) == share
    first = jnp.zeros((5, 6)).at[0].set(1)
    assert np.isclose(fn.Accuracy().value(output, y, first), np.mean(output[0].argmax(-1) == y[0]))


def test_a_learning_rate_that_makes_the_cost_explode_is_told_in_one_sentence():
    net, loss, steep = fn.Dense(3, 1), fn.SquaredError(), optax.sgd(4.0)
    data = (X[:30], X[:30, :1])
    state = fn.train_state(steep, params_of(net), jax.random.key(0))
    with pytest.warns(
        RuntimeWarning, match="The cost rose from .* in epoch 1 to .* in epoch 6: the learning rate"
    ) as said:
        _, history = fn.fit(net, loss, steep, state, data, epochs=6, batch_size=30)
    assert len(said) == 1
    assert f"from {history['cost'][0]:.3g} " in str(said[0].message)
    assert f"to {history['cost'][-1]:.3g} " in str(said[0].message)
    assert np.isfinite(history["cost"]).all()
    assert history.stopped == ""


@fn.spec
class Counted:
    """Squared error that counts how often its derivative is traced."""

    def value(self, output, y):
        return fn.SquaredError().value(output, y)

    def delta(self, output, y):
        traced.append(1)
        return output - y


traced: list[int] = []


@pytest.mark.fast
@pytest.mark.parametrize("host", [False, True], ids=["device", "host"])
def test_equal_specs_are_compiled_once(host):
    x, y = np.array(X[:30]), np.array(X[:30, :2])
    data = (x.view(np.memmap), y) if host else (x, y)

    def train():
        net, loss = fn.mlp((3, 5, 2), fn.Sigmoid()), Counted()
        options = {"early_stopping": fn.EarlyStopping("cost", patience=50), "penalty": fn.L2(0.1)}
        state = fn.train_state(ADAM, params_of(net), jax.random.key(0))
        fn.fit(net, loss, ADAM, state, data, epochs=30, batch_size=8, **options)

    before = len(traced)
    train()
    once = len(traced) - before
    assert once > 0
    train()
    assert len(traced) - before == once


def test_many_trainings_are_compiled_once():
    sgd = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)

    def train(rates, strengths):
        sweep = {"learning_rate": rates, "penalty": [fn.L2(strength) for strength in strengths]}
        data = (X[:30], X[:30, :2])
        fn.fit_many(fn.mlp((3, 5, 2)), Counted(), sgd, data, epochs=3, batch_size=8, sweep=sweep)

    before = len(traced)
    train([0.1, 0.2], [0.0, 0.1])
    once = len(traced) - before
    assert once > 0
    train([0.3, 0.4], [0.2, 0.3])
    assert len(traced) - before == once


DIGEST = """
import hashlib, sys
import jax, numpy as np
sys.path[:0] = sys.argv[1:]
import conftest, test_training
with jax.numpy_dtype_promotion("standard"):
    print(test_training.digest())
"""


def digest():
    """Of every bit that a training with dropout gives."""
    net = fn.Chain(fn.Dense(3, 8), fn.Dropout(0.3), fn.Dense(8, 4))
    state, history = fit(net=net, validation=HELD, metrics=[fn.F1()], epochs=3)
    state = state._replace(key=jax.random.key_data(state.key))
    found = hashlib.sha256()
    for leaf in jax.tree.leaves((state, history.columns)):
        found.update(np.asarray(leaf).tobytes())
    return found.hexdigest()


@pytest.mark.thorough
def test_the_same_key_gives_the_same_bits_in_another_process():
    own = digest()
    assert digest() == own
    folder = pathlib.Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": str(folder.parent.parent)}
    command = [sys.executable, "-c", DIGEST, str(folder), str(folder.parent)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert run.stdout.strip() == own


@fn.spec
class PerExample:
    larger_is_better = False
    name = "wrong"

    def value(self, output, y, weights):
        return output[:, 0]


@pytest.mark.parametrize(
    ("options", "kind", "fragments"),
    [
        ({"epochs": -1}, ValueError, ["epochs", "0 or more", "-1"]),
        ({"epochs": 2.5}, ValueError, ["epochs", "2.5"]),
        ({"batch_size": 0}, ValueError, ["batch_size", "1 to 30", "0"]),
        ({"batch_size": 31}, ValueError, ["1 to 30", "got 31"]),
        ({"data": (X[:0], LABELS[:0])}, ValueError, ["no examples"]),
        ({"data": (X[:30].at[3, 1].set(jnp.nan), LABELS[:30])}, ValueError, ["x[3, 1] is nan"]),
        ({"data": (X[:30], LABELS[:30].at[2].set(9))}, ValueError, ["0 … 3", "y[2] is 9"]),
        ({"data": (X[:30], LABELS[:20])}, ValueError, ["x has 30 examples", "(20,)"]),
        ({"data": X[:30]}, TypeError, ["data", "a pair (x, y)", "(30, 3)"]),
        ({"data": (X[:30], LABELS[:30], None)}, TypeError, ["data", "a pair (x, y)", "3 parts"]),
        ({"validation": (X[30:, :2], LABELS[30:])}, ValueError, ["validation", "Dense(3, 8)", "3 features", "(20, 2)"]),
        ({"validation": X[30:32]}, TypeError, ["validation", "a pair (x, y)", "(2, 3)"]),
        ({"validation": (X[:0], LABELS[:0])}, ValueError, ["validation", "an example or more", "(0, 3)"]),
        ({"metrics": ["accuracy"]}, TypeError, ["metrics", "Accuracy()", "'accuracy'"]),
        ({"metrics": [fn.Accuracy]}, TypeError, ["metrics", "Accuracy()"]),
        ({"metrics": [PerExample()]}, ValueError, ["wrong gave shape (30,)", "one number"]),
        ({"metrics": [fn.TopK(5)]}, ValueError, ["TopK(5)", "4 outputs"]),
        ({"early_stopping": fn.EarlyStopping()}, ValueError, ["validation_cost", "there are cost", "monitor"]),
        ({"early_stopping": 3}, TypeError, ["early_stopping", "EarlyStopping(", "3"]),
    ],
)
def test_bad_input(options, kind, fragments):
    with pytest.raises(kind) as error:
        fit(**options)
    for fragment in fragments:
        assert fragment in str(error.value), str(error.value)


def test_an_optimiser_built_for_other_parameters_is_refused():
    other = fn.train_state(ADAM, params_of(fn.mlp((3, 5, 4))), jax.random.key(0))
    state = start()._replace(opt_state=other.opt_state)
    with pytest.raises(ValueError, match="opt_state"):
        fn.fit(NET, LOSS, ADAM, state, DATA, epochs=1, batch_size=8)


def test_progress_is_refused_under_jit():
    with pytest.raises(ValueError, match="Leave progress out"):
        jax.jit(lambda s: fn.fit(NET, LOSS, ADAM, s, DATA, epochs=1, batch_size=8, progress=True))(start())


def test_early_stopping_refuses_what_makes_no_sense():
    for build in (lambda: fn.EarlyStopping(patience=0), lambda: fn.EarlyStopping(min_change=-1.0)):
        with pytest.raises(ValueError, match="patience must be 1 or more"):
            build()
    with pytest.raises(ValueError, match="k must be 1 or more"):
        fn.TopK(0)


@fn.spec
class Told:
    """A metric that is what it is told for each step's parameters, which count the epochs."""

    values: tuple[float | None, ...]
    larger_is_better: bool = False
    name = "told"

    def value(self, output, y, weights):
        values = jnp.asarray([jnp.nan if value is None else value for value in self.values])
        return values[jnp.round(output[0, 0]).astype(int) - 1]


def counted(values, larger_is_better=False, patience=10, start=0):
    """A training whose only weight is the number of epochs, stopped by what its metric is told to be."""
    net, optimizer = fn.Dense(1, 1, bias=False), optax.sgd(1.0)
    params = fn.from_weights(net, [[[0.0]]])
    data = jnp.ones((1, 1)), jnp.ones((1, 1))

    @fn.spec
    class Steady:
        """Its derivative is -1 everywhere."""

        def value(self, output, y):
            return -output[..., 0]

        def delta(self, output, y):
            return -jnp.ones_like(output)

    return fn.fit(
        net, Steady(), optimizer, fn.train_state(optimizer, params, jax.random.key(0)), data, epochs=len(values),
        batch_size=1, metrics=[Told(tuple(values), larger_is_better)],
        early_stopping=fn.EarlyStopping("told", patience=patience, start_from_epoch=start),
    )  # fmt: skip


@pytest.mark.fast
@pytest.mark.parametrize(
    ("values", "larger", "best"),
    [
        ([None, 3.0, 2.0, None, 2.5], False, 3),  # a NaN in the first epoch was never beaten
        ([None, None, 5.0], False, 3),
        ([None, -7.0, None, -6.0, None], True, 4),
        ([2.0, None, None], False, 1),
        ([1e300, None, 2.0], False, 3),
    ],
    ids=str,
)
def test_nan_never_wins_and_any_number_beats_it(values, larger, best):
    state, history = counted(values, larger)
    assert int(history.best_epoch) == best
    assert float(state.params["w"][0, 0]) == best


@pytest.mark.fast
@pytest.mark.parametrize("patience", [2, 10])
def test_where_there_was_no_number_the_last_epoch_is_given_back_with_a_warning(patience):
    with pytest.warns(RuntimeWarning, match=r"told was NaN in every epoch.*the last are returned"):
        state, history = counted([None] * 4, patience=patience)
    assert int(history.best_epoch) == 0
    assert float(state.params["w"][0, 0]) == int(history.epochs) == min(4, patience)


@pytest.mark.fast
def test_a_function_of_ones_own_is_given_every_epoch_once_and_in_order():
    rows = []
    options = {"validation": HELD, "metrics": METRICS, "on_epoch": lambda epoch, row: rows.append((epoch, row))}
    found, history = fit(epochs=50, **options)
    assert [epoch for epoch, _ in rows] == list(range(1, 51))
    for epoch, row in rows:
        assert list(row) == list(history.names)
        assert all(type(value) is float for value in row.values())
        assert [row[name] for name in history.names] == [history[name][epoch - 1] for name in history.names]
    assert disagreement(found.params, fit(epochs=50)[0].params) <= 1e-12


@pytest.mark.fast
@pytest.mark.parametrize("epochs", [1000, None])
def test_true_stops_the_training(epochs):
    rows = []

    def on_epoch(epoch, row):
        rows.append(epoch)
        return epoch >= 3

    found, history = fit(epochs=epochs, on_epoch=on_epoch)
    done = int(history.epochs)
    assert rows == list(range(1, done + 1))
    assert 3 <= done < 30
    assert history.stopped.startswith(f"Stopped by on_epoch: the training was cut short after epoch {done}")
    assert disagreement(found.params, after(done).params) <= 1e-12
    assert len(fit(epochs=5, on_epoch=lambda epoch, row: epoch)[1]["cost"]) == 5  # True, and nothing like it


@pytest.mark.fast
def test_until_it_is_stopped_no_number_of_epochs_is_needed():
    stopping = fn.EarlyStopping("cost", patience=2, min_change=0.05)
    found, history = fit(epochs=None, early_stopping=stopping)
    same, record = fit(epochs=500, early_stopping=stopping)
    assert disagreement(found.params, same.params) == 0
    assert history["cost"].tolist() == record["cost"].tolist()
    with pytest.raises(ValueError, match="epochs: None needs something that ends the training"):
        fit(epochs=None)
    with pytest.raises(ValueError, match="epochs=None is not supported inside jit"):
        jax.jit(lambda state: fit_from(state, epochs=None, early_stopping=stopping))(start())


def fit_from(state, **options):
    return fn.fit(NET, LOSS, ADAM, state, DATA, batch_size=8, **options)


def test_more_epochs_than_a_program_has_room_for():
    """The table of a training is put together of those of its chunks."""
    net, optimizer = fn.Dense(1, 1), optax.sgd(1e-3)
    state, data = fn.train_state(optimizer, params_of(net), jax.random.key(0)), (jnp.ones((2, 1)), jnp.zeros((2, 1)))
    _, history = fn.fit(net, fn.SquaredError(), optimizer, state, data, epochs=5000, batch_size=2)
    assert len(history["cost"]) == 5000
    assert (np.diff(history["cost"]) < 0).all()


@pytest.mark.fast
def test_the_first_epochs_may_be_left_unwatched():
    values = [1.0, 5.0, 4.0, 3.0, 3.5, 3.6, 3.7]
    state, history = counted(values, patience=3, start=2)
    assert (int(history.best_epoch), float(state.params["w"][0, 0])) == (4, 4.0)
    state, history = counted(values, patience=3, start=0)
    assert (int(history.best_epoch), int(history.epochs)) == (1, 4)
    state, history = counted(values, patience=3, start=9)
    assert (int(history.best_epoch), float(state.params["w"][0, 0])) == (0, 7.0)


@fn.spec
class Exploding:
    """A loss whose delta is not finite where the target is 3."""

    def value(self, output, y):
        return fn.CrossEntropy().value(output, y)

    def delta(self, output, y):
        return fn.CrossEntropy().delta(output, y) * jnp.where(y == 3, jnp.inf, 1.0)[:, None]


@pytest.mark.fast
@pytest.mark.parametrize("host", [False, True], ids=["device", "host"])
def test_a_step_that_is_not_finite_is_left_out_and_counted(host):
    labels = np.array(LABELS[:30])
    labels[labels == 3] = 0
    labels[7] = 3
    x = np.array(X[:30]).view(np.memmap) if host else X[:30]
    with pytest.warns(RuntimeWarning, match=r"3 of 12 updates were left out.*history\[\"skipped\"\]"):
        state, history = fn.fit(NET, Exploding(), ADAM, start(), (x, labels), epochs=3, batch_size=8, non_finite="skip")
    assert history["skipped"].tolist() == [1, 1, 1]
    assert history.stopped == ""
    assert int(state.opt_state[0].count) == 9  # the optimiser did not see them
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state.params, history["cost"])))
    expected, record = start(), []
    for _ in range(3):  # by hand: the epoch's batches, but that with row 7
        expected, cost_of_epoch = without_row(expected, labels, 7)
        record.append(cost_of_epoch)
    assert disagreement(state.params, expected.params) <= 1e-12
    assert np.allclose(history["cost"], record, rtol=1e-12)


def without_row(state, labels, row):
    order = order_of(state.key, 30, Options(NET, LOSS, ADAM, 8))
    params, opt_state, costs = state.params, state.opt_state, []
    for rows, counted_rows in zip(np.asarray(order.rows), np.asarray(order.counted)):
        rows = rows[counted_rows]
        if row not in rows:
            value, grads = fn.value_and_grad(NET, LOSS, params, X[rows], labels[rows])
            updates, opt_state = ADAM.update(grads, opt_state, params)
            params = optax.apply_updates(params, updates)
            costs.append((float(value), len(rows)))
    mean = sum(value * size for value, size in costs) / sum(size for _, size in costs)
    return state._replace(params=params, opt_state=opt_state, step=state.step + 4, key=order.next_key), mean


def test_healthy_steps_are_not_touched_by_skipping():
    state, history = fit(non_finite="skip")
    assert disagreement(state.params, fit()[0].params) == 0
    assert history.names == ("cost", "skipped")
    assert not history["skipped"].any()
    with pytest.raises(ValueError, match="non_finite: expected 'stop' or 'skip', got 'ignore'"):
        fit(non_finite="ignore")


@pytest.mark.fast
def test_healthy_trainings_pass_jax_debug_nans():
    flow_net = fn.mlp((3, 8, 4), fn.ReLU())
    bp = fn.backprop(flow_net, LOSS, params_of(flow_net), X, LABELS, weights=np.ones(50))
    with jax.debug_nans(True):
        stopping = fn.EarlyStopping("cost", patience=1, min_change=9.0)
        fit(net=flow_net, telemetry=2, validation=HELD, metrics=METRICS, early_stopping=stopping)
        fit(data=(np.array(DATA[0]).view(np.memmap), DATA[1]), telemetry=2, metrics=METRICS, non_finite="skip")
        many = fn.fit_many(NET, LOSS, ADAM, DATA, epochs=3, batch_size=8, seeds=(0, 1), early_stopping=stopping)
        fn.gradient_flow(flow_net, bp, params_of(flow_net))
        fn.noise_scale(flow_net, bp)
        fn.diagnose(flow_net, LOSS, params_of(flow_net), X, LABELS, optimizer=ADAM)
        fn.evaluate(NET, LOSS, params_of(NET), HELD, metrics=METRICS, weights=np.arange(20.0))
    assert int(many[0][1].epochs) == 2


@pytest.mark.fast
def test_optimisers_are_run_under_the_promotion_that_optax_wants():
    with jax.numpy_dtype_promotion("strict"):
        assert int(fit(epochs=2)[0].step) == 8
        fn.fit_many(NET, LOSS, ADAM, DATA, epochs=1, batch_size=8, seeds=(0, 1))


def test_in_float16_the_type_is_named_and_not_the_learning_rate():
    net, half = fn.mlp((3, 4)), np.float16
    params = jax.tree.map(lambda leaf: leaf.astype(half), params_of(net))
    state = fn.train_state(optax.adam(1e-3), params, jax.random.key(0))
    with pytest.warns(RuntimeWarning, match=r"The parameters are float16.*eps=1e-8"):
        fn.fit(net, LOSS, optax.adam(1e-3), state, (X.at[:, 0].set(0).astype(half), LABELS), epochs=3, batch_size=8)


@pytest.mark.fast
@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float16, np.float32])
def test_many_trainings_take_data_of_every_type(dtype):
    many = fn.fit_many(NET, LOSS, optax.sgd(0.1), (X.astype(dtype), LABELS), epochs=2, batch_size=8, seeds=(0, 1))
    assert {leaf.dtype for leaf in jax.tree.leaves(many.states.params)} == {jnp.dtype(dtype)}
    assert np.isfinite(many.values("cost")).all()


@pytest.mark.fast
def test_in_many_trainings_rows_are_per_lane():
    rows = []
    many = fn.fit_many(
        NET, LOSS, ADAM, DATA, epochs=9, batch_size=8, seeds=(0, 1, 2),
        early_stopping=fn.EarlyStopping("cost", patience=1, min_change=0.02),
        on_epoch=lambda epoch, row: rows.append(row["cost"]),
    )  # fmt: skip
    found = np.stack(rows, -1)
    assert found.shape == (3, int(many.history.epochs.max()))
    for lane, values in enumerate(found):
        own = many[lane][1]["cost"]
        assert values[: len(own)].tolist() == own.tolist()
        assert np.isnan(values[len(own) :]).all()
        assert np.isnan(many.history.columns["cost"][lane, len(own) :]).all()
    assert len({len(many[lane][1]["cost"]) for lane in range(3)}) > 1


def test_how_long_it_takes_is_said_as_one_says_it():
    spans = {0.3: "0.3 s", 9.94: "9.9 s", 9.96: "10 s", 59.4: "59 s", 200: "3 min 20 s", 7500: "2 h 5 min"}
    assert {seconds: duration(seconds) for seconds in spans} == spans


@pytest.mark.fast
def test_the_state_of_kfac_can_be_donated():
    net = fn.mlp((3, 4, 2))
    state = fn.scale_by_kfac(net, fn.SquaredError()).init(params_of(net))
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state) if leaf.size]
    assert len(set(pointers)) == len(pointers)
