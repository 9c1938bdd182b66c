"""What a training is, in words and fingerprints: by them a checkpoint tells it from another."""

import dataclasses
import importlib
from functools import partial
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib
import optax

from funcnet._core import arguments
from funcnet._core.fingerprints import array_fingerprint, file_fingerprint, program_fingerprint, tree_fingerprint
from funcnet._core.protocols import Layer, Tree
from funcnet._core.walkers import layer_forward, pull
from funcnet.propagation import predict
from funcnet.train.epoch import epoch_of
from funcnet.train.measurements import measured, shapes_of
from funcnet.train.options import Data, Job, Options, on_host
from funcnet.train.state import TrainState
from funcnet.train.stopping import EarlyStopping

WIDE = 90  # letters of one side of what differs

FLAGS = ("jax_enable_x64", "jax_threefry_partitionable", "jax_default_matmul_precision")


def description_of(job: Job, state: TrainState, swept: Any = None) -> dict[str, str]:
    """All that must be the same for a training to be resumed: not how long it runs, nor what looks on.

    Checkpoints hold these texts; a new name for one makes it unknown to those that were saved before.
    """
    options = job.options
    shapes = partial(jax.tree.map, lambda leaf: f"{leaf.dtype}{list(leaf.shape)}")
    numbers = [leaf.tolist() for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim == state.step.ndim]
    fingerprint = file_fingerprint if on_host(job.data) else array_fingerprint
    return {
        "network": repr(options.cast_net),
        "loss": repr(options.loss),
        "sweep": repr(swept),
        "penalty": repr(options.penalty),
        "what is trained": repr(options.trainable),
        "data": repr(shapes(tuple(job.data))),
        "values of the data": _named(jax.tree.map(fingerprint, job.data)),
        "validation": repr(job.validation and shapes(tuple(job.validation))),
        "values of the validation data": _named(job.validation and jax.tree.map(array_fingerprint, job.validation)),
        "batch_size": repr(options.batch_size),
        "accumulate": repr(options.accumulate),
        "privacy": repr(options.privacy),
        "metrics": repr(options.metrics),
        "early stopping watches": _watched(options.early_stopping),
        "params": repr(shapes(state.params)),
        "values of the starting params": tree_fingerprint(state.params),
        "optimiser's state": repr(shapes(state.opt_state)),
        "optimiser's numbers": repr(numbers),
        "values of the optimiser's starting state": tree_fingerprint(state.opt_state),
        "starting key and step": repr((jax.random.key_data(state.key).tolist(), state.step.tolist())),
        "kind of key": str(jax.random.key_impl(state.key)),
        "flags of JAX": ", ".join(f"{name}={getattr(jax.config, name)}" for name in FLAGS),
    }


def programs_of(job: Job, state: TrainState) -> dict[str, str]:
    """Fingerprints of what is computed: closures, schedules, and functions of the user's own, constants included.

    Another version of a library may compute the same in other words, so these are compared within one.
    """
    if state.step.ndim:  # lanes: what is computed is the same in each
        state = jax.tree.map(itemgetter(0), state)
        job = job.with_penalty(jax.tree.map(itemgetter(0), job.options.penalty))
    options, data = job.options, shapes_of(job, state.params)
    output = jax.eval_shape(predict, options.cast_net, state.params, data.x)
    return {
        "what the loss computes": program_fingerprint(partial(_loss, options), output, data.y),
        "what the network computes": program_fingerprint(partial(_propagation, options), state, data.x),
        "what the optimiser starts with": program_fingerprint(options.optimizer.init, state.params),
        "what an epoch computes (if nothing above differs, the optimiser)": program_fingerprint(
            partial(epoch_of, dataclasses.replace(options, telemetry=0)), state, data
        ),
        "what is recorded": program_fingerprint(partial(_recorded, job), state, data, job.validation, output),
    }


def versions() -> dict[str, str]:
    """Of what the bits depend on."""
    modules = {"funcnet": importlib.import_module("funcnet"), "jax": jax, "jaxlib": jaxlib, "optax": optax}
    return {name: module.__version__ for name, module in modules.items()}


def both_sides(saved: str | None, now: str | None) -> tuple[str, str]:
    """Two texts that differ, to be shown: of long ones the part around the first difference."""
    texts = str(saved), str(now)
    first = next((place for place, (a, b) in enumerate(zip(*texts)) if a != b), min(map(len, texts)))
    begin = max(first - WIDE // 2, 0)
    return tuple(_part(text, begin if len(text) > WIDE else 0) for text in texts)  # type: ignore[return-value]


def _part(text: str, begin: int) -> str:
    end = begin + WIDE
    return ("…" if begin else "") + text[begin:end] + ("…" if end < len(text) else "")


def _watched(stopping: EarlyStopping | None) -> str:
    """What early stopping watches; its patience may be another."""
    if stopping is None:
        return "None"
    start = (stopping.start_from_epoch,) if stopping.start_from_epoch else ()
    return repr((stopping.monitor, stopping.min_change, *start))


def _named(data: Data | None) -> str:
    return "none" if data is None else "; ".join(f"{name} {text}" for name, text in data._asdict().items() if text)


def _loss(options: Options, output: jax.Array, y: jax.Array) -> Any:
    return options.loss.value(output, y), options.loss.delta(output, y)


def _propagation(options: Options, state: TrainState, x: jax.Array) -> Any:
    net = options.cast_net
    key = jax.random.split(state.key, len(x)) if arguments.draws(net) else None
    output, tape = layer_forward(net, state.params, x, key)
    return output, pull(net, _gradient, state.params, tape, jnp.ones_like(output))


def _gradient(leaf: Layer, tape: Tree, deltas: Tree) -> Tree:
    return leaf.gradient(tape, deltas)


def _recorded(job: Job, state: TrainState, data: Data, validation: Data | None, output: jax.Array) -> Any:
    return measured(Job(job.options, data, validation), state.params, output if job.options.metrics else None)
