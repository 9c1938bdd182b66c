"""What the host sees of a training: chunks of epochs, a line that moves, and Ctrl-C."""

import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from funcnet.protocols import Params
from funcnet.train.state import TrainState

RUNNING = 0
CHUNK_SECONDS = 1.0
UPDATES = 20  # of the line, in all


class Progress(NamedTuple):
    """What the loop carries: the state after the last good epoch, the table so far, and the best."""

    state: TrainState
    epoch: jax.Array
    status: jax.Array
    columns: dict[str, jax.Array]
    best: Params
    best_value: jax.Array
    best_epoch: jax.Array


def in_chunks(
    run: Callable[[Progress, int], Progress], start: Progress, epochs: int, names: tuple[str, ...] | None
) -> tuple[Progress, bool]:
    """Epochs in chunks of about a second, told of by a line if there are names; and whether Ctrl-C came."""
    now, done, chunk = start, 0, 1
    line = None if names is None else _Line(epochs, names)
    try:
        while done < epochs and int(now.status) == RUNNING:
            chunk_began = time.perf_counter()
            now = jax.block_until_ready(run(now, min(done + chunk, epochs)))
            done = int(now.epoch)
            if line is not None:
                line.show(done, now.columns)
            took = time.perf_counter() - chunk_began
            chunk = max(1, min(int(chunk * CHUNK_SECONDS / max(took, 1e-6)), 10 * chunk, -(-epochs // UPDATES)))
    except KeyboardInterrupt:
        return now, True
    finally:
        if line is not None:
            line.close()
    return now, False


class _Line:
    """The progress line: over itself on a terminal, a line each elsewhere."""

    def __init__(self, epochs: int, names: tuple[str, ...]) -> None:
        self.epochs, self.names, self.next = epochs, names, 0.0
        self.first: tuple[int, float] | None = None  # where the clock starts: the first chunk holds the compilation
        self.terminal = sys.stderr.isatty()

    def show(self, done: int, columns: dict[str, jax.Array]) -> None:
        now = time.perf_counter()
        self.first = self.first or (done, now)
        if done and (done >= self.next or done == self.epochs):
            self.next = done + self.epochs / UPDATES
            latest = "  ".join(f"{name} {float(np.asarray(columns[name])[done - 1]):.4g}" for name in self.names)
            text = f"epoch {done}/{self.epochs}  {latest}"
            if done > self.first[0]:
                rate = (done - self.first[0]) / (now - self.first[1])
                text += f"  {rate:.3g} epochs/s  {(self.epochs - done) / rate:.0f} s left"
            sys.stderr.write(f"\r\x1b[K{text}" if self.terminal else f"{text}\n")
            sys.stderr.flush()

    def close(self) -> None:
        if self.terminal:
            sys.stderr.write("\n")
