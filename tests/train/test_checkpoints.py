"""Checkpoints: a training taken up again ends with the same bits, whatever happened to the process or the files."""

import gc
import importlib
import os
import pathlib
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as orbax
import pytest
from table import disagreement, params_of, random

import funcnet as fn
from funcnet._core import fingerprints
from funcnet.train import checkpoint_files, checkpoints, descriptions, progress
from funcnet.train.checkpoints import Saver
from funcnet.train.loop import Progress
from funcnet.train.progress import Chunk
from funcnet.train.progress_arrays import arrays_of

FIT = importlib.import_module("funcnet.train.training")
ROOT = pathlib.Path(fn.__file__).parent.parent
NET = fn.Chain(fn.Dense(3, 4), fn.Tanh(), fn.Dropout(0.3), fn.Dense(4, 2))
LOSS, ADAM, STOPPING = fn.SquaredError(), optax.adam(0.1), fn.EarlyStopping(patience=4)
STOPPING_BY_R2 = fn.EarlyStopping("validation_r2", patience=4)
RATED = optax.inject_hyperparams(optax.adam)(learning_rate=0.1)
X, Y = random(1, 10, 3), random(2, 10, 2)
HELD = random(3, 6, 3), random(4, 6, 2)
orbax_leaves_errors = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _chunks_that_do_not_depend_on_the_clock(monkeypatch):
    """Twelve epochs are saved after 1, 5, 9 and 12."""
    monkeypatch.setattr(progress, "CHUNK_SECONDS", 1e9)
    monkeypatch.setattr(progress, "UPDATES", 3)
    with jax.numpy_dtype_promotion("standard"):  # as optax wants it
        yield


def start(optimizer=ADAM, net=NET, seed=0):
    return fn.train_state(optimizer, params_of(net), jax.random.key(seed))


def fit(folder=None, optimizer=ADAM, net=NET, data=(X, Y), seed=0, keep=9, name="", seconds=0, state=None, **options):
    options = {"epochs": 12, "batch_size": 4, "validation": HELD, "metrics": [fn.R2()]} | options
    checkpoint = folder and fn.Checkpoint(folder, seconds, keep, name)
    state = state or start(optimizer, net, seed)
    return fn.fit(net, LOSS, optimizer, state, data, checkpoint=checkpoint, **options)


def stopping(folder=None, **options):
    return fit(folder, early_stopping=STOPPING_BY_R2, **options)


def from_host(folder=None, **options):
    return fit(folder, data=(np.asarray(X).view(np.memmap), np.asarray(Y)), **options)


def watched(folder=None, **options):
    return fit(folder, telemetry=2, **options)


def many(folder=None, seeds=(0, 1), rates=(0.01, 0.3), optimizer=RATED, **options):
    options = {"epochs": 12, "batch_size": 4, "validation": HELD, "early_stopping": STOPPING} | options
    checkpoint = folder and fn.Checkpoint(folder, seconds=0, keep=9)
    sweep = {"learning_rate": rates}
    found = fn.fit_many(NET, LOSS, optimizer, (X, Y), seeds=seeds, sweep=sweep, checkpoint=checkpoint, **options)
    return found.states, found.history


def bits(trained):
    """Everything that a training gave, as bytes."""
    state, history = trained
    columns = {name: np.asarray(column)[..., : int(np.max(history.epochs))] for name, column in history.columns.items()}
    rest = (columns, history.telemetry, history.epochs, history.best_epoch)
    plain = jax.tree.map(np.asarray, (state._replace(key=jax.random.key_data(state.key)), rest))
    return [(leaf.dtype, leaf.shape, leaf.tobytes()) for leaf in jax.tree.leaves(plain)], history.stopped


def epochs_in(folder):
    return sorted(int(path.name.removeprefix("epoch_")) for path in folder.iterdir())


def path_of(folder, epoch):
    return folder / f"epoch_{epoch:08d}"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with the checkpoints of a whole training, and what that gave. For reading only."""
    folder = tmp_path_factory.mktemp("saved") / "run"
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
        patch.setattr(progress, "CHUNK_SECONDS", 1e9)
        patch.setattr(progress, "UPDATES", 3)
        return folder, fit(folder)


@pytest.fixture
def programs_known(saved, monkeypatch):
    """Fingerprints of the same training need not be taken again and again."""
    about = orbax.Checkpointer(orbax.CompositeCheckpointHandler()).restore(
        path_of(saved[0], 12), orbax.args.Composite(about=orbax.args.JsonRestore())
    )
    monkeypatch.setattr(checkpoints, "programs_of", lambda job, state: dict(about.about["programs"]))


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved[0], tmp_path / "run")


@pytest.mark.fast
def test_saving_changes_no_bit(saved):
    folder, trained = saved
    assert epochs_in(folder) == [1, 5, 9, 12]
    assert bits(trained) == bits(fit())


def test_with_more_epochs_it_ends_with_the_bits_of_the_run_that_had_them_at_once(saved, tmp_path):
    fit(tmp_path / "run", epochs=5)
    assert epochs_in(tmp_path / "run") == [1, 3, 5]
    assert bits(fit(tmp_path / "run")) == bits(saved[1])


@pytest.mark.parametrize("train", [fit, stopping, from_host, watched, many])
def test_taken_up_again_it_ends_with_the_bits_of_the_run_never_interrupted(train, tmp_path):
    whole = train()
    assert bits(train(tmp_path / "run")) == bits(whole)
    latest = epochs_in(tmp_path / "run")
    assert len(latest) > 2
    for gone in latest[1:]:
        shutil.rmtree(path_of(tmp_path / "run", gone))
    assert bits(train(tmp_path / "run")) == bits(whole)
    assert epochs_in(tmp_path / "run")[-1] == latest[-1]


def test_early_stopping_was_at_work():
    """In what the test above ran: the best was before the fifth epoch, or after, and the end before the twelfth."""
    _, alone = stopping()
    _, lanes = many()
    assert int(alone.epochs) < 12
    assert len(set(np.asarray(lanes.epochs).tolist())) > 1
    assert len(set(np.asarray(lanes.best_epoch).tolist())) > 1


@pytest.mark.fast
def test_from_every_checkpoint_the_way_is_the_same(saved, copy, programs_known):
    for gone in (12, 9, 5):
        for epoch in epochs_in(copy):
            if epoch >= gone:
                shutil.rmtree(path_of(copy, epoch))
        assert bits(fit(copy)) == bits(saved[1])


@pytest.mark.parametrize("train", [fit, stopping])
def test_a_training_that_has_ended_is_not_run_again(train, tmp_path, monkeypatch):
    whole = train(tmp_path / "run")
    before = epochs_in(tmp_path / "run")
    monkeypatch.setattr(FIT, "_run", lambda *_: pytest.fail("an epoch was run"))
    assert bits(train(tmp_path / "run")) == bits(whole)
    assert epochs_in(tmp_path / "run") == before


def test_fewer_epochs_than_are_saved_are_refused(copy):
    with pytest.raises(ValueError, match="12 epochs are saved, more than epochs=7. Ask for 12 or more"):
        fit(copy, epochs=7)


OTHER = fn.Chain(fn.Dense(3, 4), fn.Sigmoid(), fn.Dropout(0.3), fn.Dense(4, 2))


@pytest.mark.fast
@pytest.mark.parametrize(
    ("options", "before", "now"),
    [
        ({"net": OTHER}, "Tanh()", "Sigmoid()"),
        ({"optimizer": optax.sgd(0.1, momentum=0.9)}, "mu=", "TraceState("),
        ({"data": (X[:9], Y[:9])}, "[10, 3]", "[9, 3]"),
        ({"weights": jnp.ones(10)}, "'float64[10, 2]', None)", "'float64[10, 2]', 'float64[10]')"),
        ({"validation": None, "metrics": None}, "R2()", "now:   ()"),
        ({"name": "other"}, "saved: \n", "now:   other"),
        ({"batch_size": 5}, "saved: 4", "now:   5"),
        ({"accumulate": 2}, "saved: 1", "now:   2"),
        ({"seed": 1}, "[0, 0]", "[0, 1]"),
        ({"penalty": fn.L2(0.1)}, "saved: None", "L2(0.1)"),
        ({"trainable": (False, True, True, True)}, "saved: None", "(False, False, True, True)"),
        ({"early_stopping": STOPPING}, "saved: None", "('validation_cost', 0.0)"),
        ({"data": (X.at[3, 1].add(1e-9), Y)}, "values of the data", "x float64[10, 3] "),
        ({"data": (X, Y.at[9, 1].add(1e-9))}, "values of the data", "y float64[10, 2] "),
        ({"data": (X[::-1], Y[::-1])}, "values of the data", "x float64[10, 3] "),
        ({"validation": (HELD[0], -HELD[1])}, "values of the validation data", "y float64[6, 2] "),
        ({"optimizer": optax.adam(0.2)}, "what an epoch computes", "the optimiser"),
        ({"optimizer": optax.adam(0.1, b1=0.8)}, "what an epoch computes", "the optimiser"),
        ({"optimizer": optax.radam(0.1)}, "what an epoch computes", "the optimiser"),
        ({"optimizer": optax.adam(lambda step: 0.1 / (1 + step * 0))}, "optimiser's state", "now:"),
        ({"net": fn.Chain(fn.Dense(3, 4), fn.Tanh(), fn.Dropout(0.4), fn.Dense(4, 2))}, "Dropout(0.3)", "Dropout(0.4)"),
        ({"state": start()._replace(params=params_of(NET, seed=4))}, "values of the starting params", "now:"),
        ({"state": start()._replace(step=jnp.asarray(1, jnp.int32))}, "([0, 0], 0)", "([0, 0], 1)"),
        ({"state": fn.train_state(ADAM, params_of(NET), jax.random.key(0, impl="rbg"))}, "fry", "rbg"),
    ],
)
def test_another_training_is_refused_and_both_are_shown(saved, options, before, now):
    folder, _ = saved
    with pytest.raises(ValueError, match="another training") as error:
        fit(folder, **options)
    text = str(error.value)
    for fragment in (str(folder), before, now, "saved:", "overwrite=True"):
        assert fragment in text, text


def test_a_weight_of_another_value_is_another_training(tmp_path):
    fit(tmp_path, epochs=1, weights=jnp.ones(10))
    with pytest.raises(ValueError, match=r"values of the data(.|\n)*weights float64\[10\] "):
        fit(tmp_path, epochs=1, weights=jnp.ones(10).at[4].set(2))


def with_code(kind, value):
    """An object of the user's that says nothing of what it computes."""
    part = fn.spec(
        type("Own", (kind,), {"__repr__": lambda self: "Own()", "__eq__": lambda a, b: a is b, "__hash__": id})
    )

    def changed(name):
        old = getattr(kind, name)
        return lambda self, *arguments: jax.tree.map(lambda a: value * a, old(self, *arguments))

    for name in ("delta", "backward", "value"):
        if hasattr(kind, name):
            setattr(part, name, changed(name))
    return part()


@pytest.mark.fast
def test_code_and_constants_of_ones_own_are_compared(tmp_path):
    def trained(folder, loss=LOSS, metric=None, table=None):
        def shifted(updates, state, params=None):
            return jax.tree.map(lambda u: u * table if u.shape == table.shape else u, updates), state

        chained = ADAM if table is None else optax.chain(optax.GradientTransformation(lambda p: (), shifted), ADAM)
        metrics = metric and [metric]
        state = start(chained)
        checkpoint = fn.Checkpoint(tmp_path / folder, 0)
        return fn.fit(NET, loss, chained, state, (X, Y), epochs=1, batch_size=4, metrics=metrics, checkpoint=checkpoint)

    pairs = {
        "what the loss computes": [{"loss": with_code(fn.SquaredError, factor)} for factor in (1.0, 1.5)],
        "what is recorded": [{"metric": with_code(fn.MeanAbsoluteError, factor)} for factor in (1.0, 1.5)],
        "what an epoch computes": [{"table": np.array([factor, 1.0])} for factor in (1.0, 1.5)],
    }
    for number, (what, (first, second)) in enumerate(pairs.items()):
        trained(str(number), **first)
        trained(str(number), **first)
        with pytest.raises(ValueError, match=what):
            trained(str(number), **second)


@pytest.mark.fast
def test_folds_in_one_folder_are_not_handed_back_as_one(tmp_path):
    for fold in range(3):
        rows = np.arange(10) % 3 != fold
        data, overwrite = (X[rows][:6], Y[rows][:6]), {"overwrite": fold == 2}
        checkpoint = fn.Checkpoint(tmp_path, 0, **overwrite)
        call = partial(fn.fit, NET, LOSS, ADAM, start(), data, epochs=2, batch_size=3)
        if fold == 1:
            with pytest.raises(ValueError, match="values of the data"):
                call(checkpoint=checkpoint)
        else:
            assert bits(call(checkpoint=checkpoint)) == bits(call())


def test_a_flag_that_changes_what_keys_draw_is_compared(saved):
    flag = jax.threefry_partitionable(not jax.config.jax_threefry_partitionable)
    with flag, pytest.raises(ValueError, match="jax_threefry_partitionable=False"):
        fit(saved[0])


def test_of_a_file_its_time_and_blocks_are_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprints, "BLOCK", 24)  # a row
    monkeypatch.setattr(fingerprints, "BLOCKS", 2)
    np.asarray(X).tofile(tmp_path / "x")

    def call():
        x = np.memmap(tmp_path / "x", np.float64, "r", shape=X.shape)
        return fit(tmp_path / "run", data=(x, np.asarray(Y)), epochs=1)

    written = os.stat(tmp_path / "x")
    call()
    call()
    os.utime(tmp_path / "x", ns=(written.st_atime_ns, written.st_mtime_ns + 10**9))
    with pytest.raises(ValueError, match="written"):
        call()
    np.asarray(X.at[9, 2].add(1)).tofile(tmp_path / "x")
    os.utime(tmp_path / "x", ns=(written.st_atime_ns, written.st_mtime_ns))
    with pytest.raises(ValueError, match=r"x float64\[10, 3\] "):
        call()


@pytest.mark.fast
def test_how_long_and_what_looks_on_may_change(saved, copy, capsys):
    assert bits(fit(copy, seconds=1, keep=3)) == bits(saved[1])
    assert "has ended: nothing is run" in capsys.readouterr().err
    state, history = fit(copy, epochs=14, telemetry=2)
    assert "goes on from epoch 12 of 14" in capsys.readouterr().err
    expected, plain = fit(epochs=14, telemetry=2)
    assert disagreement((state.params, history["cost"]), (expected.params, plain["cost"])) <= 1e-12
    for name in plain.telemetry:
        assert np.allclose(history.seen(name)[12:], plain.seen(name)[12:], rtol=1e-11, atol=0, equal_nan=True)
        assert name == "step" or np.isnan(history.seen(name)[:12]).all()


def test_a_longer_patience_goes_on(tmp_path, capsys):
    def call(folder, patience):
        return fit(folder, early_stopping=fn.EarlyStopping("validation_r2", patience), epochs=40)

    assert int(call(tmp_path, 2)[1].epochs) < int((whole := call(None, 6))[1].epochs)
    assert bits(call(tmp_path, 6)) == bits(whole)
    assert "goes on from epoch" in capsys.readouterr().err


def about_of(folder, change):
    """Change what a checkpoint says of itself, with a checksum that fits."""
    saver = Saver(fn.Checkpoint(folder), {}, "cost", False)
    for epoch in epochs_in(folder):
        arrays, about = saver.disk.read(path_of(folder, epoch))
        arrays = change(arrays, about) or arrays
        shutil.rmtree(path_of(folder, epoch))
        about["sha256"] = checkpoint_files.checksum_of(arrays, about)
        saver.disk.write(path_of(folder, epoch), arrays, about)


def test_other_versions_are_told_of_once_and_go_on(tmp_path):
    whole = fit(tmp_path / "run", epochs=2)

    def older(arrays, about):
        about["versions"]["optax"] = "0.0.1"
        about["programs"] = dict.fromkeys(about["programs"], "another")

    about_of(tmp_path / "run", older)
    with pytest.warns(RuntimeWarning, match=rf"optax 0.0.1, now {optax.__version__}") as said:
        assert bits(fit(tmp_path / "run", epochs=2)) == bits(whole)
    assert len(said) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a, about: {k: v for k, v in a.items() if "'b'" not in k}, "is nothing, expected float64"),
        (
            lambda a, about: {k: v[:1] if "'b'" in k else v for k, v in a.items()},
            r"float64\[1\], expected float64\[4\]",
        ),
        (lambda a, about: {k: v.astype(np.float32) if "'b'" in k else v for k, v in a.items()}, "float32"),
        (lambda a, about: a | {".epoch": np.array(7, np.int32)}, "it holds 7 epochs"),
        (lambda a, about: {k: v[:1] if "columns" in k else v for k, v in a.items()}, r"\[1\], expected float64\[2\]"),
        (lambda a, about: a | {".state.more": np.ones(3)}, "no place for .state.more"),
    ],
    ids=["missing", "shape", "type", "epoch", "column", "more"],
)
@pytest.mark.fast
def test_what_does_not_fit_is_refused_and_never_filled_in(tmp_path, change, said):
    fit(tmp_path / "run", epochs=2, seconds=1e9)
    about_of(tmp_path / "run", change)
    with pytest.raises(ValueError, match=f"epoch 2 does not fit this training: .*{said}"):
        fit(tmp_path / "run", epochs=2)


@pytest.mark.fast
def test_fingerprints_are_those_of_another_process(tmp_path):
    code = (
        "import jax, jax.numpy as jnp, numpy as np, sys\n"
        "from funcnet._core.fingerprints import program_fingerprint\n"
        "f = lambda x, t=np.arange(3.0): jax.lax.scan(lambda c, a: (c * 0.1 + a, jnp.sin(c)), x, jnp.asarray(t))\n"
        "print(program_fingerprint(f, np.float32(1)))\n"
    )
    said = [child(tmp_path / f"{n}.py", code).communicate()[0] for n in range(2)]
    assert len(said[0].strip()) == 16
    assert said[0] == said[1]


def test_other_lanes_are_refused(tmp_path):
    many(tmp_path / "run", epochs=5)
    for change, before, now in (
        ({"seeds": (0, 2)}, "(0, 1)", "(0, 2)"),
        ({"rates": (0.01, 0.2)}, "(0.01, 0.3)", "(0.01, 0.2)"),
    ):
        with pytest.raises(ValueError, match="another training") as error:
            many(tmp_path / "run", epochs=5, **change)
        assert before in str(error.value)
        assert now in str(error.value)


TWO_LOOKS = {"looks": 2}


def some_progress(values):
    """A progress after so many epochs, with leaves of every kind that an optimiser may keep."""
    state = fn.TrainState(
        params={"w": jnp.arange(3.0, dtype=jnp.bfloat16), "none": jnp.zeros((0, 3)), "half": jnp.ones(2, jnp.float16)},
        opt_state=(jnp.asarray(True), jax.random.key(5), jax.random.key(6, impl="rbg"), None, jnp.asarray(3, jnp.int8)),
        step=jnp.asarray(7, jnp.int32),
        key=jax.random.key(1),
    )
    done = jnp.asarray(values, float)
    return Progress(
        state=state,
        epoch=jnp.asarray(len(values), jnp.int32),
        status=jnp.zeros((), jnp.int32),
        columns={"cost": done},
        telemetry={"norm": jnp.repeat(done, 2)},
        best=(),
        best_value=jnp.asarray(jnp.inf),
        best_epoch=jnp.zeros((), jnp.int32),
    )


def test_every_kind_of_array_comes_back_as_it_was(tmp_path):
    now = some_progress([3.0, 2.0])
    Saver(fn.Checkpoint(tmp_path), {}, "cost", False).close(now)
    found = Saver(fn.Checkpoint(tmp_path), {}, "cost", False, facts=TWO_LOOKS).resume(some_progress([]))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(now), strict=True):
        assert a.dtype == b.dtype
        a, b = (jax.random.key_data(c) if jnp.issubdtype(c.dtype, jax.dtypes.prng_key) else c for c in (a, b))
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.mark.fast
@pytest.mark.parametrize(
    ("values", "larger", "kept"),
    [
        ([5.0, 4.0, 3.0, 2.0, 1.0], False, [4, 5]),
        ([5.0, 1.0, 3.0, 2.0, 4.0], False, [2, 4, 5]),
        ([1.0, 2.0, 3.0, 4.0, 5.0], False, [1, 4, 5]),
        ([5.0, 1.0, 6.0, 2.0, 4.0], True, [3, 4, 5]),
        ([np.nan, 2.0, 2.0, np.nan, np.nan], False, [2, 4, 5]),
    ],
    ids=["falling", "up and down", "rising", "larger is better", "not a number"],
)
def test_the_latest_and_the_best_are_kept(tmp_path, values, larger, kept):
    wanted = fn.Checkpoint(tmp_path, seconds=0, keep=2)
    for epoch in range(1, 6):
        saver = Saver(wanted, {}, "cost", larger, facts=TWO_LOOKS)
        saver.resume(some_progress([]))
        saver.close(some_progress(values[:epoch]))
    assert epochs_in(tmp_path) == kept


def test_the_best_is_that_of_the_watched_column(tmp_path):
    _, history = stopping(tmp_path / "run", keep=1)
    end = int(history.epochs)
    best = max({min(epoch, end) for epoch in (1, 5, 9, 12)}, key=lambda epoch: history["validation_r2"][epoch - 1])
    assert epochs_in(tmp_path / "run") == sorted({best, end})
    assert best < end


def test_nothing_is_saved_before_the_time_has_come_but_the_end_is(tmp_path):
    fit(tmp_path / "run", seconds=3600)
    assert epochs_in(tmp_path / "run") == [12]


@pytest.mark.parametrize("during", ["training", "saving"])
def test_ctrl_c_saves(saved, tmp_path, monkeypatch, during):
    calls = []

    def interrupted(what):
        def call(*arguments):
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return what(*arguments)

        return call

    owner, name = (FIT, "_run") if during == "training" else (orbax.Checkpointer, "save")
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupted(getattr(owner, name)))
        with pytest.warns(RuntimeWarning, match="cut short after epoch"):
            _, history = fit(tmp_path / "run")
    assert "Interrupted" in history.stopped
    assert epochs_in(tmp_path / "run") == ([1, 5] if during == "training" else [1, 5, 9])
    assert bits(fit(tmp_path / "run")) == bits(saved[1])


def test_an_epoch_that_was_not_finite_is_tried_once_more_and_another_rate_is_another_training(tmp_path):
    def rated(rate):
        return optax.sgd(lambda step: jnp.where(step == 19, rate, 1e-2))  # in the seventh epoch

    bare, high = {"validation": None, "metrics": None}, rated(1e300)
    for _ in range(2):
        with pytest.warns(RuntimeWarning, match="epoch 7: at step"):
            _, history = fit(tmp_path / "run", optimizer=high, **bare)
        assert int(history.epochs) == 6
    with pytest.raises(ValueError, match="what an epoch computes"):
        fit(tmp_path / "run", optimizer=rated(1e-2), **bare)


class Boom:
    """Unpickled, it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def files_in(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def resumed(folder):
    """The end of the training in that folder, and what was said on the way."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = fit(folder)
    return bits(found), [str(one.message) for one in said if one.category is RuntimeWarning]


def flipped(path):
    draw = np.random.default_rng(path.stat().st_size)
    content = bytearray(path.read_bytes())
    content[draw.integers(len(content))] ^= 1 << draw.integers(8)
    path.write_bytes(content)


DAMAGES = {
    "flipped bit": flipped,
    "cut short": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
    "a pickle": lambda path: path.write_bytes(pickle.dumps(Boom("executed"))),
}


@pytest.mark.fast
@orbax_leaves_errors
@pytest.mark.parametrize("damage", DAMAGES)
def test_each_file_of_the_newest_checkpoint_damaged_in_turn(saved, tmp_path, programs_known, monkeypatch, damage):
    """Either the file did not matter, or it is told and the one before taken: the end is the same in any case."""
    monkeypatch.chdir(tmp_path)
    folder, trained = saved
    told = []
    for number, file in enumerate(files_in(path_of(folder, 12))):
        copy = shutil.copytree(folder, tmp_path / str(number))
        DAMAGES[damage](copy / file.relative_to(folder))
        found, said = resumed(copy)
        assert found == bits(trained), file
        assert not said or re.search(r"epoch 12 \(\w+: .*cannot be read; going on from epoch 9", said[0]), said
        assert {1, 5, 9, 12} <= set(epochs_in(copy))
        if said and not any(told):
            assert resumed(copy) == (bits(trained), []), "the damaged one was not written anew"
        told.append(bool(said))
    unread = damage == "flipped bit"  # one file holds words that nothing reads, and the bit may fall there
    assert sum(told) >= 4 - unread
    gc.collect()  # Orbax leaves what its readers raised to the garbage collector
    assert not os.path.exists("executed")


@orbax_leaves_errors
def test_what_does_not_belong_in_the_folder(saved, copy, tmp_path):
    boom = pickle.dumps(Boom(tmp_path / "executed"))
    (copy / "notes.txt").write_text("of the user's")
    (copy / "epoch_best.pkl").write_bytes(boom)
    path_of(copy, 13).write_bytes(boom)
    path_of(copy, 14).mkdir()
    shutil.copytree(path_of(copy, 9) / "state", path_of(copy, 15))
    found, said = resumed(copy)
    assert found == bits(saved[1])
    assert all(f"epoch {epoch} (" in said[0] for epoch in (13, 14, 15))
    gc.collect()
    assert "going on from epoch 12" in said[0]
    assert {"notes.txt", "epoch_best.pkl"} <= {path.name for path in copy.iterdir()}
    assert not (tmp_path / "executed").exists()


@orbax_leaves_errors
def test_if_none_can_be_read_it_says_so(copy):
    for epoch in (1, 5, 9, 12):
        for file in files_in(path_of(copy, epoch)):
            file.write_bytes(b"")
    with pytest.raises(ValueError, match="no checkpoint in .* can be read") as error:
        fit(copy)
    gc.collect()
    assert all(f"epoch {epoch} (" in str(error.value) for epoch in (1, 5, 9, 12))
    assert "name another directory" in str(error.value)


@pytest.mark.fast
@pytest.mark.parametrize("what", ["key", "step", "column", "params"])
def test_content_that_is_not_what_was_summed_is_damage(tmp_path, monkeypatch, what):
    """Files that are whole for Orbax but hold something else: the checksum alone can tell."""
    now = some_progress([3.0, 2.0])
    other = {
        "key": now._replace(state=now.state._replace(key=jax.random.key(9))),
        "step": now._replace(state=now.state._replace(step=now.state.step + 1)),
        "column": now._replace(columns={"cost": now.columns["cost"].at[0].set(9.0)}),
        "params": now._replace(state=now.state._replace(params=now.state.params | {"half": jnp.zeros(2, jnp.float16)})),
    }[what]
    saver = Saver(fn.Checkpoint(tmp_path), {}, "cost", False)
    write = saver.disk.write
    monkeypatch.setattr(saver.disk, "write", lambda path, _, about: write(path, arrays_of(other), about))
    saver.close(now)
    with pytest.raises(ValueError, match="its checksum is not that of its content"):
        Saver(fn.Checkpoint(tmp_path), {}, "cost", False, facts=TWO_LOOKS).resume(some_progress([]))


@pytest.mark.fast
def test_a_save_that_failed_is_told_of_once_and_the_next_epoch_is_tried(tmp_path, monkeypatch):
    saver = Saver(fn.Checkpoint(tmp_path, seconds=0), {}, "cost", False)
    write = saver.disk.write

    def full(path, arrays, about):
        raise OSError("No space left on device")

    monkeypatch.setattr(saver.disk, "write", full)
    with pytest.warns(RuntimeWarning, match="epoch 2 could not be saved .*No space left on device"):
        saver.see(Chunk(now := some_progress([3.0, 2.0]), 0, lambda: now))
    saver.close(some_progress([3.0, 2.0]))  # a second warning would be an error
    monkeypatch.setattr(saver.disk, "write", write)
    saver.close(some_progress([3.0, 2.0, 1.0]))
    assert set(saver.values) == {3}


CHILD = """
import sys, warnings
import jax, jax.numpy as jnp, numpy as np, optax
jax.config.update("jax_enable_x64", True)
import funcnet as fn

net = fn.Chain(fn.Dense(3, 4), fn.Tanh(), fn.Dropout(0.3), fn.Dense(4, 2))
draw = np.random.default_rng(0)
x, y = jnp.asarray(draw.normal(size=(10, 3))), jnp.asarray(draw.normal(size=(10, 2)))
optimizer = optax.adam(1e-2)


def train(folder, epochs):
    state = fn.train_state(optimizer, fn.init(net, jax.random.key(0)), jax.random.key(1))
    checkpoint = fn.Checkpoint(folder, seconds=0, keep=9) if folder else None
    return fn.fit(net, fn.SquaredError(), optimizer, state, (x, y), epochs=epochs, batch_size=4, checkpoint=checkpoint)


def bits(trained):
    state, history = trained
    state = state._replace(key=jax.random.key_data(state.key))
    return b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves((state, history["cost"], history.epochs)))

"""
FULL_DISK = (
    CHILD
    + """
import os, resource, shutil, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder, soft = sys.argv[1], resource.getrlimit(resource.RLIMIT_FSIZE)
whole = bits(train(folder, 8))
assert "epoch_00000001" in os.listdir(folder)
for name in os.listdir(folder):
    if name != "epoch_00000001":
        shutil.rmtree(os.path.join(folder, name))
resource.setrlimit(resource.RLIMIT_FSIZE, (64, soft[1]))
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    assert bits(train(folder, 8)) == whole
texts = [str(one.message) for one in said if one.category is RuntimeWarning]
assert sum("epoch 8 could not be saved" in text for text in texts) == 1, texts
assert any("The training goes on; the latest saved is epoch 1." in text for text in texts), texts
assert any("File too large" in text for text in texts), texts
assert os.listdir(folder) == ["epoch_00000001"], os.listdir(folder)
resource.setrlimit(resource.RLIMIT_FSIZE, soft)
warnings.simplefilter("error", RuntimeWarning)
assert bits(train(folder, 8)) == whole
assert "epoch_00000008" in os.listdir(folder)
print("as it should be")
"""
)
KILLED = CHILD + "open(sys.argv[3], 'wb').write(bits(train(sys.argv[1], int(sys.argv[2]))))\n"


def child(path, code, *arguments):
    path.write_text(code)
    # Of each program that it takes from the cache XLA writes some kilobytes, which nobody reads until the end.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen(
        [sys.executable, str(path), *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="no limits on files here")
def test_a_full_disk_costs_neither_the_training_nor_the_checkpoint_before(tmp_path):
    said, _ = child(tmp_path / "child.py", FULL_DISK, tmp_path / "run").communicate()
    assert said.strip().endswith("as it should be"), said


def test_a_kill_costs_nothing(tmp_path, monkeypatch):
    """Once, as soon as there is a checkpoint; this process ends what the killed one began."""
    monkeypatch.undo()  # by the clock, as the other process
    folder, epochs, script = tmp_path / "run", 5000, {}
    folder.mkdir()
    life = child(tmp_path / "child.py", KILLED, folder, epochs, tmp_path / "end")
    while "epoch_00000001" not in os.listdir(folder):
        assert life.poll() is None, life.communicate()[0]
        time.sleep(0.01)
    life.send_signal(signal.SIGKILL)
    life.communicate()
    assert life.returncode == -signal.SIGKILL
    exec(CHILD, script)
    assert script["bits"](script["train"](folder, epochs)) == script["bits"](script["train"](None, epochs))
    assert not any("tmp" in name for name in os.listdir(folder))


@pytest.mark.thorough
def test_twenty_kills_cost_nothing(tmp_path):
    """SIGKILL while it starts, trains and saves; taken up each time, the end has the bits of the run never killed."""
    folder, draw = tmp_path / "run", np.random.default_rng(0)
    folder.mkdir()
    never = 100_000
    reached, in_saves, startup = [], 0, 0.0
    for kill in range(20):
        before = set(os.listdir(folder))
        life = child(tmp_path / "child.py", KILLED, folder, never, tmp_path / "end")
        began = time.perf_counter()
        if kill % 5 == 4:  # somewhere while it starts
            time.sleep(draw.uniform(0.1, startup))
        else:
            while not {name for name in set(os.listdir(folder)) - before if len(name) == len("epoch_00000001")}:
                assert life.poll() is None, life.communicate()[0]
                time.sleep(0.01)
            startup = time.perf_counter() - began
            time.sleep(draw.uniform(0, 0.5))
        life.send_signal(signal.SIGKILL)
        life.communicate()
        assert life.returncode == -signal.SIGKILL
        names = os.listdir(folder)
        in_saves += any("tmp" in name for name in names)
        reached.append(max(int(name[6:]) for name in names if "tmp" not in name))
    print(f"killed after the epochs {reached}; {in_saves} times in the middle of a save")
    assert len(set(reached)) > 10
    assert in_saves
    for own, end in ((folder, "end"), ("", "whole")):
        life = child(tmp_path / "child.py", KILLED, own, reached[-1] + 20, tmp_path / end)
        said, _ = life.communicate()
        assert life.returncode == 0, said
    assert (tmp_path / "end").read_bytes() == (tmp_path / "whole").read_bytes()
    assert not any("tmp" in name for name in os.listdir(folder))


def test_without_orbax_the_way_to_it_is_named(tmp_path, monkeypatch):
    for name in ("orbax", "orbax.checkpoint"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install -e '.\[checkpoint\]'"):
        fit(tmp_path / "run")


def test_bad_input(tmp_path):
    with pytest.raises(TypeError, match="checkpoint: expected Checkpoint"):
        fn.fit(NET, LOSS, ADAM, start(), (X, Y), epochs=1, batch_size=4, checkpoint="folder")
    with pytest.raises(ValueError, match="Leave checkpoint out"):
        jax.jit(lambda state: fit(tmp_path / "run", state=state))(start())


SIGTERM = (
    CHILD
    + """
import os, signal, threading
folder, how = sys.argv[1], sys.argv[2]
if how == "own":
    signal.signal(signal.SIGTERM, lambda number, frame: (print("own", sorted(os.listdir(folder))[-1], flush=True)))
if how == "ignored":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
before = signal.getsignal(signal.SIGTERM)

def killer():
    while not any(name.startswith("epoch") and "tmp" not in name for name in os.listdir(folder)):
        pass
    os.kill(os.getpid(), signal.SIGTERM)

os.makedirs(folder, exist_ok=True)
if how == "thread":
    thread = threading.Thread(target=train, args=(folder, 5))
    thread.start()
    thread.join()
else:
    threading.Thread(target=killer).start()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state, history = train(folder, 100 if how == "ignored" else 10**6)
    assert signal.getsignal(signal.SIGTERM) is before
    print(history.stopped, int(history.epochs), int(state.step))
"""
)


@pytest.mark.fast
@pytest.mark.parametrize("how", ["default", "own", "ignored", "thread"])
def test_sigterm_saves_and_then_does_what_it_did(tmp_path, how):
    life = child(tmp_path / "child.py", SIGTERM, tmp_path / "run", how)
    said, _ = life.communicate()
    assert life.returncode == (128 + signal.SIGTERM if how == "default" else 0), said
    newest = max(epochs_in(tmp_path / "run"))
    if how == "default":
        script = {}
        exec(CHILD, script)
        done, record = script["train"](tmp_path / "run", newest)  # nothing of it is lost
        assert int(record.epochs) == newest
        assert int(done.step) == 3 * newest
        return
    if how == "own":
        assert f"own epoch_{newest:08d}" in said  # called when all was saved
        assert f"Terminated: the training was cut short after epoch {newest} of 1000000" in said
    elif how == "ignored":
        assert said.strip().endswith("100 300")


@pytest.mark.fast
def test_a_folder_belongs_to_one_training_at_a_time(tmp_path):
    def second(epoch, row):
        with pytest.raises(RuntimeError, match=r"run is in use by another training.*a folder of its own"):
            fit(tmp_path / "run", epochs=1)

    fit(tmp_path / "run", epochs=2, on_epoch=second)
    fit(tmp_path / "run", epochs=3)  # it was let go


@pytest.mark.fast
def test_rows_are_given_to_a_function_once_however_often_it_is_taken_up(tmp_path):
    rows = []
    for epochs in (2, 2, 5):
        fit(tmp_path / "run", epochs=epochs, on_epoch=lambda epoch, row: rows.append((epoch, row["cost"])))
    assert [epoch for epoch, _ in rows] == [1, 2, 3, 4, 5]
    assert [value for _, value in rows] == fit(None, epochs=5)[1]["cost"].tolist()


def test_fewer_are_kept_whoever_saved_them(tmp_path):
    fit(tmp_path / "run", keep=9)
    assert len(epochs_in(tmp_path / "run")) > 2
    fit(tmp_path / "run", keep=1)
    assert len(epochs_in(tmp_path / "run")) <= 2  # the latest and the best


@pytest.mark.fast
@pytest.mark.parametrize("train", [fit, stopping, watched], ids=["fit", "stopping", "watched"])
def test_what_is_saved_is_loaded_without_training(tmp_path, train):
    state, history = train(tmp_path / "run", keep=9)
    optimizer = ADAM
    loaded, record = fn.load_checkpoint(tmp_path / "run", "best" if train is stopping else "last", optimizer=optimizer)
    assert bits((loaded, history)) == bits((state, history))
    assert record.names == history.names
    assert int(record.epochs) == int(history.epochs)
    assert int(record.best_epoch) == int(history.best_epoch)
    for name in history.names:
        assert record[name].tolist() == history[name].tolist()
    assert set(record.telemetry) == set(history.telemetry)
    for name in history.telemetry:
        np.testing.assert_array_equal(record.seen(name), history.seen(name))
    bare, _ = fn.load_checkpoint(str(tmp_path / "run"), 5)
    assert (bare.opt_state, int(bare.step)) == (None, 15)
    assert jax.tree.structure(bare.params) == jax.tree.structure(state.params)


@pytest.mark.fast
def test_the_best_that_is_kept_is_loaded(tmp_path):
    fit(tmp_path / "run", keep=9)
    kept = epochs_in(tmp_path / "run")
    _, whole = fn.load_checkpoint(tmp_path / "run", "last")
    best = min(kept, key=lambda epoch: whole["validation_cost"][epoch - 1])
    state, record = fn.load_checkpoint(tmp_path / "run")
    assert int(record.epochs) == best
    assert int(state.step) == 3 * best


def test_many_and_private_trainings_are_loaded_too(tmp_path):
    expected, record = many(tmp_path / "many")
    states, history = fn.load_checkpoint(tmp_path / "many", "best", optimizer=RATED)
    assert bits((states, record)) == bits((expected, record))
    np.testing.assert_array_equal(history.columns["cost"], record.columns["cost"])
    _, record = fit(tmp_path / "private", epochs=2, privacy=fn.Privacy(1.0, 1.0), batch_size=5)
    _, loaded = fn.load_checkpoint(tmp_path / "private", "last")
    assert loaded["epsilon"].tolist() == record["epsilon"].tolist()


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda folder: fn.load_checkpoint(folder / "none"), FileNotFoundError, "there is no checkpoint in"),
        (lambda folder: fn.load_checkpoint(folder, 2), ValueError, r"epoch 2 is not in .*; there are \d"),
        (lambda folder: fn.load_checkpoint(folder, "newest"), TypeError, "which: expected 'best', 'last' or an epoch"),
        (lambda folder: fn.load_checkpoint(folder, optimizer=optax.sgd(0.1, 0.9)), ValueError, "is not that of the"),
        (lambda folder: fn.load_checkpoint(folder, optimizer=3), TypeError, "optimizer: expected one of optax's"),
    ],
)
def test_what_cannot_be_loaded_is_said(saved, call, kind, words):
    with pytest.raises(kind, match=words):
        call(saved[0])


def test_an_earlier_checkpoint_says_that_it_cannot_be_loaded_alone():
    folder = ROOT / "tests/references/version_0_1/checkpoint"
    with pytest.raises(ValueError, match="saved before funcnet wrote down how parameters stand together"):
        fn.load_checkpoint(folder)


@pytest.mark.fast
def test_epochs_that_are_not_watched_are_compared(tmp_path):
    """They decide which epoch is the best; the patience does not."""
    watched_from = partial(fn.EarlyStopping, "validation_r2", 40)
    fit(tmp_path, epochs=2, early_stopping=watched_from())
    with pytest.raises(ValueError, match=r"early stopping watches(.|\n)*now: +\('validation_r2', 0.0, 3\)"):
        fit(tmp_path, epochs=2, early_stopping=watched_from(start_from_epoch=3))


def test_what_differs_is_shown_around_the_first_difference():
    both = [f"({'a, ' * 60}{letter}{', z' * 60})" for letter in "bc"]
    shown = descriptions.both_sides(*both)
    assert [len(text) <= 92 for text in shown] == [True, True]
    assert [text.replace(letter, "?") for text, letter in zip(shown, "bc")] == [shown[0].replace("b", "?")] * 2
    assert descriptions.both_sides("Dense(2, 3)", None) == ("Dense(2, 3)", "None")
    assert descriptions.both_sides("a" * 100, "a" * 100 + "b")[1].endswith("aab")
