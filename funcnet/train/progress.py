"""A training from the host: chunks of epochs, what looks on between them, Ctrl-C, and SIGTERM."""

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from funcnet._core import scalars
from funcnet.train.loop import RUNNING, Progress
from funcnet.train.measurements import names
from funcnet.train.options import Job

CHUNK_SECONDS, HOOK_SECONDS = 1.0, 0.1  # a function of the user's may stop the training
UPDATES = 20  # of the line, in all
ROOM, LOOKS = 2048, 2**16  # epochs, and records of telemetry, that a program's table has room for


class Chunk(NamedTuple):
    """What there is after some epochs more."""

    progress: Progress  # its table holds the epochs of the chunk
    first: int  # the number of epochs before
    whole: Callable[[], Progress]  # with the table of all epochs


class Watcher(Protocol):
    """Called between chunks, and once at the end."""

    def see(self, chunk: Chunk) -> bool | None:
        """After a chunk. True stops the training."""

    def close(self, progress: Progress) -> None:
        """When no chunk follows, whatever the reason; the table is that of all epochs."""


def _nothing() -> None:
    """What is to be done after a training that no signal ended."""


class Cut(NamedTuple):
    """What a training was cut short by: Ctrl-C, SIGTERM, or what looked on."""

    by: str = ""
    after: Callable[[], None] = _nothing  # to be called when all is saved

    @property
    def is_signal(self) -> bool:
        return self.by in ("Interrupted", "Terminated")

    def words(self, done: int, epochs: int | None) -> str:
        of = "" if epochs is None else f" of {epochs}"
        return (
            ""
            if done == epochs
            else self.by and f"{self.by}: the training was cut short after epoch {done}{of}, whose state is returned."
        )


def in_chunks(
    run: Callable[[Progress, int], Progress],
    start: Progress,
    epochs: int | None,
    watchers: Sequence[Watcher],
    looks: int = 0,
    terminable: bool = False,
) -> tuple[Progress, Cut]:
    """Epochs in chunks of about a second, of one training, or of many side by side; and what cut them short, if so.

    `looks` is how often telemetry is taken in an epoch. With `terminable` SIGTERM ends it as Ctrl-C does.
    """
    table, room = Table(start, looks), max(1, min(ROOM, LOOKS // max(looks, 1)))
    seconds = HOOK_SECONDS if any(isinstance(watcher, Hook) for watcher in watchers) else CHUNK_SECONDS
    most = -(-epochs // UPDATES) if epochs and not all(isinstance(watcher, Hook) for watcher in watchers) else room
    progress, done, chunk = table.entered(start, room), reached(start), 1
    with _signals(terminable) as (reasons, after):
        try:
            while (epochs is None or done < epochs) and (np.asarray(progress.status) == RUNNING).any() and not reasons:
                began, until = time.perf_counter(), done + chunk if epochs is None else min(done + chunk, epochs)
                then, first = jax.block_until_ready(run(progress, until)), done
                table.add(then, first, reached(then))  # first, so that Ctrl-C never leaves it behind the progress
                progress, done = then, reached(then)
                seen = Chunk(progress, first, lambda: table.whole(progress))  # noqa: B023
                wishes = [watcher.see(seen) for watcher in watchers]
                if any(wishes):
                    reasons.append("Stopped by on_epoch")
                took = max(time.perf_counter() - began, 1e-6)
                chunk = max(1, min(int(chunk * seconds / took), 10 * chunk, most, room))
        except KeyboardInterrupt:
            reasons.append("Interrupted")
        finally:
            reasons.closing = True
            whole = table.whole(progress)
            for watcher in watchers:
                watcher.close(whole)
    return whole, Cut(reasons[0] if reasons else "", after[0] if after else _nothing)


class Table:
    """The columns and the telemetry of all epochs so far, on the host: programs have room for some at a time."""

    def __init__(self, start: Progress, looks: int) -> None:
        self.looks, self.parts = looks, [_cut(start, reached(start), looks)]

    def entered(self, start: Progress, room: int) -> Progress:
        """The progress with an empty table that has this room."""

        def empty(part: dict[str, jax.Array], size: int) -> Any:
            return jax.tree.map(lambda a: np.zeros((*a.shape[:-1], size), a.dtype), part)

        return start._replace(columns=empty(start.columns, room), telemetry=empty(start.telemetry, room * self.looks))

    def add(self, progress: Progress, first: int, done: int) -> None:
        self.parts.append(taken_place(progress, first, done, self.looks))

    def whole(self, progress: Progress) -> Progress:
        if len(self.parts) > 1:
            self.parts = [jax.tree.map(lambda *parts: np.concatenate(parts, -1), *self.parts)]
        columns, telemetry = self.parts[0]
        columns, telemetry = _cut(
            progress._replace(columns=columns, telemetry=telemetry), reached(progress), self.looks
        )
        return progress._replace(columns=columns, telemetry=telemetry)


def taken_place(progress: Progress, first: int, done: int, looks: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The table of the epochs after `first`: NaN for a lane that had ended."""
    columns, telemetry = _cut(progress, done - first, looks)
    there = np.arange(done - first) < np.asarray(progress.epoch)[..., None] - first  # of each lane
    for part, of in ((columns, there), (telemetry, np.repeat(there, looks, -1))):
        for name, values in part.items():
            part[name] = np.where(of, values, np.nan).astype(values.dtype)
    return columns, telemetry


def _cut(progress: Progress, epochs: int, looks: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The first epochs of a table."""
    return (
        {name: np.asarray(values)[..., :epochs] for name, values in progress.columns.items()},
        {name: np.asarray(values)[..., : epochs * looks] for name, values in progress.telemetry.items()},
    )


class _Reasons(list[str]):
    """Why to stop, in words. While `closing`, what is being saved is not left any more for SIGTERM."""

    closing = False


@contextlib.contextmanager
def _signals(terminable: bool) -> Iterator[tuple[_Reasons, list[Callable[[], None]]]]:
    """Ctrl-C, and SIGTERM if asked for, are written down and leave the loop; afterwards their handlers are as before.

    An exception alone would be lost if it were raised while Python collects garbage, say. What SIGTERM did before is
    to be done when all is saved: by default the process ends.
    """
    reasons = _Reasons()
    before: dict[int, Any] = {}
    after: list[Callable[[], None]] = []
    if threading.current_thread() is threading.main_thread():  # no other thread can set one
        interrupt, terminate = map(signal.getsignal, (signal.SIGINT, signal.SIGTERM))
        if interrupt is signal.default_int_handler:
            before[signal.SIGINT] = interrupt
        if terminable and (terminate is signal.SIG_DFL or callable(terminate)):
            before[signal.SIGTERM] = terminate

    def note(number: int, frame: Any) -> None:
        if number == signal.SIGTERM:
            if not after:
                reasons.append("Terminated")
                after.append(lambda: _terminate(before[signal.SIGTERM], frame))
            if reasons.closing:
                return
        else:
            reasons.append("Interrupted")
        raise KeyboardInterrupt

    for number in before:
        signal.signal(number, note)
    try:
        yield reasons, after
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _terminate(handler: Any, frame: Any) -> None:
    """What SIGTERM does where nothing is to be saved."""
    if handler is signal.SIG_DFL:
        raise SystemExit(128 + signal.SIGTERM)
    handler(signal.SIGTERM, frame)


def reached(progress: Progress) -> int:
    """The last epoch that took place, of the training furthest on."""
    return int(np.max(np.asarray(progress.epoch)))


def watchers_of(job: Job, epochs: int | None, progress: bool, on_epoch: Any) -> list[Watcher]:
    """What looks on: the progress line, and a function of the user's."""
    scalars.flag("progress", progress)
    if on_epoch is not None and not callable(on_epoch):
        raise TypeError(f"on_epoch: expected a function of the epoch's number and row, got {on_epoch!r}.")
    watchers: list[Watcher] = [Line(epochs, names(job))] if progress else []
    privacy, m = job.options.privacy, len(job.data.x)

    def epsilons(epoch: int) -> np.ndarray:
        assert privacy is not None
        room = epochs if epochs is not None else 2 ** epoch.bit_length()  # the account is kept, and not made anew
        return privacy.epsilons(m, job.options.batch_size, room)

    if on_epoch is not None:
        watchers.append(Hook(on_epoch, names(job), None if privacy is None else epsilons))
    return watchers


class Hook:
    """Calls a function with every new epoch's number and row."""

    def __init__(
        self,
        function: Callable[[int, dict[str, Any]], Any],
        names: tuple[str, ...],
        epsilons: Callable[[int], np.ndarray] | None = None,
    ) -> None:
        self.function, self.names, self.epsilons = function, names, epsilons

    def see(self, chunk: Chunk) -> bool:
        first, last, stop = chunk.first, reached(chunk.progress), False
        columns, _ = taken_place(chunk.progress, first, last, 0)
        if self.epsilons is not None:
            spent = self.epsilons(last)[first:last].astype(jax.dtypes.canonicalize_dtype(np.float64))
            columns["epsilon"] = np.broadcast_to(spent, columns["cost"].shape)  # as the history has it
        names = self.names if self.epsilons is None else (*self.names, "epsilon")
        values = [columns[name].T if columns[name].ndim > 1 else columns[name].tolist() for name in names]
        for number, row in enumerate(zip(*values), first + 1):
            wish = self.function(number, dict(zip(names, row)))
            stop = stop or (isinstance(wish, bool | np.bool_) and bool(wish))
        return stop

    def close(self, progress: Progress) -> None:
        """There is nothing to do."""


class Line:
    """The progress line: over itself in a terminal or notebook, else a line each. Of many trainings the medians."""

    def __init__(self, epochs: int | None, names: tuple[str, ...]) -> None:
        self.epochs, self.names, self.next = epochs, names, 0.0
        self.first: tuple[int, float] | None = None  # where the clock starts: the first chunk holds the compilation
        self.moves = sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel")
        self.width = 0

    def see(self, chunk: Chunk) -> None:
        done, moment = reached(chunk.progress), time.perf_counter()
        self.first = self.first or (done, moment)
        if done and (done >= self.next or done == self.epochs):
            self.next = done + (self.epochs / UPDATES if self.epochs else 1)
            latest = "  ".join(f"{name} {self._latest(chunk, name):.4g}" for name in self.names)
            text = f"epoch {done}{f'/{self.epochs}' if self.epochs else ''}  {latest}"
            if done > self.first[0]:
                rate = (done - self.first[0]) / (moment - self.first[1])
                text += f"  {rate:.3g} epochs/s"
                text += f"  {duration((self.epochs - done) / rate)} left" if self.epochs else ""
            sys.stderr.write(f"\r{text.ljust(self.width)}" if self.moves else f"{text}\n")
            sys.stderr.flush()
            self.width = len(text)

    def close(self, progress: Progress) -> None:
        if self.moves and self.width:
            sys.stderr.write("\n")

    def _latest(self, chunk: Chunk, name: str) -> float:
        epochs = np.atleast_1d(np.asarray(chunk.progress.epoch)) - chunk.first
        column = np.atleast_2d(np.asarray(chunk.progress.columns[name]))
        latest = [row[epoch - 1] for row, epoch in zip(column, epochs) if epoch > 0]
        return float(np.median(latest)) if latest else float("nan")


def duration(seconds: float) -> str:
    """A span of time as one says it: 0.3 s, 42 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
