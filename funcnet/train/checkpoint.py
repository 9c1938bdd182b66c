"""`Checkpoint`: a training's progress on disk, whole or not at all, and taken up again from there."""

import dataclasses
import hashlib
import json
import os
import re
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet.train.loop import Progress
from funcnet.train.progress import reached

NOT_COMPARED = (
    "What an optimiser computes (its rates and schedules) is a closure and was not compared, nor were the values of "
    "the data."
)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Where a training is saved, and how often. The same call of `fit` again goes on from there.

    A training taken up again ends with the same bits as one never interrupted. Saved are
    parameters, the optimiser's state, the key, the step and the history, by Orbax: a checkpoint
    is there whole or not at all. Each carries a checksum; a damaged one is told of and the one before
    it taken. If saving fails (a full disk, say) the training goes on, with a warning.

    Args:
        directory: a folder for this training alone; it is made if it is not there.
        seconds: how long between two saves, at least. There is one at the end too, and after Ctrl-C.
        keep: how many of the latest stay. The best (by the early stopping's column, or the validation
            cost, or the cost) stays as well.
        name: of the run. A folder that holds another run's checkpoints is refused.

    Raises:
        ValueError: negative seconds, keep below 1, or no name of a folder.
        OSError: the folder cannot be made (when training starts).
        ImportError: Orbax is not installed (when training starts).

    Example:
        >>> import funcnet as fn
        >>> fn.Checkpoint("runs/digits", seconds=60)
        Checkpoint(directory='runs/digits', seconds=60, keep=2, name='')
    """

    directory: str | os.PathLike[str]
    seconds: float = 30.0
    keep: int = 2
    name: str = ""

    def __post_init__(self) -> None:
        if not str(self.directory):
            raise ValueError("Checkpoint: directory is empty. Name a folder for this training alone.")
        if self.seconds < 0 or self.keep < 1:
            raise ValueError(f"{self}: seconds must be 0 or more and keep 1 or more.")


class Saver:
    """Saves and reads the progress of one described training."""

    def __init__(self, wanted: Checkpoint, description: dict[str, str], column: str, larger_is_better: bool) -> None:
        try:
            import orbax.checkpoint as orbax
        except ImportError as error:
            raise ImportError("Checkpoint needs orbax-checkpoint: pip install 'funcnet[checkpoint]'.") from error
        self.orbax = orbax
        self.disk = orbax.Checkpointer(orbax.CompositeCheckpointHandler())
        self.wanted, self.description = wanted, {"run name": wanted.name} | description
        self.column, self.sign = column, -1.0 if larger_is_better else 1.0
        self.folder = Path(wanted.directory).absolute()
        self.values: dict[int, float] = {}  # of the checkpoints on disk: what the best is least in
        self.failed: int | None = None  # the epoch that could not be saved last
        self.last_saved: float | None = None  # the clock starts after the first chunk, which holds the compilation
        self.folder.mkdir(parents=True, exist_ok=True)

    def resume(self, start: Progress) -> Progress:
        """The newest progress on disk that is whole; `start` if there is none at all."""
        self._clear_unfinished()
        newest: Progress | None = None
        damaged = []
        for epoch in sorted(_epochs(self.folder), reverse=True):
            try:
                leaves, about = self._read(epoch)
            except Exception as error:  # whatever a damaged file makes Orbax, JSON or the checksum say
                damaged.append(f"epoch {epoch} ({_first_line(error)})")
                continue
            self._refuse_another(about["description"])
            self.values[epoch] = about["value"]
            newest = _filled(start, leaves, epoch) if newest is None else newest
        if damaged and newest is None:
            raise ValueError(
                f"checkpoint: no checkpoint in {self.folder} can be read: {'; '.join(damaged)}. To start anew, "
                "move that folder away or name another directory."
            )
        if damaged:
            warnings.warn(
                f"checkpoint: {'; '.join(damaged)} cannot be read; going on from epoch {reached(newest or start)}.",
                RuntimeWarning,
                stacklevel=4,
            )
        return start if newest is None else newest

    def see(self, now: Progress) -> None:
        moment = time.perf_counter()
        self.last_saved = moment if self.last_saved is None else self.last_saved
        if moment - self.last_saved >= self.wanted.seconds:
            self._save(now)

    def close(self, now: Progress) -> None:
        if reached(now):
            self._save(now)

    def _save(self, now: Progress) -> None:
        epoch = reached(now)
        self.last_saved = time.perf_counter()
        if epoch in self.values or epoch == self.failed:
            return
        leaves = _leaves(now)
        about: dict[str, Any] = {"description": self.description, "value": self._value(now), "leaves": sorted(leaves)}
        about["sha256"] = _checksum(leaves, about)
        save = self.orbax.args
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _remove(_path(self.folder, epoch))  # a damaged one
            written = save.Composite(state=save.PyTreeSave(leaves), about=save.JsonSave(about))
            self.disk.save(_path(self.folder, epoch), written)
        except Exception as error:  # a full disk shows as several kinds
            self._clear_unfinished()
            self.failed = epoch
            warnings.warn(
                f"checkpoint: epoch {epoch} could not be saved in {self.folder} ({_first_line(error)}). The training "
                f"goes on; the latest saved is epoch {max(self.values, default=0)}.",
                RuntimeWarning,
                stacklevel=4,
            )
            return
        self.values[epoch] = about["value"]
        best = min(self.values, key=lambda epoch: (self.values[epoch], epoch))
        for old in sorted(self.values)[: -self.wanted.keep]:
            if old != best:
                del self.values[old]
                _remove(_path(self.folder, old))

    def _value(self, now: Progress) -> float:
        column = np.atleast_2d(np.asarray(now.columns[self.column]))[:, reached(now) - 1]
        value = self.sign * column
        return float(np.nanmin(value)) if np.isfinite(value).any() else float(np.finfo(float).max)

    def _read(self, epoch: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        read, path = self.orbax.args, _path(self.folder, epoch)
        found = self.disk.restore(path, read.Composite(state=read.PyTreeRestore(), about=read.JsonRestore()))
        about = dict(found.about)
        checksum = about.pop("sha256")
        leaves = {name: np.asarray(leaf) for name, leaf in found.state.items()}
        if _checksum(leaves, about) != checksum:
            raise ValueError("its checksum is not that of its content")
        return leaves, about

    def _refuse_another(self, found: dict[str, str]) -> None:
        different = [name for name in self.description | found if self.description.get(name) != found.get(name)]
        if different:
            rows = "\n".join(
                f"  {name}\n    saved: {found.get(name)}\n    now:   {self.description.get(name)}" for name in different
            )
            raise ValueError(
                f"checkpoint: {self.folder} holds another training.\n{rows}\nName another directory, or make the two "
                f"equal. {NOT_COMPARED}"
            )

    def _clear_unfinished(self) -> None:
        """Away with what a killed or failed save left behind."""
        for left in self.folder.glob("epoch_*orbax-checkpoint-tmp*"):
            shutil.rmtree(left, ignore_errors=True)


def _path(folder: Path, epoch: int) -> Path:
    return folder / f"epoch_{epoch:08d}"


def _remove(path: Path) -> None:
    """Away with a checkpoint, at once: a kill must not leave half of one under its name."""
    if path.exists():
        gone = path.with_name(f"{path.name}.orbax-checkpoint-tmp-removed")
        path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def _epochs(folder: Path) -> list[int]:
    found = [re.fullmatch(r"epoch_(\d{8})", path.name) for path in folder.glob("epoch_*")]
    return [int(match[1]) for match in found if match]


def _leaves(now: Progress) -> dict[str, np.ndarray]:
    """The arrays of a progress by their place. Orbax takes no empty ones; columns end at the last epoch."""
    done, room = reached(now), max(now.columns["cost"].shape[-1], 1)
    cut = now._replace(
        columns={name: column[..., :done] for name, column in now.columns.items()},
        telemetry={name: seen[..., : done * (seen.shape[-1] // room)] for name, seen in now.telemetry.items()},
    )
    named = jax.tree_util.tree_leaves_with_path(cut)
    leaves = {jax.tree_util.keystr(path): np.asarray(_plain(leaf)) for path, leaf in named}
    return {name: leaf for name, leaf in leaves.items() if leaf.size}


def _filled(start: Progress, leaves: dict[str, np.ndarray], epoch: int) -> Progress:
    """The saved progress, in the structure of the one that would start now."""
    room = min((column.shape[-1] for column in start.columns.values()), default=epoch)
    if epoch > room:
        raise ValueError(f"checkpoint: {epoch} epochs are saved, more than epochs={room}. Ask for {epoch} or more.")

    def fill(path: Any, leaf: Any) -> Any:
        saved = leaves.get(jax.tree_util.keystr(path))
        if saved is None:  # an empty array
            return leaf
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(jnp.asarray(saved), impl=jax.random.key_impl(leaf))
        if saved.shape == leaf.shape:
            return jnp.asarray(saved)
        return leaf.at[..., : saved.shape[-1]].set(saved)  # a column, or telemetry

    return jax.tree_util.tree_map_with_path(fill, start)


def _plain(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def _checksum(leaves: dict[str, np.ndarray], about: dict[str, Any]) -> str:
    found = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(leaves):
        found.update(f"{name} {leaves[name].dtype} {leaves[name].shape}".encode())
        found.update(np.ascontiguousarray(leaves[name]).tobytes())
    return found.hexdigest()


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or ["no reason given"]
    text = lines[0].split(" [tensorstore_spec")[0]
    shown = text if len(text) <= 200 else f"{text[:40]} … {text[-160:]}"  # the cause comes last
    return f"{type(error).__name__}: {shown}"
