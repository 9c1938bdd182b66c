"""Rows that fill up the data, so that trainings on nearly as many examples, as of folds, share one program."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core import walkers
from funcnet._core.protocols import AnyLayer
from funcnet.train.options import Data, Job, on_host
from funcnet.train.stopping import EarlyStopping

SMALL = 2**26  # bytes: larger data are not copied for this


def program_job(job: Job) -> Job:
    """The job as programs are given it: what need not be part of a program is an array, or left out.

    The data end with a whole batch, those of validation with a sixteenth of a power of two; `m` and `validation_m` say
    how many rows are examples. The others are copies of the first, and count nowhere. Where a layer or metric is not
    funcnet's, which might look at them, and in private training all stays as it is.
    """
    options, data, validation = job.options, job.data, job.validation
    if options.early_stopping is not None:
        named = EarlyStopping(options.early_stopping.monitor)
        job = job._replace(options=dataclasses.replace(options, early_stopping=named))
    if options.privacy is not None or not _are_known(options.net, options.metrics):
        return job
    m, size = len(data.x), options.batch_size
    if m % size and _may_be_copied(data):
        whole = data if on_host(data) else filled(data, -(-m // size) * size)
        job = job._replace(data=whole, m=np.int32(m))
    if validation is not None and _may_be_copied(validation):
        rows = len(validation.x)
        step = max(16, 2 ** ((rows - 1).bit_length() - 4))
        if room := -rows % step:
            job = job._replace(validation=filled(validation, rows + room), validation_m=np.int32(rows))
    return job


def _are_known(net: AnyLayer, metrics: tuple[Any, ...]) -> bool:
    layers = [layer for _, layer in walkers.leaves(net)]
    alone = not any(getattr(layer, "mixes_examples", False) for layer in layers)
    return alone and all(type(part).__module__.startswith("funcnet.") for part in (*layers, *metrics))


def _may_be_copied(data: Data) -> bool:
    parts = [part for part in data if part is not None]
    placed = any(len(part.sharding.device_set) > 1 for part in parts if isinstance(part, jax.Array))
    return not placed and sum(part.nbytes for part in parts) <= SMALL


def filled(data: Any, rows: int) -> Any:
    """Arrays with so many rows: copies of the first follow."""

    def one(part: Any) -> jax.Array:
        plain = np.asarray(part)  # no program of JAX for every number of rows
        more = np.broadcast_to(plain[:1], (rows - len(plain), *plain.shape[1:]))
        return jnp.asarray(np.concatenate([plain, more]))

    return jax.tree.map(one, data)
