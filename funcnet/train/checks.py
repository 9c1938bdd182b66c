"""What a training refuses before anything is compiled: options, states and data that do not fit together."""

import dataclasses
import mmap
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from funcnet._core import arguments, scalars
from funcnet._core.protocols import Params
from funcnet.propagation import predict
from funcnet.train.measurements import measured, shapes_of
from funcnet.train.mixing import refuse_mixing
from funcnet.train.options import Data, Job, Options, on_host
from funcnet.train.privacy_account import Privacy, accounting
from funcnet.train.state import TrainState, check_optimizer
from funcnet.train.stopping import EarlyStopping
from funcnet.train.update import needs_backprop

PIECE_BYTES = 2**25  # of data on the host that are looked at together


def checked_epoch(options: Options, state: TrainState, x: Any) -> Options:
    """The options with Python's numbers, if optimiser, state and batches fit together."""
    optimizer = options.optimizer
    check_optimizer(optimizer)
    if not x.ndim:
        raise ValueError(f"data: x: expected (m, *positions, features), got {arguments.shown(x)}.")
    if not (m := len(x)):
        raise ValueError("data: there are no examples to train on.")
    expected = f"1 to {m}, the number of examples (a larger one would change the number of updates)"
    batch_size = scalars.integer("batch_size", options.batch_size, expected, 1, m)
    accumulate = scalars.integer("accumulate", options.accumulate, "a divisor of batch_size", 1)
    if batch_size % accumulate:
        raise ValueError(f"accumulate: expected a divisor of batch_size={batch_size}, got {accumulate}.")
    steps = -(-m // batch_size)
    telemetry = scalars.integer("telemetry", options.telemetry, f"0 to {steps}, the updates in an epoch", 0, steps)
    fresh = jax.eval_shape(optimizer.init, state.params)
    shapes = [jax.tree.map(_shape_and_type, tree) for tree in (state.opt_state, fresh)]
    if str(shapes[0]) != str(shapes[1]):
        raise ValueError(
            f"state: opt_state is not this optimiser's for these parameters. It holds {shapes[0]}, expected "
            f"{shapes[1]}. Make the state by fn.train_state(optimizer, params, key)."
        )
    if accumulate > 1 and needs_backprop(state.opt_state):
        raise ValueError(
            "accumulate: this optimiser asks for the Backprop of a whole batch, which parts do not have. "
            "Use accumulate=1."
        )
    return dataclasses.replace(options, batch_size=batch_size, accumulate=accumulate, telemetry=telemetry)


def _shape_and_type(leaf: Any) -> tuple[Any, Any]:
    """Numbers of all types are one: optax starts some counters weakly typed, and 0 may be swept as 0.1."""
    return jnp.shape(leaf), jnp.result_type(leaf) if jnp.ndim(leaf) else "number"


def checked_job(job: Job, state: TrainState, epochs: int | None, ends: bool = False) -> tuple[Job, int | None]:
    """A whole training and its epochs, with Python's numbers, if all fits together.

    `ends` says whether something looks on that may end it.
    """
    x, y, weights = job.data
    options = checked_epoch(job.options, state, x)
    if not jax.tree.leaves(state.params):
        raise ValueError(f"net: {options.net} has no parameters to train.")
    job = job._replace(options=options)
    if options.privacy is not None:
        _check_private(options, options.privacy, state)
    if epochs is not None:
        epochs = scalars.integer("epochs", epochs, "0 or more, or None")
    elif options.early_stopping is None and not ends:
        raise ValueError("epochs: None needs something that ends the training: early_stopping, or on_epoch.")
    if on_host(job.data):
        _check_host_data(options, state.params, job.data)
    else:
        arguments.checked_batch(options.net, options.loss, state.params, x, y, weights)
    refuse_mixing(options, state.params, job.data)
    if job.validation is not None:
        arguments.checked_validation(options.net, options.loss, state.params, *job.validation)
    scalars.choice("non_finite", options.non_finite, ("stop", "skip"))
    _check_stopping(options.early_stopping, _columns(job, state))
    return job, epochs


def _check_host_data(options: Options, params: Params, data: Data) -> None:
    """What `cost` refuses, piece by piece."""
    net, (x, y, weights) = options.net, data
    if len(y) != len(x) or (weights is not None and len(weights) != len(x)):
        raise ValueError(f"data: x has {len(x)} examples, y {len(y)}; these and weights must be equally many.")
    dtype, rows = arguments.input_type(net, params, x), max(1, PIECE_BYTES // max(x[:1].nbytes + y[:1].nbytes, 1))
    for start in range(0, len(x), rows):
        part = slice(start, start + rows)
        piece = np.asarray(x[part]).astype(dtype, copy=False), np.asarray(y[part])
        try:
            arguments.checked_batch(net, options.loss, params, *piece, None if weights is None else weights[part])
        except ValueError as error:  # it counts rows from the beginning of the piece
            message = re.sub(r"\b(x|y|weights)\[(\d+)", lambda m: f"{m[1]}[{int(m[2]) + start}", str(error))  # noqa: B023
            raise ValueError(message) from None
    file, let_go = getattr(x, "_mmap", None), getattr(mmap, "MADV_DONTNEED", None)  # Windows has none
    if isinstance(file, mmap.mmap) and let_go is not None and x.mode != "c":
        file.madvise(let_go)  # what was read need not stay in this process


def _check_stopping(stopping: Any, columns: tuple[str, ...]) -> None:
    if not isinstance(stopping, EarlyStopping | None):
        raise TypeError(f"early_stopping: expected EarlyStopping(patience=10), say, got {arguments.shown(stopping)}.")
    if stopping is not None and stopping.monitor not in columns:
        raise ValueError(
            f"{stopping}: nothing recorded is called {stopping.monitor}; there are {', '.join(columns)}. Set monitor, "
            "or give validation or metrics."
        )


def _columns(job: Job, state: TrainState) -> tuple[str, ...]:
    """The columns there will be, if each metric gives one number."""

    def row(params: Params, data: Data) -> dict[str, jax.Array]:
        output = predict(job.options.net, params, data.x) if job.options.metrics else None
        return measured(job._replace(data=data), params, output)

    columns = jax.eval_shape(row, state.params, shapes_of(job, state.params))
    for name, value in columns.items():
        if value.shape != ():
            raise ValueError(f"metrics: {name} gave shape {value.shape}, expected one number for the whole data set.")
    return ("cost", *columns)


def _check_private(options: Options, privacy: Any, state: TrainState) -> None:
    """Refuse what cannot be private, and say why."""
    if not isinstance(privacy, Privacy):
        raise TypeError(f"privacy: expected Privacy(max_norm, noise_multiplier), got {arguments.shown(privacy)}.")
    accounting()
    stopping = options.early_stopping
    if isinstance(stopping, EarlyStopping) and not stopping.monitor.startswith("validation_"):
        raise ValueError(
            f"{stopping}: when a private training stops must not depend on the training data, whose costs and metrics "
            "are not private. Monitor a quantity of other people's data, such as validation_cost."
        )
    if word := _asked_for(options.optimizer, state):
        raise ValueError(
            "privacy: this optimiser asks for more than the gradient (the cost, a function of it, or a Backprop), and "
            f"those are not private. Use one that needs the gradient alone, such as optax.adam. (It asks for {word}.)"
        )


def _asked_for(optimizer: optax.GradientTransformation, state: TrainState) -> str:
    """What an optimiser needs beside the gradient: what it says, or a keyword that its update has no default for."""
    if needs_backprop(state.opt_state):
        return "backprop"
    grads = jax.tree.map(jnp.zeros_like, state.params)
    try:
        with jax.numpy_dtype_promotion("standard"):  # as optax wants it
            jax.eval_shape(optax.with_extra_args_support(optimizer).update, grads, state.opt_state, state.params)
    except TypeError as error:
        if "required keyword-only argument" not in str(error):
            raise
        return str(error).rpartition(": ")[2]
    return ""
