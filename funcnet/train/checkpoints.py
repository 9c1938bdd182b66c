"""`Checkpoint`: a training's progress on disk, whole or not at all, and resumed from there."""

import dataclasses
import json
import os
import re
import shutil
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from funcnet._core.files import checksum
from funcnet.train.loop import Progress
from funcnet.train.measurements import larger_is_better, names
from funcnet.train.options import Job
from funcnet.train.progress import reached
from funcnet.train.progress_arrays import arrays_of, restored
from funcnet.train.state import TrainState

NOT_COMPARED = (
    "What an optimiser computes (its rates and schedules) is a closure and was not compared, nor were the values of "
    "the data."
)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Where a training is saved, and how often. The same call of `fit` again goes on from there.

    A training that is resumed ends with the same bits as one never interrupted. Saved are
    parameters, the optimiser's state, the key, the step and the history, by Orbax: a checkpoint
    is there whole or not at all. Each has a checksum; if one is damaged there is a warning, and the one before
    it is used. If saving fails (a full disk, say) the training goes on, with a warning.

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
        self.values: dict[int, float] = {}  # of the checkpoints on disk: the best has the smallest
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
                arrays, about = self._read(epoch)
            except Exception as error:  # a damaged file makes Orbax, JSON and the checksum raise errors of any kind
                damaged.append(f"epoch {epoch} ({_first_line(error)})")
                continue
            self._refuse_another(about["description"])
            self.values[epoch] = about["value"]
            newest = restored(start, arrays, epoch) if newest is None else newest
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

    def see(self, progress: Progress) -> None:
        moment = time.perf_counter()
        self.last_saved = moment if self.last_saved is None else self.last_saved
        if moment - self.last_saved >= self.wanted.seconds:
            self._save(progress)

    def close(self, progress: Progress) -> None:
        if reached(progress):
            self._save(progress)

    def _save(self, progress: Progress) -> None:
        epoch = reached(progress)
        self.last_saved = time.perf_counter()
        if epoch in self.values or epoch == self.failed:
            return
        arrays, value = arrays_of(progress), self._value(progress)
        about: dict[str, Any] = {"description": self.description, "value": value, "leaves": sorted(arrays)}
        about["sha256"] = _checksum(arrays, about)
        save = self.orbax.args
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _remove(_path(self.folder, epoch))  # a damaged one
            content = save.Composite(state=save.PyTreeSave(arrays), about=save.JsonSave(about))
            self.disk.save(_path(self.folder, epoch), content)
        except Exception as error:  # a full disk raises errors of several kinds
            self._clear_unfinished()
            self.failed = epoch
            warnings.warn(
                f"checkpoint: epoch {epoch} could not be saved in {self.folder} ({_first_line(error)}). The training "
                f"goes on; the latest saved is epoch {max(self.values, default=0)}.",
                RuntimeWarning,
                stacklevel=4,
            )
            return
        self.values[epoch] = value
        best = min(self.values, key=lambda epoch: (self.values[epoch], epoch))
        for old in sorted(self.values)[: -self.wanted.keep]:
            if old != best:
                del self.values[old]
                _remove(_path(self.folder, old))

    def _value(self, progress: Progress) -> float:
        column = np.atleast_2d(np.asarray(progress.columns[self.column]))[:, reached(progress) - 1]
        value = self.sign * column
        return float(np.nanmin(value)) if np.isfinite(value).any() else float(np.finfo(float).max)

    def _read(self, epoch: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        read, path = self.orbax.args, _path(self.folder, epoch)
        content = self.disk.restore(path, read.Composite(state=read.PyTreeRestore(), about=read.JsonRestore()))
        about = dict(content.about)
        sha256 = about.pop("sha256")
        arrays = {name: np.asarray(array) for name, array in content.state.items()}
        if _checksum(arrays, about) != sha256:
            raise ValueError("its checksum is not that of its content")
        return arrays, about

    def _refuse_another(self, saved: dict[str, str]) -> None:
        different = [name for name in self.description | saved if self.description.get(name) != saved.get(name)]
        if different:
            rows = "\n".join(
                f"  {name}\n    saved: {saved.get(name)}\n    now:   {self.description.get(name)}" for name in different
            )
            raise ValueError(
                f"checkpoint: {self.folder} holds another training.\n{rows}\nName another directory, or make the two "
                f"equal. {NOT_COMPARED}"
            )

    def _clear_unfinished(self) -> None:
        """Remove the files of a save that was killed or failed."""
        for unfinished in self.folder.glob("epoch_*orbax-checkpoint-tmp*"):
            shutil.rmtree(unfinished, ignore_errors=True)


def saver_of(checkpoint: Checkpoint, job: Job, state: TrainState, swept: Any = None) -> Saver:
    """What saves this training, and refuses to go on with another one's."""
    if not isinstance(checkpoint, Checkpoint):
        raise TypeError(f"checkpoint: expected Checkpoint(folder), got {checkpoint!r}.")
    stopping, columns = job.options.early_stopping, names(job)
    column = stopping.monitor if stopping else "validation_cost" if "validation_cost" in columns else "cost"
    return Saver(checkpoint, _description(job, state, swept), column, column in larger_is_better(job))


def _description(job: Job, state: TrainState, swept: Any) -> dict[str, str]:
    """What must be the same for a training to be resumed. Checkpoints hold these words: a change refuses old ones."""
    options = job.options
    shapes = partial(jax.tree.map, lambda leaf: f"{leaf.dtype}{list(leaf.shape)}")
    numbers = [leaf.tolist() for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim == state.step.ndim]
    return {
        "network": repr(options.cast_net),
        "loss": repr(options.loss),
        "sweep": repr(swept),
        "penalty": repr(options.penalty),
        "trainable": repr(options.trainable),
        "data": repr(shapes(tuple(job.data))),
        "validation": repr(job.validation and shapes(tuple(job.validation))),
        "batch_size": repr(options.batch_size),
        "accumulate": repr(options.accumulate),
        "privacy": repr(options.privacy),
        "telemetry": repr(options.telemetry),
        "metrics": repr(options.metrics),
        "early_stopping": repr(options.early_stopping),
        "params": repr(shapes(state.params)),
        "optimiser's state": repr(shapes(state.opt_state)),
        "optimiser's numbers": repr(numbers),
        "starting key and step": repr((jax.random.key_data(state.key).tolist(), state.step.tolist())),
    }


def _path(folder: Path, epoch: int) -> Path:
    return folder / f"epoch_{epoch:08d}"


def _remove(path: Path) -> None:
    """Remove a checkpoint, renamed first: a kill must not leave half of one under its name."""
    if path.exists():
        other = path.with_name(f"{path.name}.orbax-checkpoint-tmp-removed")
        path.rename(other)
        shutil.rmtree(other, ignore_errors=True)


def _epochs(folder: Path) -> list[int]:
    matches = [re.fullmatch(r"epoch_(\d{8})", path.name) for path in folder.glob("epoch_*")]
    return [int(match[1]) for match in matches if match]


def _checksum(arrays: dict[str, np.ndarray], about: dict[str, Any]) -> str:
    return checksum(arrays, json.dumps(about, sort_keys=True))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or ["no reason given"]
    text = lines[0].split(" [tensorstore_spec")[0]
    shown = text if len(text) <= 200 else f"{text[:40]} … {text[-160:]}"  # the cause comes last
    return f"{type(error).__name__}: {shown}"
