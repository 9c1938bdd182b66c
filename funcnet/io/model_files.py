"""A finished model in one safetensors file: the network's JSON and its parameters. Nothing in it is ever run."""

import json
import os
import stat
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from funcnet._core import arguments
from funcnet._core.files import checked_path, checksum, write_whole
from funcnet._core.protocols import AnyLayer, Params
from funcnet.io.specs_as_json import distinct_keys, from_json, to_json


def save_model(path: str | os.PathLike[str], net: AnyLayer, params: Params) -> None:
    """Write architecture and parameters to one file, whole or not at all.

    The file is safetensors, so other tools read its arrays: "0.w", "0.b", … by their place in
    params. The network's JSON and a checksum stand in its metadata.

    Args:
        path: where to; a file that is there is replaced, at once, when the new one is complete.
        net: a layer.
        params: its parameters.

    Raises:
        ImportError: safetensors is not installed.
        TypeError, ValueError: parameters of another network, or of a type that files do not hold; two parameters that
            would bear one name; classes of one name.
        OSError: the file cannot be written; what was there stays.

    Example:
        >>> import funcnet as fn, jax, os, tempfile
        >>> net = fn.mlp((2, 3, 1))
        >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
        >>> fn.save_model(path, net, fn.init(net, jax.random.key(0)))
        >>> fn.load_model(path)[0]
        Chain(Dense(2, 3), Tanh(), Dense(3, 1))
    """
    _, save = _safetensors()
    arguments.check_layer_functions(net)
    params = jax.tree.map(jnp.asarray, params)
    arguments.check_params(net, params, next((leaf.dtype for leaf in jax.tree.leaves(params)), jnp.float32))
    arrays, written = _named(params), to_json(net)
    for name, array in arrays.items():
        if array.dtype.name not in _TYPES:
            raise TypeError(f"params: {name} is {array.dtype}, expected one of {', '.join(_TYPES)}, which files hold.")
    about = {"format": "funcnet 1", "net": written, "sha256": checksum(arrays, written)}
    write_whole(path, save(arrays, about))


def load_model(path: str | os.PathLike[str], layers: Iterable[type] = ()) -> tuple[AnyLayer, Params]:
    """Read what `save_model` wrote. Names are looked up among funcnet's and `layers`; nothing is run or unpickled.

    Args:
        path: the file.
        layers: spec classes of your own that the network is made of.

    Returns:
        The network, equal to the one saved, and its parameters, bit for bit.

    Raises:
        ImportError: safetensors is not installed.
        FileNotFoundError: there is no such file.
        ValueError: a file that is damaged, or not from `save_model`; a pipe or device; a layer that is not known.

    Example:
        >>> import funcnet as fn, os, tempfile
        >>> net = fn.Dense(2, 1)
        >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
        >>> fn.save_model(path, net, fn.from_weights(net, [[[1.0], [2.0]]]))
        >>> again, params = fn.load_model(path)
        >>> again, params["w"].tolist()
        (Dense(2, 1), [[1.0], [2.0]])
    """
    read, _ = _safetensors()
    path = checked_path(path)
    if not stat.S_ISREG(kind := os.stat(path).st_mode) and not stat.S_ISDIR(kind):
        raise ValueError(f"{path}: expected a file, got a pipe or device. Write what it gives to a file first.")
    with open(path, "rb"):  # a missing file, or one without permission, raises its own error
        pass
    try:
        _check_header(path)
        with read(path, framework="numpy") as file:
            about, arrays = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # safetensors raises classes of its own
        raise ValueError(f"{path}: not a safetensors file, or damaged ({error}). {_REMEDY}") from None
    if about.get("format") != "funcnet 1":
        raise ValueError(f"{path}: a safetensors file, but not from fn.save_model: it says nothing of a network.")
    if about.get("sha256") != checksum(arrays, about.get("net", "")):
        raise ValueError(f"{path}: damaged: its checksum is not that of its content. {_REMEDY}")
    try:
        return _fitted(from_json(about["net"], layers), arrays)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{path}: {error}") from None


def _fitted(net: AnyLayer, arrays: dict[str, Any]) -> tuple[AnyLayer, Params]:
    """The network and its parameters, if these arrays are they."""
    arguments.check_layer_functions(net)
    wanted = arguments.params_struct(net)
    leaves = []
    for name in _named(wanted):
        if name not in arrays:
            raise ValueError(f"{name} is missing, which {net} has. Hand in the class that it was saved with.")
        leaves.append(jnp.asarray(arrays[name]))
        if leaves[-1].dtype != arrays[name].dtype:
            raise ValueError(f"{name} is {arrays[name].dtype}. Enable jax_enable_x64 to read it.")
    if extra := sorted(set(arrays) - set(_named(wanted))):
        raise ValueError(f"{extra[0]} is not a parameter of {net}. Hand in the class that it was saved with.")
    params = jax.tree.unflatten(jax.tree.structure(wanted), leaves)
    arguments.check_params(net, params, next((leaf.dtype for leaf in leaves), jnp.float32))
    return net, params


_REMEDY = "Save the model again, or take another copy."
_TYPES = ("float16", "bfloat16", "float32", "float64")


def _check_header(path: Path) -> None:
    """Refuse a header that names something twice: readers take one of the two."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length <= os.path.getsize(path):
            json.loads(file.read(length), object_pairs_hook=distinct_keys)


def _named(params: Params) -> dict[str, Any]:
    """The leaves under their place: "0.w"."""

    def name(path: Any) -> str:
        return ".".join(str(getattr(part, "key", getattr(part, "idx", part))) for part in path)

    named = [(name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)]
    if twice := [each for each, count in Counter(each for each, _ in named).items() if count > 1]:
        raise ValueError(f"params: two parameters would be called {twice[0]!r} in the file. Rename one in its layer.")
    return dict(named)


def _safetensors() -> tuple[Any, Any]:
    try:
        from safetensors import safe_open
        from safetensors.flax import save
    except ImportError as error:
        raise ImportError(
            "save_model and load_model need safetensors. In the clone of funcnet: "
            ".venv/bin/pip install -e '.[checkpoint]'."
        ) from error
    return safe_open, save
