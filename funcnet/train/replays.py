"""Why a training ended before its last epoch; an epoch that stopped being finite is replayed to find the step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core import walkers
from funcnet.train import loop
from funcnet.train.epoch import Step, in_range, step_of
from funcnet.train.loop import NOT_FINITE, STOPPED_EARLY, Progress
from funcnet.train.options import Data, Job, Options
from funcnet.train.order import batches, keys_of, order_of
from funcnet.train.programs import Program
from funcnet.train.state import TrainState
from funcnet.train.stopping import never_a_number
from funcnet.train.update import Batch, Carry


class Watch(NamedTuple):
    """Whether all was finite so far, parameters and optimiser as long as they were, and after how many steps."""

    good: jax.Array
    carry: Carry
    steps: jax.Array


Replayed = tuple[Watch, jax.Array]  # and for each step which quantities were finite


def watched_scan(options: Options, step: Step, start: Watch, batches: Batch) -> Replayed:
    """`scan` that keeps what there was before the first step that was not finite (a private one's cost apart)."""

    def watched(watch: Watch, batch: Batch) -> Replayed:
        before = watch.carry
        then, (value, _, grads, _) = step(before, batch)
        value = jnp.zeros_like(value) if options.privacy else value
        finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((value, grads, then[0]))])
        good = watch.good & finite.all()
        carry = jax.tree.map(lambda a, b: jnp.where(good, a, b), then, before)
        return Watch(good, carry, watch.steps + good), finite

    return jax.lax.scan(watched, start, batches)


def nothing_watched(state: TrainState) -> Watch:
    """The carry with which `watched_scan` begins."""
    return Watch(jnp.asarray(True), (state.params, state.opt_state), jnp.zeros((), jnp.int32))


@Program
def replay(options: Options, state: TrainState, data: Data, m: int | jax.Array | None = None) -> Replayed:
    """An epoch with every step watched."""
    data = in_range(options, data)
    order = order_of(state.key, len(data.x), options, m)
    return watched_scan(options, step_of(options, order.draw_key, data), nothing_watched(state), batches(order))


def why_stopped(job: Job, end: Progress, replayed: Replayed | None) -> tuple[TrainState, str]:
    """The state to give back, and why the training ended before its last epoch, if so."""
    if replayed is not None and int(end.status) == NOT_FINITE:
        last, where = _first_bad_step(job.options, end.state, replayed)
        return last, f"Stopped in epoch {int(end.epoch) + 1}: {where} The state before that step is returned."
    stopping = job.options.early_stopping
    if int(end.status) == STOPPED_EARLY and stopping is not None and not int(end.best_epoch):
        return loop.finished(end), f"Stopped after epoch {int(end.epoch)}: {never_a_number(stopping)}"
    if int(end.status) == STOPPED_EARLY and stopping is not None:
        return loop.finished(end), (
            f"Stopped after epoch {int(end.epoch)}: {stopping.monitor} has not improved since epoch "
            f"{int(end.best_epoch)}, whose parameters are returned."
        )
    return loop.finished(end), ""


def _first_bad_step(options: Options, state: TrainState, replayed: Replayed) -> tuple[TrainState, str]:
    """From a replay of the epoch that went wrong: the state before that step, and what it was.

    Its key is that of the next epoch. With this epoch's a second `fit` would draw the same batches and noise again.
    """
    (good, (params, opt_state), steps), finite = replayed
    last = TrainState(params, opt_state, state.step + steps, keys_of(state.key)[0])
    if good:
        return last, "a cost or parameter was not finite, but not so again when the epoch was replayed."
    names = [name for name, _ in walkers.named_params(state.params)]
    quantities = ["the cost", *(f"the gradient of {n}" for n in names), *(f"the new value of {n}" for n in names)]
    first = int(steps)
    quantity = quantities[int(np.argmin(finite[first]))]
    remedy = (
        "The gradient is clipped already: a smaller learning rate keeps steps in bounds."
        if options.privacy
        else "A smaller learning rate, or gradients clipped by optax.clip_by_global_norm, keeps steps in bounds."
    )
    if any(leaf.dtype == jnp.float16 for leaf in jax.tree.leaves(state.params)):
        remedy = (
            "The parameters are float16, which ends at 65504 and takes numbers below 6e-8 for 0, such as Adam's "
            'eps=1e-8: keep them in float32 (compute_dtype="bfloat16" computes in fewer bits), or give eps=1e-4.'
        )
    return last, f"at step {first + 1} of {len(finite)} {quantity} is not finite. {remedy}"
