"""What fit's extras cost: an epoch with each of them against an epoch of the plain call, as a percentage.

All are measured in one run, interleaved: once a round each, in an order drawn anew for each; a figure is
the median of the ratios within the rounds, less 1, and their quartiles. With funcnet installed, from the
repository's root:

    python examples/benchmarks/training_extras.py                        all three networks
    python examples/benchmarks/training_extras.py --networks 16 --quick

    plain again                 how much the measurement itself varies
    validation                  the cost of held-out rows, a sixth as many as the data
    validation, accuracy …      as before, and Accuracy() on the data and on the held-out rows
    early stopping              on the training cost, with a patience that is never used up
    progress                    the line, written to a buffer
    checkpoint at the end       one alone, into a temporary folder
    checkpoints, one a second   and at the end; what they cost more, over 30, is one in 30 seconds, the default
    fit in the user's jit       the whole training one loop: below 0 by what set-up and chunks cost
    non-finite watch            that loop against a scan of train_epoch, which watches nothing
"""

import contextlib
import io
import tempfile
from functools import partial
from typing import Any

import jax
import numpy as np
import optax
from clocks import (
    LEARNING_RATE,
    LOSS,
    Case,
    Data,
    Run,
    against,
    chosen_cases,
    epochs_to_fill,
    interleaved,
    lengths,
    load,
    machine,
    parser_of_cases,
    per_epoch,
    write,
)

import funcnet as fn

AT_THE_END, EACH_SECOND = "checkpoint at the end", "checkpoints, one a second"


def extras(case: Case, data: Data, held_out: Data, rounds: int, turn: float) -> dict[str, Any]:
    """What an epoch of fit costs more with each extra: [median, quartiles] as shares of the plain call."""
    net, optimizer, size = fn.mlp(case.sizes, fn.ReLU()), optax.adam(LEARNING_RATE), case.batch_size
    data, held_out = jax.device_put((data, held_out))
    first = fn.train_state(optimizer, fn.init(net, jax.random.key(0)), jax.random.key(1))

    def fit(epochs: int, **options: Any) -> None:
        with contextlib.redirect_stderr(io.StringIO()):
            state, _ = fn.fit(net, LOSS, optimizer, first, data, epochs=epochs, batch_size=size, **options)
        jax.block_until_ready(state)

    def by_epoch(epochs: int) -> None:
        state = first
        for _ in range(epochs):
            state, _ = fn.train_epoch(net, LOSS, optimizer, state, data, batch_size=size)
        jax.block_until_ready(state)

    def checkpointed(pause: float, epochs: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            fit(epochs, checkpoint=fn.Checkpoint(folder, seconds=pause))

    @partial(jax.jit, static_argnames="epochs")
    def one_loop(state: fn.TrainState, data: Any, epochs: int) -> Any:
        return fn.fit(net, LOSS, optimizer, state, data, epochs=epochs, batch_size=size)

    @partial(jax.jit, static_argnames="epochs")
    def unwatched_loop(state: fn.TrainState, data: Any, epochs: int) -> Any:
        def one(state: fn.TrainState, _: None) -> Any:
            return fn.train_epoch(net, LOSS, optimizer, state, data, batch_size=size)

        return jax.lax.scan(one, state, None, length=epochs)

    runs: dict[str, Run] = {
        "plain": fit,
        "plain again": fit,
        "validation": partial(fit, validation=held_out),
        "validation, accuracy on both sets": partial(fit, validation=held_out, metrics=[fn.Accuracy()]),
        "early stopping": partial(fit, early_stopping=fn.EarlyStopping("cost", patience=10**6)),
        "progress": partial(fit, progress=True),
    }
    if hasattr(fn, "Checkpoint"):
        runs |= {AT_THE_END: partial(checkpointed, 1e9), EACH_SECOND: partial(checkpointed, 1.0)}
    runs["fit in the user's jit"] = lambda epochs: jax.block_until_ready(one_loop(first, data, epochs))
    runs["the same without its watch"] = lambda epochs: jax.block_until_ready(unwatched_loop(first, data, epochs))
    epochs = epochs_to_fill(turn, by_epoch)
    for run in runs.values():
        run(epochs)
    found = interleaved({name: partial(per_epoch, run, epochs) for name, run in runs.items()}, rounds)
    shares = {name: (against(found, name, "plain") - 1).tolist() for name in list(runs)[1:-1]}
    if EACH_SECOND in found:
        often = (found[EACH_SECOND] - found[AT_THE_END]) / found["plain"]
        shares["checkpoints, one in 30 seconds"] = (np.percentile(often, (50, 25, 75)) / 30).tolist()
    watched, unwatched = list(runs)[-2:]
    shares["non-finite watch"] = (against(found, watched, unwatched) - 1).tolist()
    return {"epochs": epochs, "plain": float(np.median(found["plain"])), "shares": shares}


def print_extras(found: dict[str, Any]) -> None:
    print(f"fn.fit with            plain: {1e3 * found['plain']:.2f} ms per epoch, {found['epochs']} epochs a call")
    for name, (middle, low, high) in found["shares"].items():
        print(f"  {name:<36} {middle:+7.1%}   {f'{low:+.1%} to {high:+.1%}'}")
    if EACH_SECOND not in found["shares"]:
        print("  checkpoints: not in this funcnet")


def main() -> None:
    options = parser_of_cases(__doc__, rounds=15, turn=2.0).parse_args()
    cases, on, results = chosen_cases(options), machine(), []
    for case in cases:
        data, held_out, what = load(case, options.data)
        results.append({"case": case.name, "data": what} | extras(case, data, held_out, *lengths(options)))
        print(f"\n{case.name} ({what}), {case.sizes[0]} features, {len(held_out[0])} held-out rows")
        print_extras(results[-1])
    write(options.json, on, results)


if __name__ == "__main__":
    main()
