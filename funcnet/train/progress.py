"""A training from the host: chunks of epochs, the progress line, and Ctrl-C."""

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from funcnet.train.loop import RUNNING, Progress

CHUNK_SECONDS = 1.0
UPDATES = 20  # of the line, in all


class Watcher(Protocol):
    """Called between chunks, and once at the end."""

    def see(self, progress: Progress) -> None:
        """After a chunk."""

    def close(self, progress: Progress) -> None:
        """When no chunk follows, whatever the reason."""


def in_chunks(
    run: Callable[[Progress, int], Progress], progress: Progress, epochs: int, watchers: Sequence[Watcher]
) -> tuple[Progress, bool]:
    """Epochs in chunks of about a second, and whether Ctrl-C came. Of one training, or of many side by side."""
    done, chunk, interrupted = reached(progress), 1, False
    with _ctrl_c() as pressed:
        try:
            while done < epochs and (np.asarray(progress.status) == RUNNING).any() and not pressed.is_set():
                began = time.perf_counter()
                progress = jax.block_until_ready(run(progress, min(done + chunk, epochs)))
                done = reached(progress)
                for watcher in watchers:
                    watcher.see(progress)
                took = max(time.perf_counter() - began, 1e-6)
                chunk = max(1, min(int(chunk * CHUNK_SECONDS / took), 10 * chunk, -(-epochs // UPDATES)))
        except KeyboardInterrupt:
            interrupted = True
        finally:
            for watcher in watchers:
                watcher.close(progress)
    return progress, interrupted or pressed.is_set()


@contextlib.contextmanager
def _ctrl_c() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets: its exception is lost if it is raised while Python collects garbage, say."""
    pressed, handler = threading.Event(), signal.getsignal(signal.SIGINT)

    def press(number: int, frame: Any) -> None:
        pressed.set()
        signal.default_int_handler(number, frame)

    if handler is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield pressed  # another handler is set, or this thread cannot set one
        return
    signal.signal(signal.SIGINT, press)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, handler)


def reached(progress: Progress) -> int:
    """The last epoch that took place, of the training furthest on."""
    return int(np.max(np.asarray(progress.epoch)))


class Line:
    """The progress line: over itself on a terminal, a line each elsewhere. Of many trainings it shows the median."""

    def __init__(self, epochs: int, names: tuple[str, ...]) -> None:
        self.epochs, self.names, self.next = epochs, names, 0.0
        self.first: tuple[int, float] | None = None  # where the clock starts: the first chunk holds the compilation
        self.terminal = sys.stderr.isatty()

    def see(self, progress: Progress) -> None:
        done, moment = reached(progress), time.perf_counter()
        self.first = self.first or (done, moment)
        if done and (done >= self.next or done == self.epochs):
            self.next = done + self.epochs / UPDATES
            latest = "  ".join(f"{name} {self._latest(progress, name):.4g}" for name in self.names)
            text = f"epoch {done}/{self.epochs}  {latest}"
            if done > self.first[0]:
                rate = (done - self.first[0]) / (moment - self.first[1])
                text += f"  {rate:.3g} epochs/s  {(self.epochs - done) / rate:.0f} s left"
            sys.stderr.write(f"\r\x1b[K{text}" if self.terminal else f"{text}\n")
            sys.stderr.flush()

    def close(self, progress: Progress) -> None:
        if self.terminal:
            sys.stderr.write("\n")

    def _latest(self, progress: Progress, name: str) -> float:
        epochs, column = np.atleast_1d(np.asarray(progress.epoch)), np.atleast_2d(np.asarray(progress.columns[name]))
        latest = [row[epoch - 1] for row, epoch in zip(column, epochs) if epoch]
        return float(np.median(latest)) if latest else float("nan")
