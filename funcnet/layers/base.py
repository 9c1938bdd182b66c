"""What layers of one kind share: those without parameters, those around one layer, those of several."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import jax

from funcnet._core.arrays import shown
from funcnet._core.protocols import AnyLayer, Params, Tree
from funcnet._core.walkers import LeafFunction, Part, contract, deltas_alone, layer_step, numbered

Pass = tuple[jax.Array, Any]


class Parameterless:
    """Nothing to start from and nothing to learn.

    `elementwise` says that each output depends on one input, so that `backward` of ones is the slope.
    """

    keeps_size: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True
    by_position: ClassVar[bool] = True

    def init(self, key: jax.Array) -> tuple[()]:
        return ()

    def gradient(self, tape: Any, deltas: Any) -> tuple[()]:
        return ()


class OneLayer:
    """A combinator around one `layer`, whose parameters, tape and deltas are the layer's own, and whose sizes, too."""

    layer: AnyLayer

    @property
    def n_in(self) -> int | None:
        return getattr(self.layer, "n_in", None)

    @property
    def n_out(self) -> int | None:
        return getattr(self.layer, "n_out", None)

    @property
    def keeps_size(self) -> bool:
        return getattr(self.layer, "keeps_size", False)

    @property
    def by_position(self) -> bool:
        return getattr(self.layer, "by_position", False)

    def init(self, key: jax.Array) -> Params:
        return self.layer.init(key)

    def backward(self, params: Params, tape: Tree, delta: jax.Array) -> tuple[jax.Array, Tree]:
        return self.pull(deltas_alone, params, tape, delta)  # type: ignore[attr-defined]

    def contract(self, f: LeafFunction, *kept: Tree) -> Tree:
        return contract(self.layer, f, *kept)

    def step(self, params: Params, x: jax.Array, cache: Tree, place: jax.Array) -> tuple[jax.Array, Tree]:
        return layer_step(self.layer, params, x, cache, place)

    def parts(self) -> Iterator[Part]:
        yield "", self.layer, lambda tree: tree


class SeveralLayers:
    """A combinator of `layers`, whose parameters, tape and deltas are tuples of theirs."""

    layers: tuple[AnyLayer, ...]

    @property
    def by_position(self) -> bool:
        return all(getattr(layer, "by_position", False) for layer in self.layers)

    def init(self, key: jax.Array) -> tuple[Params, ...]:
        return tuple(layer.init(jax.random.fold_in(key, i)) for i, layer in enumerate(self.layers))

    def backward(self, params: Params, tape: Tree, delta: jax.Array) -> tuple[jax.Array, Tree]:
        return self.pull(deltas_alone, params, tape, delta)  # type: ignore[attr-defined]

    def contract(self, f: LeafFunction, *kept: Sequence[Tree]) -> tuple[Tree, ...]:
        return contract_each(self.layers, f, *kept)

    def parts(self) -> Iterator[Part]:
        return numbered(self.layers)


def contract_each(layers: tuple[AnyLayer, ...], f: LeafFunction, *kept: Sequence[Tree]) -> tuple[Tree, ...]:
    """`contract` of each layer with its part of every tape and deltas."""
    for place, tree in enumerate(kept):
        check_each(layers, "deltas" if place % 2 else "tape", tree)
    return tuple(contract(layer, f, *passes) for layer, *passes in zip(layers, *kept, strict=True))


def check_each(layers: tuple[AnyLayer, ...], name: str, tree: Any) -> None:
    """Refuse a tree that has not one part for each layer."""
    if not isinstance(tree, tuple | list) or len(tree) != len(layers):
        got = f"{len(tree)} parts" if isinstance(tree, tuple | list) else shown(tree)
        raise ValueError(f"{name}: expected a tuple with a part for each of {len(layers)} layers in a row, got {got}.")
