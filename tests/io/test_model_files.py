"""Model files: architecture and parameters bit by bit, a clear word on what is damaged, and nothing ever run."""

import json
import os
import pathlib
import pickle
import struct
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from table import LAYERS, Scale, params_of

import funcnet as fn

NET = fn.Chain(fn.Dense(3, 4), fn.Tanh(), Scale(4), fn.Dense(4, 2))


@pytest.fixture
def file(tmp_path):
    fn.save_model(tmp_path / "model.safetensors", NET, params_of(NET))
    return tmp_path / "model.safetensors"


def load(path):
    return fn.load_model(path, layers=(Scale,))


def assert_same_bits(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.mark.fast
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64])
def test_every_layer_comes_back_equal_with_the_same_bits(tmp_path, dtype):
    for number, row in enumerate(LAYERS):
        params = params_of(row.layer, dtype=dtype)
        path = str(tmp_path / f"{number}.safetensors")
        fn.save_model(path, row.layer, params)
        net, found = load(path)
        assert net == row.layer
        assert_same_bits(found, params)


def test_weights_set_by_hand_in_numpy_are_saved(tmp_path):
    params = ({"w": np.eye(2), "b": np.array([np.inf, -0.0])},)
    fn.save_model(tmp_path / "m", fn.mlp((2, 2)), params)
    _, found = fn.load_model(tmp_path / "m")
    assert_same_bits(found, jax.tree.map(jnp.asarray, params))


def test_other_tools_read_the_arrays(file):
    from safetensors.numpy import load_file

    params, found = params_of(NET), load_file(file)
    assert sorted(found) == ["0.b", "0.w", "2.s", "3.b", "3.w"]
    for name, array in found.items():
        place, key = name.split(".")
        assert np.array_equal(array, params[int(place)][key])


def test_a_class_that_is_not_handed_in_is_named(file):
    with pytest.raises(ValueError, match=r"unknown name 'Scale'.*layers=\(Scale,\)"):
        fn.load_model(file)


def test_another_class_of_that_name_is_refused(file):
    @fn.spec
    class Scale:
        n: int

        def init(self, key):
            return {"t": jnp.ones(self.n)}

        def forward(self, params, x, key=None):
            return x, ()

        def backward(self, params, tape, delta):
            return delta, ()

        def gradient(self, tape, deltas):
            return {"t": jnp.ones(self.n)}

    with pytest.raises(ValueError, match="2.t is missing"):
        fn.load_model(file, layers=(Scale,))


def test_float64_needs_its_switch(file):
    jax.config.update("jax_enable_x64", False)
    try:
        with pytest.raises(ValueError, match="0.b is float64. Enable jax_enable_x64"):
            load(file)
    finally:
        jax.config.update("jax_enable_x64", True)


REMEDY = r"Save the model again|not from fn.save_model"


@pytest.mark.fast
def test_every_flipped_byte_is_noticed(file):
    whole, copy = file.read_bytes(), file.with_name("copy")
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    draw = np.random.default_rng(0)
    places = [*range(8), *draw.integers(8, header, 40), *draw.integers(header, len(whole), 20), len(whole) - 1]
    for place in places:
        for change in (1 << draw.integers(8), 0xFF):
            damaged = bytearray(whole)
            damaged[place] ^= int(change)
            copy.write_bytes(damaged)
            with pytest.raises(ValueError, match=REMEDY) as error:
                load(copy)
            assert str(copy) in str(error.value), place


@pytest.mark.fast
def test_a_file_that_is_cut_short_is_noticed(file):
    whole, copy = file.read_bytes(), file.with_name("copy")
    for length in [*range(9), 50, len(whole) // 2, len(whole) - 100, len(whole) - 8, len(whole) - 1]:
        copy.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=REMEDY):
            load(copy)
    copy.write_bytes(whole + b"\0")
    with pytest.raises(ValueError, match=REMEDY):
        load(copy)


def test_files_of_others(tmp_path):
    from safetensors.numpy import save_file

    class Boom:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    path = tmp_path / "model"
    for content in (pickle.dumps(Boom()), b"{}", b"PK\3\4", (8).to_bytes(8, "little") + b"null    "):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a safetensors file, or damaged"):
            fn.load_model(path)
    assert not (tmp_path / "executed").exists()
    for about in (None, {"format": "pt"}):
        save_file({"0.w": np.ones((2, 2))}, path, about)
        with pytest.raises(ValueError, match="says nothing of a network"):
            fn.load_model(path)
    with pytest.raises(FileNotFoundError):
        fn.load_model(tmp_path / "nowhere")
    with pytest.raises(OSError, match="directory|denied"):
        fn.load_model(tmp_path)


@pytest.mark.fast
def test_a_write_that_fails_leaves_the_old_file_and_no_litter(file, monkeypatch):
    before = file.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            fn.save_model(file, NET, jax.tree.map(jnp.zeros_like, params_of(NET)))
    assert os.listdir(file.parent) == [file.name]
    assert file.read_bytes() == before
    fn.save_model(file, NET, jax.tree.map(jnp.zeros_like, params_of(NET)))
    assert os.listdir(file.parent) == [file.name]
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(load(file)[1]))


def test_others_may_read_it_as_any_file(file):
    plain = file.with_name("plain")
    plain.touch()
    assert file.stat().st_mode == plain.stat().st_mode


def test_what_cannot_be_saved(tmp_path):
    path = tmp_path / "model"
    with pytest.raises(ValueError, match="layer 1, b has shape"):
        fn.save_model(path, fn.mlp((3, 5, 2)), params_of(fn.mlp((3, 4, 2))))
    with pytest.raises(TypeError, match="net: expected a layer"):
        fn.save_model(path, "net", ())
    with pytest.raises(FileNotFoundError) as error:
        fn.save_model(tmp_path / "nowhere" / "model", NET, params_of(NET))
    assert error.value.filename == str(tmp_path / "nowhere" / "model")
    for wrong in (None, 0, b"model", ""):
        for call in (fn.load_model, lambda wrong: fn.save_model(wrong, NET, params_of(NET))):
            with pytest.raises(TypeError, match=r'path: expected one such as "model.safetensors", got'):
                call(wrong)
    assert os.listdir(tmp_path) == []


class TwoNames(Scale):
    """Parameters whose names in a file would be equal: "a.b" in one dict, "b" of "a"."""

    def init(self, key):
        return {"a.b": jnp.ones(self.n), "a": {"b": jnp.ones(self.n)}}


@pytest.mark.fast
def test_what_could_not_be_read_back_is_not_saved(tmp_path):
    net = fn.spec(TwoNames)(3)
    with pytest.raises(ValueError, match=r"params: two parameters would be called 'a.b' in the file"):
        fn.save_model(tmp_path / "model", net, net.init(None))
    narrow = params_of(NET, dtype=jnp.float8_e4m3fn)
    with pytest.raises(TypeError, match="params: 0.b is float8_e4m3fn, expected one of float16, bfloat16, float32, fl"):
        fn.save_model(tmp_path / "model", NET, narrow)
    own = fn.spec(type("Dense", (Scale,), {"__annotations__": {"n": int}, "__module__": __name__}))(3)
    with pytest.raises(ValueError, match="the name of funcnet's, Dense. Rename it"):
        fn.save_model(tmp_path / "model", own, own.init(None))
    assert os.listdir(tmp_path) == []


def rewritten(file, net=None, arrays=None, header=None):
    """The file with something else in it, and the checksum of that."""
    from safetensors.numpy import load_file, save_file

    from funcnet._core.files import checksum

    arrays, net = arrays or load_file(file), net or fn.to_json(NET)
    save_file(arrays, file, {"format": "funcnet 1", "net": net, "sha256": checksum(arrays, net)})
    if header is not None:
        content = file.read_bytes()
        length = struct.unpack("<Q", content[:8])[0]
        changed = header(content[8 : 8 + length].decode()).encode()
        file.write_bytes(struct.pack("<Q", len(changed)) + changed + content[8 + length :])
    return file


@pytest.mark.fast
def test_what_does_not_belong_to_a_network_is_refused_under_the_files_name(file):
    arrays = {"0.w": np.ones((3, 4))}
    both = arrays | {"0.b": np.ones(4)}
    cases = [
        ({"net": fn.to_json(fn.SquaredError())}, TypeError, r"net: expected a layer .* got SquaredError\(\)"),
        ({"net": fn.to_json(fn.Dense(3, 4))}, ValueError, "b is missing, which Dense"),
        ({"net": fn.to_json(fn.Chain(fn.Dense(3, 4, bias=False))), "arrays": arrays | {"1.w": np.ones(2)}},
         ValueError, "1.w is not a parameter of Chain"),
        ({"net": fn.to_json(fn.Chain(fn.Dense(4, 3, bias=False))), "arrays": arrays}, ValueError, r"expected \(4, 3\)"),
        ({"net": '{"Dense": {"n_in": 3, "n_in": 4, "n_out": 4}}'}, ValueError, "'n_in' stands twice"),
        ({"arrays": both, "header": lambda text: text.replace('"0.w":', '"0.b":')}, ValueError, "'0.b' stands twice"),
        ({"arrays": both, "header": lambda text: text.replace('"net":', '"net":"","net":')},
         ValueError, "'net' stands twice"),
    ]  # fmt: skip
    for change, kind, words in cases:
        rewritten(file, **change)
        with pytest.raises(kind, match=words) as error:
            load(file)
        assert str(error.value).startswith(f"{file}: "), change


def test_an_older_file_takes_the_default_of_a_new_field(file):
    tree = json.loads(fn.to_json(NET))
    del tree["Chain"]["layers"][0]["Dense"]["bias"]
    net, params = load(rewritten(file, net=json.dumps(tree)))
    assert net == NET
    assert_same_bits(params, params_of(NET))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    errors = []

    def read():
        try:
            fn.load_model(tmp_path / "pipe")
        except ValueError as error:
            errors.append(str(error))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(20)
    assert errors == [
        f"{tmp_path / 'pipe'}: expected a file, got a pipe or device. Write what it gives to a file first."
    ]


def test_without_safetensors_the_way_to_it_is_named(file, monkeypatch):
    for name in ("safetensors", "safetensors.flax"):
        monkeypatch.setitem(sys.modules, name, None)
    for call in (lambda: load(file), lambda: fn.save_model(file, NET, params_of(NET))):
        with pytest.raises(ImportError, match=r"pip install -e '.\[checkpoint\]'"):
            call()


def test_a_bare_name_is_a_path(file, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    fn.save_model("bare", NET, params_of(NET))
    assert load(pathlib.Path("bare"))[0] == NET
