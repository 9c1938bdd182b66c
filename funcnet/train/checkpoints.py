"""`Checkpoint`: a training's progress on disk, whole or not at all, and resumed from there."""

import contextlib
import dataclasses
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from funcnet._core import scalars
from funcnet._core.logs import warn
from funcnet.train.checkpoint_files import (
    Disk,
    alone_in,
    checksum_of,
    clear_unfinished,
    epochs_in,
    first_line,
    path_of,
    remove,
)
from funcnet.train.descriptions import both_sides, description_of, programs_of, versions
from funcnet.train.loop import Progress, ended, looks, taken_up
from funcnet.train.measurements import larger_is_better, names
from funcnet.train.options import Job
from funcnet.train.privacy_account import privacy_numbers
from funcnet.train.progress import Chunk, reached
from funcnet.train.progress_arrays import arrays_of, restored
from funcnet.train.state import TrainState


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Where a training is saved, and how often. The same call of `fit` again goes on from there.

    A training that is resumed, which one line on stderr says, ends with the same bits as one never interrupted. Saved
    are parameters, the optimiser's state, the key, the step and the history, by Orbax: a checkpoint
    is there whole or not at all. Each has a checksum; if one is damaged there is a warning, and the one before
    it is used. If saving fails (a full disk, say) the training goes on, with a warning.

    A folder that holds another training is refused, and what differs is shown: the values of the data, of the starting
    parameters and of the optimiser's state, the key, the options, and what network, loss, optimiser and metrics
    compute, by fingerprints of their programs. Of data that stay in a file, its time and blocks of it are compared.
    As long as a training runs, no other may use its folder. The number of epochs, the patience, `progress`, `on_epoch`,
    `telemetry`, `seconds` and `keep` may be others. (Telemetry that was taken at other steps is NaN for the epochs
    before.) Where funcnet, JAX or optax have another version than the one that saved, there is a warning: programs are
    not compared then, and bits may differ.

    Args:
        directory: a folder for this training alone; it is made if it is not there.
        seconds: how long between two saves, at least. There is one at the end too, and after Ctrl-C or SIGTERM.
        keep: how many of the latest stay. The best (by the early stopping's column, or the validation
            cost, or the cost) stays as well.
        name: of the run. A folder that holds another run's checkpoints is refused.
        overwrite: remove the checkpoints that are there, and start anew.

    Raises:
        TypeError, ValueError: negative seconds, keep below 1, a flag that is none, or no name of a folder.
        OSError: the folder cannot be made (when training starts).
        ImportError: Orbax is not installed (when training starts).

    Example:
        >>> import funcnet as fn
        >>> fn.Checkpoint("runs/digits", seconds=60)
        Checkpoint(directory='runs/digits', seconds=60, keep=2, name='', overwrite=False)
    """

    directory: str | os.PathLike[str]
    seconds: float = 30.0
    keep: int = 2
    name: str = ""
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.directory, str | os.PathLike):
            raise TypeError(f"Checkpoint: directory: expected a folder's name or path, got {self.directory!r}.")
        if not str(self.directory):
            raise ValueError("Checkpoint: directory is empty. Name a folder for this training alone.")
        if not isinstance(self.name, str):
            raise TypeError(f"Checkpoint: name: expected a text, got {self.name!r}.")
        scalars.number("Checkpoint: seconds", self.seconds, "0 or more", lambda seconds: seconds >= 0)
        scalars.integer("Checkpoint: keep", self.keep, "a whole number, 1 or more", 1)
        scalars.flag("Checkpoint: overwrite", self.overwrite)


class Saver:
    """Saves and reads the progress of one described training.

    `programs` are fingerprints that are compared within one version of the libraries; `telemetry` is its period;
    `facts` are written beside the arrays, for `load_checkpoint`.
    """

    def __init__(
        self,
        wanted: Checkpoint,
        description: dict[str, str],
        column: str,
        larger_is_better: bool,
        programs: dict[str, str] | None = None,
        telemetry: int = 0,
        facts: dict[str, Any] | None = None,
    ) -> None:
        self.disk = Disk()
        self.wanted, self.description = wanted, {"run name": wanted.name} | description
        self.programs, self.telemetry, self.versions = programs or {}, telemetry, versions()
        self.facts = facts or {}
        self.column, self.sign = column, -1.0 if larger_is_better else 1.0
        self.folder = Path(wanted.directory).absolute()
        self.values: dict[int, float] = {}  # of the checkpoints on disk: the best has the smallest
        self.failed: int | None = None  # the epoch that could not be saved last
        self.last_saved: float | None = None  # the clock starts after the first chunk, which holds the compilation
        self.folder.mkdir(parents=True, exist_ok=True)

    def resume(self, start: Progress) -> Progress:
        """The newest progress on disk that is whole; `start` if there is none at all."""
        clear_unfinished(self.folder)
        if self.wanted.overwrite:
            for epoch in epochs_in(self.folder):
                remove(path_of(self.folder, epoch))
        newest: Progress | None = None
        damaged = []
        for epoch in sorted(epochs_in(self.folder), reverse=True):
            try:
                arrays, about = self.disk.read(path_of(self.folder, epoch))
            except Exception as error:  # a damaged file makes Orbax, JSON and the checksum raise errors of any kind
                damaged.append(f"epoch {epoch} ({first_line(error)})")
                continue
            if newest is None:
                self._compare(about)
                same_telemetry = about.get("telemetry", self.telemetry) == self.telemetry
                newest = restored(start, arrays, epoch, self.facts.get("looks", 0), same_telemetry)
            self.values[epoch] = about["value"]
        if damaged and newest is None:
            raise ValueError(
                f"checkpoint: no checkpoint in {self.folder} can be read: {'; '.join(damaged)}. To start anew, "
                "move that folder away or name another directory."
            )
        if damaged:
            warn(f"checkpoint: {'; '.join(damaged)} cannot be read; going on from epoch {reached(newest or start)}.")
        return start if newest is None else newest

    def see(self, chunk: Chunk) -> None:
        moment = time.perf_counter()
        self.last_saved = moment if self.last_saved is None else self.last_saved
        if moment - self.last_saved >= self.wanted.seconds:
            self._save(chunk.whole())

    def close(self, progress: Progress) -> None:
        if reached(progress):
            self._save(progress)

    def _save(self, progress: Progress) -> None:
        epoch = reached(progress)
        self.last_saved = time.perf_counter()
        if epoch not in self.values and epoch != self.failed:
            self._write(epoch, progress)
        if self.values:
            self._keep()

    def _write(self, epoch: int, progress: Progress) -> None:
        arrays, value = arrays_of(progress), self._value(progress)
        about: dict[str, Any] = {
            "description": self.description,
            "programs": self.programs,
            "versions": self.versions,
            "telemetry": self.telemetry,
            "value": value,
            "leaves": sorted(arrays),
            **self.facts,
        }
        about["sha256"] = checksum_of(arrays, about)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            remove(path_of(self.folder, epoch))  # a damaged one
            self.disk.write(path_of(self.folder, epoch), arrays, about)
        except Exception as error:  # a full disk raises errors of several kinds
            clear_unfinished(self.folder)
            self.failed = epoch
            warn(
                f"checkpoint: epoch {epoch} could not be saved in {self.folder} ({first_line(error)}). The training "
                f"goes on; the latest saved is epoch {max(self.values, default=0)}."
            )
            return
        self.values[epoch] = value

    def _keep(self) -> None:
        """Remove all but the latest and the best, whoever saved them."""
        best = min(self.values, key=lambda epoch: (self.values[epoch], epoch))
        for old in sorted(self.values)[: -self.wanted.keep]:
            if old != best:
                del self.values[old]
                remove(path_of(self.folder, old))

    def _value(self, progress: Progress) -> float:
        column = np.atleast_2d(np.asarray(progress.columns[self.column]))[:, reached(progress) - 1]
        value = self.sign * column
        return float(np.nanmin(value)) if np.isfinite(value).any() else float(np.finfo(float).max)

    def _compare(self, about: dict[str, Any]) -> None:
        """Refuse another training, and show what differs; warn of what cannot be compared."""
        saved, description = about["description"], self.description
        if "versions" not in about:  # saved by funcnet 0.1, which described less
            described = {name: text for name, text in description.items() if name in saved}
            saved = {name: text for name, text in saved.items() if name in description}
            description = described
            self._warn(
                "was saved by an earlier funcnet, which kept no fingerprints: the values of the data, the starting "
                "parameters and what the optimiser computes were not compared. Resume with the same."
            )
        elif about["versions"] != self.versions:
            both = (f"{name} {about['versions'].get(name)}, now {text}" for name, text in self.versions.items())
            self._warn(
                f"was saved by other versions ({'; '.join(both)}): what is computed was not compared, and the bits may "
                "be others than without the interruption."
            )
        elif saved == description:  # else it is clear already why they compute other things
            saved, description = about["programs"], self.programs
        different = [name for name in description | saved if description.get(name) != saved.get(name)]
        if different:
            pairs = (both_sides(saved.get(name), description.get(name)) for name in different)
            rows = "\n".join(
                f"  {name}\n    saved: {one}\n    now:   {other}" for name, (one, other) in zip(different, pairs)
            )
            raise ValueError(
                f"checkpoint: {self.folder} holds another training.\n{rows}\nName another directory, make the two "
                "equal, or start anew with Checkpoint(…, overwrite=True)."
            )

    def _warn(self, what: str) -> None:
        warn(f"checkpoint: {self.folder} {what}")


@contextlib.contextmanager
def resumed(
    checkpoint: Checkpoint, job: Job, state: TrainState, start: Progress, epochs: int | None, swept: Any = None
) -> Iterator[tuple[Saver, Progress]]:
    """What saves this training, and where it goes on: `start`, or the newest checkpoint. One of another is refused.

    As long as it lasts the folder belongs to it alone.
    """
    if not isinstance(checkpoint, Checkpoint):
        raise TypeError(f"checkpoint: expected Checkpoint(folder), got {checkpoint!r}.")
    stopping, columns = job.options.early_stopping, names(job)
    column = stopping.monitor if stopping else "validation_cost" if "validation_cost" in columns else "cost"
    better = column in larger_is_better(job)
    description, programs = description_of(job, state, swept), programs_of(job, state)
    saver = Saver(checkpoint, description, column, better, programs, job.options.telemetry, facts_of(job, start))
    with alone_in(saver.folder):
        progress = taken_up(job, saver.resume(start), retry=swept is None)
        done, of = reached(progress), "" if epochs is None else f" of {epochs}"
        if epochs is not None and done > epochs:
            raise ValueError(
                f"checkpoint: {done} epochs are saved, more than epochs={epochs}. Ask for {done} or more, or take what "
                f"is saved by fn.load_checkpoint({str(checkpoint.directory)!r}, {epochs})."
            )
        if done:
            what = "has ended: nothing is run" if ended(progress, epochs) else f"goes on from epoch {done}{of}"
            sys.stderr.write(f"checkpoint: the training in {checkpoint.directory} {what}.\n")
        yield saver, progress


def facts_of(job: Job, start: Progress) -> dict[str, Any]:
    """What `load_checkpoint` makes a state and a history from, beside the arrays."""
    options, m = job.options, len(job.data.x)
    privacy = options.privacy
    return {
        "params": layout_of(start.state.params),
        "columns": list(names(job)),
        "looks": looks(job),
        "steps": -(-m // options.batch_size),
        "privacy": None if privacy is None else {**privacy_numbers(privacy), "m": m, "batch_size": options.batch_size},
    }


def layout_of(tree: Any) -> Any:
    """A tree of dicts and tuples in JSON's words, a type and shape for each array."""
    if isinstance(tree, Mapping):
        return {key: layout_of(value) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        return [layout_of(value) for value in tree]
    return f"{tree.dtype}{list(tree.shape)}"
