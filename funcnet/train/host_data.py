"""Data on the host: an epoch over arrays larger than the device should hold, moved piece by piece."""

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core import arguments
from funcnet._core.protocols import AnyLayer, Params
from funcnet.propagation import predict
from funcnet.train.epoch import Records, after, in_range, scan, step_of
from funcnet.train.filling import filled
from funcnet.train.loop import RUNNING, Progress, recorded
from funcnet.train.options import Data, Job, Options
from funcnet.train.order import Order, in_batches, keys_of, mixed, order_of, round_keys
from funcnet.train.programs import Program
from funcnet.train.replays import Replayed, Watch, nothing_watched, watched_scan
from funcnet.train.state import TrainState
from funcnet.train.update import Batch, Carry

PIECE_BYTES = 32 * 2**20
LARGE = 2**20  # rows whose order takes noticeable memory


def run_from_host(job: Job, progress: Progress, until: int) -> Progress:
    """`loop.run` over data that stays on the host."""
    options, data = job.options, _in_range(job.options, job.data)
    rows = len(data.x) if job.m is None else -(-len(data.x) // options.batch_size) * options.batch_size
    on_device = job._replace(data=filled(data._replace(x=None), rows) if options.metrics else Data(None, None, None))
    first = progress.epoch
    while int(progress.epoch) < until and int(progress.status) == RUNNING:
        order = _order_of(data, options, progress.state)
        carry: Carry = progress.state.params, progress.state.opt_state
        records: list[Records] = []
        for piece in _pieces(data, order, options.telemetry):
            carry, record = _scan(options, order.draw_key, carry, piece)
            jax.block_until_ready(records[-1:])  # so that no more than two pieces are on the device
            records.append(record)
        whole = jax.tree.map(lambda *parts: jnp.concatenate(parts), *records)
        state, results = _after(progress.state, order, carry, whole)
        output = _output(job, state, rows) if options.metrics else None
        progress = _recorded(on_device, progress, first, state, results, output)
    return progress


def replay_from_host(options: Options, state: TrainState, data: Data, m: Any = None) -> Replayed:
    """`replays.replay` over data that stays on the host."""
    data = _in_range(options, data)
    order = _order_of(data, options, state)
    watch, records = nothing_watched(state), []
    for piece in _pieces(data, order, 1):
        watch, finite = _watched_scan(options, order.draw_key, watch, piece)
        records.append(finite)
    return watch, jnp.concatenate(records)


def _in_range(options: Options, data: Data) -> Data:
    weights = in_range(options, data._replace(x=None, y=None)).weights
    return data if weights is None else data._replace(weights=np.asarray(weights))


def _order_of(data: Data, options: Options, state: TrainState) -> Order:
    """The order that data of this size has on the device, by one program for all that have as many batches."""
    m, size = len(data.x), options.batch_size
    room = -(-m // size) * size
    inside = np.int32(m) if room > m else None
    if options.privacy is not None:
        return _order(Rows(m), options, state.key)
    if room < LARGE:
        return _order(Rows(room), options, state.key, inside)
    next_key, order_key, draw_key = _keys_of(state.key)
    order: Any = np.arange(room, dtype=np.uint32)
    keys = _round_keys(Rows(room), order_key)
    for i in range(0, len(keys), 2):  # one program would draw the bits of all rounds at once; two run side by side
        order = _mixed(order, keys[i : i + 2], inside)
    return Order(*_in_batches(options, order, inside), draw_key, next_key)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Rows:
    """A number of rows that a program is made for."""

    number: int


@Program
def _round_keys(rows: Rows, key: jax.Array) -> jax.Array:
    return round_keys(key, rows.number)


@Program
def _in_batches(options: Options, order: jax.Array, m: jax.Array | None) -> tuple[jax.Array, jax.Array | None]:
    return in_batches(order, options, m)


@Program
def _mixed(order: jax.Array, round_keys: jax.Array, m: jax.Array | None) -> jax.Array:
    for key in round_keys:
        order = mixed(order, key, m)
    return order


_keys_of = Program(keys_of)


@Program
def _order(rows: Rows, options: Options, key: jax.Array, m: jax.Array | None = None) -> Order:
    return order_of(key, rows.number, options, m)


def _predicted(net: AnyLayer, params: Params, x: jax.Array) -> jax.Array:
    return predict(net, params, x.astype(arguments.input_type(net, params, x)))


_after, _recorded, _predict = Program(after), Program(recorded), Program(_predicted)


@Program
def _scan(options: Options, draw_key: jax.Array, carry: Carry, piece: Batch) -> tuple[Carry, Records]:
    return scan(options, draw_key, None, carry, _typed(options, carry[0], piece))


@Program
def _watched_scan(options: Options, draw_key: jax.Array, watch: Watch, piece: Batch) -> Replayed:
    piece = _typed(options, watch.carry[0], piece)
    return watched_scan(options, step_of(options, draw_key, None), watch, piece)


def _typed(options: Options, params: Params, piece: Batch) -> Batch:
    """The batches in the type in which they are propagated: narrow types are moved as they are."""
    x = piece.data.x
    dtype = arguments.input_type(options.net, params, x[0])
    return piece._replace(data=piece.data._replace(x=x.astype(dtype)))


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


def _output(job: Job, state: TrainState, filled_rows: int) -> jax.Array:
    """The network's output for all the data, propagated in pieces; those of the first row fill it up."""
    x = job.data.x  # XLA rounds a single row's products in another way, so no piece is smaller than a batch
    rows = max(job.options.batch_size, PIECE_BYTES // max(x[0].nbytes, 1))
    parts = _one_ahead(lambda start: np.asarray(x[start : start + rows]), range(0, len(x), rows))
    outputs: list[jax.Array] = []
    for part in parts:
        jax.block_until_ready(outputs[-1:])
        outputs.append(_predict(job.options.net, state.params, part))
    fill = jnp.broadcast_to(outputs[0][:1], (filled_rows - len(x), *outputs[0].shape[1:]))
    return jnp.concatenate([*outputs, fill])


def _one_ahead(fetch: Callable[[int], Any], starts: range) -> Iterator[Any]:
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(fetch, starts[0])
        for start in starts[1:]:
            here, coming = coming.result(), thread.submit(fetch, start)
            yield here
        yield coming.result()
