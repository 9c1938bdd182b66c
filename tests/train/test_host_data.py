"""Data on the host: the same bits as on the device, moved in pieces, and never all of it there."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from table import params_of, random, same_bits

import funcnet as fn
from funcnet.train import checks, host_data

NET = fn.Chain(fn.Dense(3, 4), fn.Tanh(), fn.Dropout(0.3), fn.Dense(4, 2))
LOSS, ADAM = fn.SquaredError(), optax.adam(1e-2)
X, Y = np.array(random(1, 50, 3)), np.array(random(2, 50, 2))
WEIGHTS = np.random.default_rng(3).uniform(size=50)
HELD = random(4, 6, 3), random(5, 6, 2)
BARE = {"validation": None, "metrics": None}
STEP = 8 * 5 * 8  # the bytes of a batch of 8 rows of 5 numbers


@pytest.fixture(autouse=True)
def _as_optax_wants_it():
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    """X as a file of its own, read by pieces."""
    path = tmp_path_factory.mktemp("data") / "x"
    file = np.memmap(path, X.dtype, "w+", shape=X.shape)
    file[:] = X
    file.flush()
    return np.memmap(path, X.dtype, "r", shape=X.shape)


def fit(x, y=Y, optimizer=ADAM, net=NET, params=None, loss=LOSS, **options):
    state = fn.train_state(optimizer, params or params_of(net), jax.random.key(0))
    options = {"epochs": 3, "batch_size": 8, "validation": HELD, "metrics": [fn.MeanAbsoluteError()]} | options
    return fn.fit(net, loss, optimizer, state, (x, y), **options)


def assert_same_bits(found, expected):
    (state, history), (other, record) = found, expected
    for a, b in zip(jax.tree.leaves(state[:3]), jax.tree.leaves(other[:3]), strict=True):
        assert same_bits(a, b)
    assert (jax.random.key_data(state.key) == jax.random.key_data(other.key)).all()
    assert history.names == record.names
    for name in history.names:
        assert same_bits(history[name], record[name]), name
    assert int(history.best_epoch) == int(record.best_epoch)
    assert history.stopped == record.stopped


@pytest.fixture(scope="module")
def whole():
    with jax.numpy_dtype_promotion("standard"):
        return fit(X)


@pytest.mark.fast
@pytest.mark.parametrize("size", [1, 3 * STEP + 1, 2**25])
def test_pieces_of_any_size_give_the_bits_of_data_on_the_device(mapped, whole, monkeypatch, size):
    """Dropout, and a last batch of 2 rows of 8; pieces of 1, 3 and all 7 batches."""
    monkeypatch.setattr(host_data, "PIECE_BYTES", size)
    assert_same_bits(fit(mapped), whole)


@pytest.mark.parametrize(
    "options",
    [
        {"weights": WEIGHTS, "accumulate": 2, "penalty": fn.L2(0.1), **BARE},
        {
            "weights": fn.class_weights(np.arange(50) % 3),
            "early_stopping": fn.EarlyStopping("cost", patience=1, min_change=0.05),
            "epochs": 9,
        },
        {"trainable": (False, True, True, True), "batch_size": 10, "compute_dtype": "bfloat16", **BARE},
    ],
    ids=["weights, parts", "weights on the device, early stopping", "frozen, no smaller batch, bfloat16"],
)
def test_the_same_bits_with_every_option(mapped, monkeypatch, options):
    monkeypatch.setattr(host_data, "PIECE_BYTES", 1)  # a batch at a time, so that all pieces have one shape
    assert_same_bits(fit(mapped, **options), fit(X, **options))


@pytest.mark.fast
def test_the_data_are_never_whole_on_the_device(monkeypatch):
    """An autoencoder: its targets are as large as its inputs."""
    x, net = np.random.default_rng(0).normal(size=(400, 6)), fn.mlp((6, 2, 6))
    step, moved = 8 * 12 * 8, []
    monkeypatch.setattr(host_data, "PIECE_BYTES", 3 * step)
    monkeypatch.setattr(checks, "PIECE_BYTES", step // 2)

    def counted(move):
        def counting(values, *rest, **options):
            moved.append(sum(leaf.nbytes for leaf in jax.tree.leaves(values) if isinstance(leaf, np.ndarray)))
            return move(values, *rest, **options)

        return counting

    monkeypatch.setattr(jax, "device_put", counted(jax.device_put))
    monkeypatch.setattr(jnp, "asarray", counted(jnp.asarray))
    host = x.view(np.memmap)
    fit(host, host, net=net, **BARE)
    assert len([size for size in moved if size > step]) == 3 * 17  # in each epoch 50 batches, three at a time
    assert max(moved) < 4 * step < x.nbytes / 2


def test_a_step_that_is_not_finite_is_named_alike(mapped, monkeypatch):
    monkeypatch.setattr(host_data, "PIECE_BYTES", 1)
    later = optax.sgd(optax.piecewise_constant_schedule(1e-2, {11: 1e300, 12: 1e300}))
    results = []
    for x in (mapped, X):
        with pytest.warns(RuntimeWarning, match=r"epoch 2: at step \d of 7 .* is not finite"):
            results.append(fit(x, optimizer=later, **BARE))
    assert_same_bits(*results)


@pytest.mark.fast
@pytest.mark.parametrize("piece", [1, 200, 2**25])
def test_rows_are_checked_as_in_memory_and_named_by_their_number(monkeypatch, piece):
    monkeypatch.setattr(checks, "PIECE_BYTES", piece)
    x, labels, weights = np.array(X), np.arange(50) % 2, np.ones(50)
    x[35, 1], labels[35] = np.nan, 7
    with pytest.raises(ValueError, match=r"^x\[35, 1\] is nan"):
        fit(x.view(np.memmap))
    with pytest.raises(ValueError, match=r"classes must be 0 … 1, but y\[35\] is 7"):
        fit(np.array(X).view(np.memmap), labels, loss=fn.CrossEntropy(), **BARE)
    weights[35] = np.nan
    with pytest.raises(ValueError, match=r"^weights\[35\] is nan"):
        fit(np.array(X).view(np.memmap), weights=weights)
    weights[35] = 0  # what does not count may be anything
    fit(x.view(np.memmap), weights=weights, **BARE)


@pytest.mark.fast
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float16, bool])
def test_narrow_types_are_moved_as_they_are_and_propagated_in_the_parameters_type(monkeypatch, dtype):
    x, moved = np.array(10 * abs(X)).astype(dtype), []
    put = jax.device_put

    def counting(values, *rest, **options):
        moved.extend(leaf.dtype for leaf in jax.tree.leaves(values) if getattr(leaf, "shape", ())[-1:] == x.shape[1:])
        return put(values, *rest, **options)

    monkeypatch.setattr(jax, "device_put", counting)
    found = fit(x.view(np.memmap))
    assert dtype in moved
    assert_same_bits(found, fit(x.astype(float)))
    values = fn.evaluate(NET, LOSS, found[0].params, (x.view(np.memmap), Y))
    assert values == pytest.approx(fn.evaluate(NET, LOSS, found[0].params, (x.astype(float), Y)), rel=1e-12)


def test_images_as_they_come_are_scaled_by_the_first_layer():
    draw = np.random.default_rng(3)
    images, labels = draw.integers(0, 256, (20, 6, 6), dtype=np.uint8), draw.integers(0, 3, 20)
    net = fn.Chain(fn.FrozenBatchNorm(1), fn.Conv(1, 2, (3, 3)), fn.ReLU(), fn.Flatten(), fn.Dense(72, 3))
    known, *rest = params_of(net, dtype=np.float32)
    params = (known | {"mean": np.full(1, 127.5, "f"), "var": np.full(1, 5500.0, "f")}, *rest)
    held = tuple(jax.tree.map(lambda leaf, i=i: i > 0, part) for i, part in enumerate(params))
    options = {"net": net, "params": params, "loss": fn.CrossEntropy(), "trainable": held, **BARE}
    as_they_come = fit(images[..., None].view(np.memmap), labels, **options)
    assert_same_bits(as_they_come, fit(images[..., None].astype(np.float32), labels, **options))
    assert (as_they_come[0].params[0]["mean"] == 127.5).all()


def test_float64_on_the_host_is_float32_on_the_device_where_jax_has_no_other():
    options = {"params": params_of(NET, dtype=np.float32), "validation": tuple(np.asarray(part) for part in HELD)}
    jax.config.update("jax_enable_x64", False)
    try:
        assert_same_bits(fit(X.view(np.memmap), **options), fit(X, **options))
    finally:
        jax.config.update("jax_enable_x64", True)


def test_with_ctrl_c_the_state_is_that_of_the_last_epoch(mapped, monkeypatch):
    calls, recorded = [], host_data._recorded

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return recorded(*arguments)

    monkeypatch.setattr(host_data, "_recorded", interrupted)
    with pytest.warns(RuntimeWarning, match="cut short after epoch 1 of"):
        found, history = fit(mapped)
    assert int(history.epochs) == 1
    assert int(found.step) == 7
    assert "Interrupted" in history.stopped


@pytest.mark.parametrize(
    ("options", "kind", "fragments"),
    [
        ({"y": Y[:20]}, ValueError, ["x has 50 examples, y 20", "equally many"]),
        ({"weights": WEIGHTS[:20]}, ValueError, ["x has 50 examples", "weights"]),
        ({"batch_size": 51}, ValueError, ["1 to 50"]),
        ({"y": Y[:, :1]}, ValueError, ["(50, 1)"]),
        ({"weights": -WEIGHTS}, ValueError, ["weights", "0 or more"]),
    ],
)
def test_bad_input(mapped, options, kind, fragments):
    with pytest.raises(kind) as error:
        fit(mapped, **options)
    for fragment in fragments:
        assert fragment in str(error.value), str(error.value)


def test_no_examples():
    with pytest.raises(ValueError, match="no examples"):
        fit(X[:0].view(np.memmap), Y[:0])


def test_inside_jit_it_is_refused(mapped):
    state = fn.train_state(ADAM, params_of(NET), jax.random.key(0))
    with pytest.raises(ValueError, match="Leave data on the host out"):
        jax.jit(lambda state: fn.fit(NET, LOSS, ADAM, state, (mapped, Y), epochs=1, batch_size=8))(state)
