"""Checkpoints as files: Orbax writes and reads them, names tell their epochs, a folder belongs to one training."""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from funcnet._core.files import checksum
from funcnet._core.logs import quietly

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]


class Disk:
    """Checkpoints as files, by Orbax."""

    def __init__(self) -> None:
        try:
            import orbax.checkpoint as orbax
        except ImportError as error:
            raise ImportError(
                "Checkpoint needs orbax-checkpoint. In the clone of funcnet: .venv/bin/pip install -e '.[checkpoint]'."
            ) from error
        self.args = orbax.args
        self.files = orbax.Checkpointer(orbax.CompositeCheckpointHandler())

    def write(self, path: Path, arrays: dict[str, np.ndarray], about: dict[str, Any]) -> None:
        args = self.args
        with quietly():  # a failure is told of by one warning
            self.files.save(path, args.Composite(state=args.PyTreeSave(arrays), about=args.JsonSave(about)))

    def read(self, path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays under their names, and what is said about them; damage makes errors of any kind."""
        args = self.args
        content = self.files.restore(path, args.Composite(state=args.PyTreeRestore(), about=args.JsonRestore()))
        about = dict(content.about)
        sha256 = about.pop("sha256")
        arrays = {name: np.asarray(array) for name, array in content.state.items()}
        if checksum_of(arrays, about) != sha256:
            raise ValueError("its checksum is not that of its content")
        return arrays, about


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other trainings, of this process or another, out of a folder; a process that ends lets go of it."""
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise RuntimeError(
            f"checkpoint: {folder} is in use by another training, of this process or another. Give each training a "
            "folder of its own, or wait until that one has ended."
        ) from None
    except OSError:  # a file system without locks
        pass
    try:
        yield
    finally:
        os.close(handle)


def clear_unfinished(folder: Path) -> None:
    """Remove the files of a save that was killed or failed."""
    for unfinished in folder.glob("epoch_*orbax-checkpoint-tmp*"):
        shutil.rmtree(unfinished, ignore_errors=True)


def path_of(folder: Path, epoch: int) -> Path:
    return folder / f"epoch_{epoch:08d}"


def remove(path: Path) -> None:
    """Remove a checkpoint, renamed first: a kill must not leave half of one under its name."""
    if path.exists():
        other = path.with_name(f"{path.name}.orbax-checkpoint-tmp-removed")
        path.rename(other)
        shutil.rmtree(other, ignore_errors=True)


def epochs_in(folder: Path) -> list[int]:
    matches = [re.fullmatch(r"epoch_(\d{8})", path.name) for path in folder.glob("epoch_*")]
    return [int(match[1]) for match in matches if match]


def checksum_of(arrays: dict[str, np.ndarray], about: dict[str, Any]) -> str:
    return checksum(arrays, json.dumps(about, sort_keys=True))


def first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or ["no reason given"]
    text = lines[0].split(" [tensorstore_spec")[0]
    shown = text if len(text) <= 200 else f"{text[:40]} … {text[-160:]}"  # the cause comes last
    return f"{type(error).__name__}: {shown}"
