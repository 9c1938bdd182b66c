"""Layers that mix examples without saying so: found by running a few examples alone and together."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core import arguments, walkers
from funcnet._core.context import Context
from funcnet._core.protocols import AnyLayer, Loss, Params, Tree
from funcnet.per_example.gradients import example_gradients
from funcnet.propagation import backprop
from funcnet.train.options import Data, Options, on_host

EXAMPLES = 4
DIFFERENCE = 1e-4  # between an example's gradients alone and among others, over the largest of their entries


PRIVATE = "So clipping one example's gradient does not bound what it does to the others'."
SPLIT = "accumulate splits a batch, whose parts do not see each other. Leave accumulate out."
FILLED_UP = "The last batch of an epoch is filled up with rows that must not count. Choose a batch_size that divides m."


def refuse_mixing(options: Options, params: Params, data: Data) -> None:
    """Refuse a network in which an example's output or gradient depends on the others, and name the layer.

    Only where it matters. Layers of funcnet treat every example alone, and say so where they do not; of others a few
    examples are run.
    """
    why = FILLED_UP if len(data.x) % options.batch_size else ""
    why = PRIVATE if options.privacy is not None else SPLIT if options.accumulate > 1 else why
    if not why:
        return
    for _, layer in walkers.leaves(options.net):
        if getattr(layer, "mixes_examples", False):
            raise ValueError(_refusal(layer, why))
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((params, data)))
    if traced or len(data.x) < 2 or _is_own(options.net):
        return
    rows = np.unique(np.linspace(0, len(data.x) - 1, EXAMPLES).astype(int))
    x, y = (jnp.asarray(np.asarray(part[rows])) for part in (data.x, data.y))
    x = x.astype(arguments.input_type(options.net, params, data.x)) if on_host(data) else x
    keys = jax.random.split(jax.random.key(0), len(rows)) if arguments.draws(options.net) else None
    together, alone = _both(options.net, options.loss, params, x, y, keys)
    if not all(map(_agree, jax.tree.leaves(together), jax.tree.leaves(alone))):
        raise ValueError(_refusal(_culprit(options.net, params, x, keys), why))


def _refusal(layer: Any, why: str) -> str:
    return (
        f"net: {layer} mixes examples: what it gives for one depends on the others. {why} Use a layer that treats "
        "every example alone, such as LayerNorm."
    )


def _is_own(layer: Any) -> bool:
    """Whether all layers are funcnet's."""
    children = [child for _, child, _ in walkers.parts(layer)] if hasattr(layer, "contract") else []
    return type(layer).__module__.startswith("funcnet.") and all(map(_is_own, children))


@jax.jit
def _both(
    net: AnyLayer, loss: Loss, params: Params, x: jax.Array, y: jax.Array, keys: jax.Array | None
) -> tuple[Tree, Tree]:
    """Outputs and gradients of the examples, together in one batch, and each in a batch of its own."""

    def of(x: jax.Array, y: jax.Array, keys: jax.Array | None) -> Tree:
        bp = backprop(net, loss, params, x, y, key=keys)
        return bp.output, example_gradients(net, bp)

    alone = jax.vmap(of)(*jax.tree.map(lambda a: a[:, None], (x, y, keys)))
    return of(x, y, keys), jax.tree.map(lambda a: a[:, 0], alone)


def _agree(together: Any, alone: Any) -> bool:
    """Whether two arrays, examples first, are the same for each example (what is not finite apart)."""
    a, b = (np.asarray(part, np.float64).reshape(len(part), -1) for part in (together, alone))
    a, b = (np.where(np.isfinite(a) & np.isfinite(b), part, 0) for part in (a, b))
    size = np.maximum(np.abs(a).max(1, initial=0), np.abs(b).max(1, initial=0))
    return bool((np.abs(a - b).max(1, initial=0) <= DIFFERENCE * size).all())


class _Spy:
    """A leaf layer that writes down its inputs and outputs."""

    def __init__(self, leaf: Any, seen: list[tuple[Any, jax.Array, jax.Array]]) -> None:
        self.leaf, self.seen = leaf, seen

    def forward(self, params: Params, x: jax.Array, context: Context | None = None) -> tuple[jax.Array, Tree]:
        output, tape = walkers.layer_forward(self.leaf, params, x, context)
        self.seen.append((self.leaf, x, output))
        return output, tape

    pull = None  # whatever has one is handed the whole context


def _culprit(net: AnyLayer, params: Params, x: jax.Array, keys: jax.Array | None) -> Any:
    """The layer whose output for an example differs where its input does not; the network if it is not seen so."""
    together: list[tuple[Any, jax.Array, jax.Array]] = []
    alone: list[tuple[Any, jax.Array, jax.Array]] = []
    for seen, rows in ((together, slice(None)), (alone, slice(1))):
        spied = walkers.with_leaves(net, partial(_Spy, seen=seen))
        walkers.layer_forward(spied, params, x[rows], None if keys is None else keys[rows])
    for (leaf, its_input, output), (_, own_input, own_output) in zip(together, alone):
        if isinstance(output, jax.core.Tracer):  # inside a loop of a combinator
            return net
        if _agree(its_input[:1], own_input) and not _agree(output[:1], own_output):
            return leaf
    foreign = [leaf for _, leaf in walkers.leaves(net) if not _is_own(leaf)]
    return foreign[0] if len(foreign) == 1 else net
