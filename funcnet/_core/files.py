"""Files that are there whole or not at all, and checksums of arrays."""

import contextlib
import hashlib
import os
import uuid
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np


def checked_path(path: object) -> Path:
    """A path as it was given, or an error: a number would be an open file's."""
    if isinstance(path, str | os.PathLike) and path != "":
        return Path(path)
    raise TypeError(f'path: expected one such as "model.safetensors", got {path!r}.')


def write_whole(path: str | os.PathLike[str], content: bytes, mode: int | None = None) -> None:
    """Write a file beside its place, then move it there: a failure leaves what was there before.

    `mode` is who may read and write it; None leaves that to the system.
    """
    path = checked_path(path)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with open(beside, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            os.chmod(beside, mode)
        os.replace(beside, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        if isinstance(error, OSError) and error.filename is not None:  # it names the file beside
            error.filename, error.filename2 = os.fspath(path), None
        raise


def checksum(arrays: Mapping[str, np.ndarray | jax.Array], about: str) -> str:
    """SHA-256 of a text and of arrays by name: types, shapes and bytes."""
    digest = hashlib.sha256(about.encode())
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
