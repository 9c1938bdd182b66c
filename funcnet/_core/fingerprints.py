"""Fingerprints: short texts that are equal where arrays, files or programs are, in whatever process they are taken."""

import datetime
import hashlib
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

SHOWN = 16  # hexadecimal digits
BLOCKS, BLOCK = 64, 2**20  # of a file that is not read whole, and their bytes


def array_fingerprint(array: Any) -> str:
    """Type, shape and SHA-256 of the bytes; of a key its implementation too."""
    if jnp.issubdtype(getattr(array, "dtype", np.float64), jax.dtypes.prng_key):
        return f"key {jax.random.key_impl(array)}{list(array.shape)} {_sha(jax.random.key_data(array))}"
    array = np.asarray(array)
    return f"{array.dtype}{list(array.shape)} {_sha(array)}"


def tree_fingerprint(tree: Any) -> str:
    """That of all leaves together, and of where they stand."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        digest.update(f"{jax.tree_util.keystr(path)} {array_fingerprint(leaf)};".encode())
    return digest.hexdigest()[:SHOWN]


def file_fingerprint(array: np.ndarray) -> str:
    """Of an array that a file holds and memory may not: type, shape, when it was written, and blocks of it."""
    path = getattr(array, "filename", None)
    if path is None:
        return array_fingerprint(array)
    rows = max(1, BLOCK // max(array[:1].nbytes, 1))
    digest = hashlib.sha256()
    for start in np.unique(np.linspace(0, max(len(array) - rows, 0), BLOCKS).astype(int)):
        digest.update(_bytes(np.asarray(array[start : start + rows])))
    written = datetime.datetime.fromtimestamp(os.stat(path).st_mtime, datetime.UTC)
    return f"{array.dtype}{list(array.shape)} {digest.hexdigest()[:SHOWN]}, written {written.isoformat()}"


def program_fingerprint(function: Callable[..., Any], *arguments: Any) -> str:
    """Of what a function computes: its jaxpr, with its constants, and without names and addresses."""
    digest = hashlib.sha256()
    _add(digest.update, jax.make_jaxpr(function)(*arguments))
    return digest.hexdigest()[:SHOWN]


def _add(update: Callable[[bytes], None], part: Any) -> None:
    """Everything in a jaxpr that says what is computed. Variables are numbers in the order in which they appear."""
    if isinstance(part, core.ClosedJaxpr | core.Jaxpr):  # one class in JAX 0.12
        _add(update, list(getattr(part, "consts", ())))
        part, numbers = getattr(part, "jaxpr", part), dict[Any, int]()
        for variables in (part.constvars, part.invars):
            _add_variables(update, variables, numbers)
        for equation in part.eqns:
            update(f"{equation.primitive.name}(".encode())
            _add_variables(update, equation.invars, numbers)
            for name in sorted(set(equation.params) - {"name"}):
                update(f" {name}=".encode())
                _add(update, equation.params[name])
            update(b")->")
            _add_variables(update, equation.outvars, numbers)
        _add_variables(update, part.outvars, numbers)
    elif isinstance(part, (tuple, list)):
        update(f"({len(part)} ".encode())
        for item in part:
            _add(update, item)
    elif isinstance(part, Mapping):
        for key in sorted(part, key=str):
            update(f"{key}:".encode())
            _add(update, part[key])
    elif isinstance(part, (set, frozenset)):
        update(str(sorted(map(str, part))).encode())
    elif isinstance(part, (np.ndarray, np.generic, jax.Array)):
        update(array_fingerprint(part).encode())
    else:
        update(re.sub(r" at 0x[0-9a-f]+", "", repr(part)).encode())


def _add_variables(update: Callable[[bytes], None], variables: Any, numbers: dict[Any, int]) -> None:
    for variable in variables:
        if isinstance(variable, core.Literal):
            update(f"{variable.aval} ".encode())
            update(_bytes(np.asarray(variable.val)))
        else:
            numbers.setdefault(variable, len(numbers))
            update(f"{numbers[variable]}:{variable.aval} ".encode())


def _bytes(array: np.ndarray) -> Any:
    """A view of them, where they stand together."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data if array.size else b""


def _sha(array: Any) -> str:
    return hashlib.sha256(_bytes(np.asarray(array))).hexdigest()[:SHOWN]
