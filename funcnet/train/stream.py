"""Data on the host: an epoch over arrays larger than the device should hold, the next piece moved meanwhile."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet.backprop import predict
from funcnet.train.epoch import after, nothing_watched, scan, step_from, watched_scan
from funcnet.train.loop import RUNNING, Job, Progress, recorded
from funcnet.train.order import Order, order_of
from funcnet.train.state import TrainState
from funcnet.train.update import Batch, Data, Method, Task

PIECE_BYTES = 32 * 2**20


def on_host(data: Data) -> bool:
    """Whether data is to be read piece by piece."""
    return isinstance(data.x, np.memmap)


def run_from_host(job: Job, method: Method, now: Progress, until: int) -> Progress:
    """`loop.run` over data that stays on the host."""
    task, data = job.task, job.data
    there = job._replace(
        data=jax.tree.map(jnp.asarray, data._replace(x=None)) if job.metrics else Data(None, None, None)
    )
    while int(now.epoch) < until and int(now.status) == RUNNING:
        order = _order(now.state.key, len(data.x), method)
        carry: Any = now.state.params, now.state.opt_state
        seen: list[Any] = []
        for piece in _pieces(data, order, method.telemetry):
            carry, found = _scan(task, method, order.draw_key, carry, piece)
            jax.block_until_ready(seen[-1:])  # so that no more than two pieces are on the device
            seen.append(found)
        state, found = _after(now.state, order, carry, jax.tree.map(lambda *parts: jnp.concatenate(parts), *seen))
        now = _recorded(there, now, state, found, _output(job, state) if job.metrics else None)
    return now


def replay_from_host(task: Task, method: Method, state: TrainState, data: Data) -> Any:
    """`epoch.replay` over data that stays on the host."""
    order = _order(state.key, len(data.x), method)
    carry, seen = nothing_watched(state), []
    for piece in _pieces(data, order, 1):
        carry, finite = _watched_scan(task, method, order.draw_key, carry, piece)
        seen.append(finite)
    return carry, jnp.concatenate(seen)


_order = jax.jit(order_of, static_argnums=(1, 2))
_after = jax.jit(after)
_recorded = jax.jit(recorded)
_predict = jax.jit(predict)


@partial(jax.jit, static_argnums=1)
def _scan(task: Task, method: Method, draw_key: jax.Array, carry: Any, piece: Batch) -> Any:
    return scan(task, method, draw_key, None, carry, piece)


@partial(jax.jit, static_argnums=1)
def _watched_scan(task: Task, method: Method, draw_key: jax.Array, carry: Any, piece: Batch) -> Any:
    return watched_scan(step_from(task, method, draw_key, None), carry, piece)


def _pieces(data: Data, order: Order, every: int) -> Iterator[Batch]:
    """The epoch's batches, some at a time, on the device; a thread fetches the next while one is worked on."""
    rows = np.asarray(order.rows)
    bytes_of_a_step = rows.shape[1] * sum(part[0].nbytes for part in jax.tree.leaves(data))
    steps = max(1, PIECE_BYTES // max(bytes_of_a_step, 1))
    steps = -(-steps // max(every, 1)) * max(every, 1)  # telemetry is taken at the same steps as without pieces

    def fetched(start: int) -> Batch:
        own, counted = jax.tree.map(lambda part: part[start : start + steps], (rows, order.counted))
        number: Any = np.arange(start, start + len(own))
        return Batch(jax.tree.map(lambda part: np.asarray(part[own]), data), own, counted, number)

    yield from map(jax.device_put, _one_ahead(fetched, range(0, len(rows), steps)))


def _output(job: Job, state: TrainState) -> jax.Array:
    """The network's output for all the data, propagated in pieces."""
    x = job.data.x
    rows = max(1, PIECE_BYTES // max(x[0].nbytes, 1))
    parts = _one_ahead(lambda start: np.asarray(x[start : start + rows]), range(0, len(x), rows))
    outputs: list[jax.Array] = []
    for part in parts:
        jax.block_until_ready(outputs[-1:])
        outputs.append(_predict(job.net, state.params, part))
    return jnp.concatenate(outputs)


def _one_ahead(fetch: Any, starts: range) -> Iterator[Any]:
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(fetch, starts[0])
        for start in starts[1:]:
            here, coming = coming.result(), thread.submit(fetch, start)
            yield here
        yield coming.result()
