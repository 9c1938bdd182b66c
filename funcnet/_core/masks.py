"""Which parameters are trained: flags, and a network whose contractions leave the others out."""

from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core.arguments import params_struct, shown
from funcnet._core.context import Context
from funcnet._core.protocols import Layer, Params, Tree
from funcnet._core.specs import spec
from funcnet._core.walkers import LeafFunction, layer_forward, with_leaves

Flags = tuple[bool, ...]
"""For every parameter, in the order of `jax.tree.leaves(params)`, whether it is trained."""


def flags_of(params: Params, trainable: Tree | None) -> Flags | None:
    """True or False for each parameter, from a tree of them in which one may stand for a whole branch; None for all."""
    if trainable is None:
        return None

    def flag(value: Any) -> bool:
        if not isinstance(value, (bool, np.bool_)) and str(getattr(value, "dtype", "")) != "bool":
            raise TypeError(
                f"trainable: expected True or False for each parameter or branch of them, got {shown(value)}."
            )
        if isinstance(value, jax.core.Tracer):
            raise TypeError("trainable: cannot be traced: what is trained is part of the program. Give True or False.")
        return bool(value)

    try:
        spread = jax.tree.map(lambda keep, branch: jax.tree.map(lambda _: flag(keep), branch), trainable, params)
    except ValueError as error:
        raise ValueError(
            f"trainable: {trainable!r} does not fit the parameters, {jax.tree.structure(params)}. Give True or False "
            "for each, or for whole branches, such as (False, True, True)."
        ) from error
    return tuple(jax.tree.leaves(spread))


def kept(flags: Flags | None, tree: Tree) -> Tree:
    """What is trained of a tree like the parameters; 0 elsewhere."""
    if flags is None:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    parts = [leaf if keep else jnp.zeros_like(leaf) for keep, leaf in zip(flags, leaves, strict=True)]
    return jax.tree.unflatten(structure, parts)


@spec
class Masked:
    """A leaf layer, the derivatives by some of whose parameters are 0. It has none of the layer's cheaper forms."""

    leaf: Layer
    flags: tuple[bool, ...]

    def init(self, key: jax.Array) -> Params:
        return self.leaf.init(key)

    def forward(self, params: Params, x: jax.Array, context: Context | None = None) -> tuple[jax.Array, Tree]:
        return layer_forward(self.leaf, params, x, context)

    def backward(self, params: Params, tape: Tree, delta: jax.Array) -> tuple[jax.Array, Tree]:
        return self.leaf.backward(params, tape, delta)

    def pull(self, f: LeafFunction, params: Params, tape: Tree, delta: jax.Array) -> tuple[jax.Array, Tree]:
        input_delta, deltas = self.leaf.backward(params, tape, delta)
        return input_delta, f(self, tape, deltas)

    def gradient(self, tape: Tree, deltas: Tree) -> Tree:
        return kept(self.flags, self.leaf.gradient(tape, deltas))

    @property
    def mixes_examples(self) -> bool:
        return getattr(self.leaf, "mixes_examples", False)


def masked(net: Any, flags: Flags | None) -> Any:
    """The network with each leaf layer of which not all is trained replaced by a masked one."""
    if flags is None or all(flags):
        return net
    own = iter(flags)

    def change(leaf: Any) -> Any:
        here = tuple(islice(own, len(jax.tree.leaves(params_struct(leaf)))))
        return leaf if all(here) else Masked(leaf, here)

    return with_leaves(net, change)
