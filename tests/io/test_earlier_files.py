"""Files that version 0.1 wrote before its modules moved: each still loads, with the values that it was written with."""

import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import funcnet as fn

enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64  # since jax 0.8
FOLDER = pathlib.Path(__file__).parent.parent / "references" / "version_0_1"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
NET = fn.mlp((2, 3, 1))


@pytest.fixture(autouse=True)
def _as_they_were_written():
    with jax.numpy_dtype_promotion("standard"), enable_x64(False):
        yield


def data():
    x = jnp.linspace(-1, 1, 12).reshape(6, 2)
    return x, x[:, :1] - x[:, 1:] ** 2


@pytest.mark.fast
@pytest.mark.parametrize("row", json.loads((FOLDER / "specs.json").read_text()), ids=lambda row: row["code"][:20])
def test_json_still_loads(row):
    value = fn.from_json(row["json"])
    assert repr(value) == row["code"]
    assert fn.from_json(fn.to_json(value)) == value


@pytest.mark.fast
def test_a_model_file_still_loads():
    net, params = fn.load_model(FOLDER / "model.safetensors")
    assert net == NET
    np.testing.assert_allclose(fn.predict(net, params, data()[0]), EXPECTED["output"], rtol=1e-5, atol=1e-6)


def test_a_checkpoint_still_loads_and_the_training_goes_on(tmp_path):
    shutil.copytree(FOLDER / "checkpoint", tmp_path / "checkpoint")
    _, params = fn.load_model(FOLDER / "model.safetensors")
    optimizer = optax.adam(1e-2)
    state = fn.train_state(optimizer, params, jax.random.key(1))
    with pytest.warns(RuntimeWarning, match="earlier funcnet, which kept no fingerprints"):
        _, history = fn.fit(
            NET, fn.SquaredError(), optimizer, state, data(), epochs=6, batch_size=4, validation=data(),
            checkpoint=fn.Checkpoint(tmp_path / "checkpoint", keep=1), early_stopping=fn.EarlyStopping(patience=5),
        )  # fmt: skip
    np.testing.assert_array_equal(history["cost"][:3], np.float32(EXPECTED["cost"]))
    np.testing.assert_allclose(history["cost"], EXPECTED["cost of 6"], rtol=1e-5)
