"""Compiled loops: how many are kept, what shares one, and that rows which fill up change nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from table import disagreement, params_of, random

import funcnet as fn
from funcnet.train import programs, sweeps, training
from funcnet.train.order import permutation
from funcnet.train.programs import Program

NET, LOSS, ADAM = fn.mlp((3, 4, 2)), fn.CrossEntropy(), optax.adam(0.1)
X, Y = random(1, 143, 3), np.random.default_rng(2).integers(0, 2, 143)


@pytest.fixture(autouse=True)
def _as_optax_wants_it():
    with jax.numpy_dtype_promotion("standard"):
        yield


def start(optimizer=ADAM, net=NET):
    return fn.train_state(optimizer, params_of(net), jax.random.key(0))


def fit(m=143, optimizer=ADAM, held=36, **options):
    options = {"epochs": 2, "batch_size": 16, "metrics": [fn.Accuracy(), fn.F1()]} | options
    validation = X[:held], Y[:held]
    return fn.fit(NET, LOSS, optimizer, start(optimizer), (X[:m], Y[:m]), validation=validation, **options)


def compilations(call):
    """How many programs of `fit` a call adds."""
    before = set(training._run.kinds)
    call()
    return len(set(training._run.kinds) - before)


@pytest.mark.fast
def test_folds_epochs_and_patience_share_a_program():
    fit(142, epochs=3, early_stopping=fn.EarlyStopping(patience=3))

    def folds():
        fit(143, epochs=4, held=35, early_stopping=fn.EarlyStopping(patience=4, min_change=0.1))
        fit(141, epochs=5, held=34, early_stopping=fn.EarlyStopping(patience=2, start_from_epoch=1))

    assert compilations(folds) == 0
    assert compilations(lambda: fit(142, epochs=3)) == 1  # nothing is watched
    assert compilations(lambda: fit(142, epochs=3, batch_size=15)) == 1


@pytest.mark.fast
def test_rows_that_fill_up_change_nothing():
    """Inside jit nothing is filled up: the same numbers, up to rounding."""
    weights = np.random.default_rng(3).uniform(size=143)
    for options in ({}, {"weights": weights}, {"telemetry": 4}, {"early_stopping": fn.EarlyStopping("validation_f1")}):
        state, history = fit(**options)

        def traced(state, options=options):
            return fn.fit(
                NET, LOSS, ADAM, state, (X, Y), epochs=2, batch_size=16, validation=(X[:36], Y[:36]),
                metrics=[fn.Accuracy(), fn.F1()], **options,
            )  # fmt: skip

        other, record = jax.jit(traced)(start())
        assert disagreement(state.params, other.params) <= 1e-12
        for name in history.names:
            assert np.allclose(history[name], record[name], rtol=1e-12, atol=0), name
        for name in history.telemetry:
            assert np.allclose(history.seen(name), record.seen(name), rtol=1e-10, equal_nan=True), name


@pytest.mark.fast
def test_an_order_does_not_depend_on_the_room_and_holds_each_number_once():
    for m, room in ((5, 8), (142, 144), (128, 144), (1, 3)):
        order = np.asarray(jax.jit(permutation, static_argnums=2)(jax.random.key(3), m, room))[:m]
        assert sorted(order) == list(range(m))
    orders = [np.asarray(permutation(jax.random.key(3), m, 144)) for m in (143, 144)]
    assert [i for i in orders[1] if i < 143] == list(orders[0][:143])  # the others keep theirs


@pytest.mark.fast
def test_the_latest_kinds_of_call_are_kept(monkeypatch):
    monkeypatch.setattr(programs, "KEPT", 3)
    traced = []
    program = Program(lambda x: traced.append(x.shape) or x + 1)
    for m in (1, 2, 3, 1, 1, 4, 1, 2):
        assert program(jnp.zeros(m)).shape == (m,)
    assert traced == [(1,), (2,), (3,), (4,), (2,)]
    assert len(program.kinds) == 3


@pytest.mark.fast
def test_no_more_than_sixteen_are_kept_of_a_method():
    for number in range(18):
        optimizer = optax.sgd(0.1 + number)
        fn.train_epoch(NET, LOSS, optimizer, start(optimizer), (X[:8], Y[:8]), batch_size=4)
    assert len(fn.train.epoch.compiled_epoch.kinds) == 16


def test_many_trainings_share_one_too():
    def many(m, epochs):
        return fn.fit_many(NET, LOSS, ADAM, (X[:m], Y[:m]), epochs=epochs, batch_size=16, seeds=(0, 1))

    many(142, 2)
    before = set(sweeps._run_many.kinds)
    many(143, 4)
    assert set(sweeps._run_many.kinds) == before


def test_a_layer_or_metric_of_ones_own_sees_the_examples_alone():
    seen = []

    @fn.spec
    class Largest:
        name: str = "largest"
        larger_is_better = True

        def value(self, output, y, weights):
            seen.append((output.shape[0], weights is None))
            return output.max()

    fit(143, metrics=[Largest()])
    assert set(seen) == {(143, True), (36, True)}


@pytest.mark.thorough
def test_many_optimisers_in_bounded_maps():
    """examples/benchmarks/loops.py does it with 600."""
    maps = []
    for number in range(40):
        optimizer = optax.sgd(0.01 + number * 1e-4)
        fn.fit(NET, LOSS, optimizer, start(optimizer), (X[:8], Y[:8]), epochs=1, batch_size=4)
        if number % 20 == 19:
            with open("/proc/self/maps") as file:
                maps.append(sum(1 for _ in file))
    assert maps[1] < 1.02 * maps[0]
