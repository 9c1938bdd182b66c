"""Data on the host: an epoch over arrays larger than the device should hold, moved piece by piece."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet.propagation import predict
from funcnet.train.epoch import Records, after, in_range, scan, step_of
from funcnet.train.loop import RUNNING, Progress, recorded
from funcnet.train.options import Data, Job, Options
from funcnet.train.order import Order, order_of
from funcnet.train.replays import Replayed, Watch, nothing_watched, watched_scan
from funcnet.train.state import TrainState
from funcnet.train.update import Batch, Carry

PIECE_BYTES = 32 * 2**20


def run_from_host(job: Job, progress: Progress, until: int) -> Progress:
    """`loop.run` over data that stays on the host."""
    options, data = job.options, _in_range(job.options, job.data)
    on_device = job._replace(
        data=jax.tree.map(jnp.asarray, data._replace(x=None)) if options.metrics else Data(None, None, None)
    )
    while int(progress.epoch) < until and int(progress.status) == RUNNING:
        order = _order(progress.state.key, len(data.x), options)
        carry: Carry = progress.state.params, progress.state.opt_state
        records: list[Records] = []
        for piece in _pieces(data, order, options.telemetry):
            carry, record = _scan(options, order.draw_key, carry, piece)
            jax.block_until_ready(records[-1:])  # so that no more than two pieces are on the device
            records.append(record)
        whole = jax.tree.map(lambda *parts: jnp.concatenate(parts), *records)
        state, results = _after(progress.state, order, carry, whole)
        output = _output(job, state) if options.metrics else None
        progress = _recorded(on_device, progress, state, results, output)
    return progress


def replay_from_host(options: Options, state: TrainState, data: Data) -> Replayed:
    """`replays.replay` over data that stays on the host."""
    data = _in_range(options, data)
    order = _order(state.key, len(data.x), options)
    watch, records = nothing_watched(state), []
    for piece in _pieces(data, order, 1):
        watch, finite = _watched_scan(options, order.draw_key, watch, piece)
        records.append(finite)
    return watch, jnp.concatenate(records)


def _in_range(options: Options, data: Data) -> Data:
    weights = in_range(options, data._replace(x=None, y=None)).weights
    return data if weights is None else data._replace(weights=np.asarray(weights))


_order = jax.jit(order_of, static_argnums=1)
_after = jax.jit(after)
_recorded = jax.jit(recorded)
_predict = jax.jit(predict)


@jax.jit
def _scan(options: Options, draw_key: jax.Array, carry: Carry, piece: Batch) -> tuple[Carry, Records]:
    return scan(options, draw_key, None, carry, piece)


@jax.jit
def _watched_scan(options: Options, draw_key: jax.Array, watch: Watch, piece: Batch) -> Replayed:
    return watched_scan(options, step_of(options, draw_key, None), watch, piece)


def _pieces(data: Data, order: Order, every: int) -> Iterator[Batch]:
    """The epoch's batches, some at a time, on the device; a thread fetches the next while one is used."""
    rows = np.asarray(order.rows)
    bytes_of_a_step = rows.shape[1] * sum(part[0].nbytes for part in jax.tree.leaves(data))
    steps = max(1, PIECE_BYTES // max(bytes_of_a_step, 1))
    steps = -(-steps // max(every, 1)) * max(every, 1)  # telemetry is taken at the same steps as without pieces

    def fetched(start: int) -> Batch:
        chosen, counted = jax.tree.map(lambda part: part[start : start + steps], (rows, order.counted))
        number: Any = np.arange(start, start + len(chosen))
        return Batch(jax.tree.map(lambda part: np.asarray(part[chosen]), data), chosen, counted, number)

    yield from map(jax.device_put, _one_ahead(fetched, range(0, len(rows), steps)))


def _output(job: Job, state: TrainState) -> jax.Array:
    """The network's output for all the data, propagated in pieces."""
    x = job.data.x  # XLA rounds a single row's products in another way, so no piece is smaller than a batch
    rows = max(job.options.batch_size, PIECE_BYTES // max(x[0].nbytes, 1))
    parts = _one_ahead(lambda start: np.asarray(x[start : start + rows]), range(0, len(x), rows))
    outputs: list[jax.Array] = []
    for part in parts:
        jax.block_until_ready(outputs[-1:])
        outputs.append(_predict(job.options.net, state.params, part))
    return jnp.concatenate(outputs)


def _one_ahead(fetch: Callable[[int], Any], starts: range) -> Iterator[Any]:
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(fetch, starts[0])
        for start in starts[1:]:
            here, coming = coming.result(), thread.submit(fetch, start)
            yield here
        yield coming.result()
