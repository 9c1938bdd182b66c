"""`Chain`, `Residual` and `Parallel`: layers made of layers. `mlp`: the usual chain."""

from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, pairwise
from typing import Literal

import jax
import jax.numpy as jnp

from funcnet._core.arguments import check_layer_functions, shown
from funcnet._core.context import Context, context_of
from funcnet._core.keys import child_key
from funcnet._core.protocols import AnyLayer, Initializer, Params, Tree
from funcnet._core.scalars import integer
from funcnet._core.sliding import shape_alone
from funcnet._core.specs import spec
from funcnet._core.walkers import LeafFunction, layer_forward, layer_step, pull
from funcnet.initializers import GlorotUniform
from funcnet.layers.activations import Tanh
from funcnet.layers.base import OneLayer, SeveralLayers, check_each, contract_each
from funcnet.layers.dense import Dense


@spec
class Chain(SeveralLayers):
    """Layers one after the other: y = f_L(… f_2(f_1(x))).

    Parameters, tape and deltas are tuples of the children's. A chain is a layer, so chains nest.

    Args:
        layers: any number of layers.
        name: what reports call it, such as "attention".

    Raises:
        TypeError: a value that is not a layer, with the function it lacks.
        ValueError: neighbours whose sizes do not meet.

    Example:
        >>> import funcnet as fn
        >>> fn.Chain(fn.Dense(2, 3), fn.Sigmoid(), fn.Dense(3, 1))
        Chain(Dense(2, 3), Sigmoid(), Dense(3, 1))
    """

    layers: tuple[AnyLayer, ...]
    name: str = ""

    def __init__(self, *layers: AnyLayer, name: str = "") -> None:
        object.__setattr__(self, "layers", layers)
        object.__setattr__(self, "name", name)
        self.__post_init__()

    def __post_init__(self) -> None:
        last, size = None, None
        for layer in self.layers:
            n_in, n_out = getattr(layer, "n_in", None), getattr(layer, "n_out", None)
            if size is not None and n_in is not None and size != n_in:
                several = [getattr(one, "by_position", False) for one in (last, layer)] == [False, True]
                flat = several and n_in % size == 0
                remedy = "If there are positions, put Flatten() between; or make" if flat else "Make"
                raise ValueError(
                    f"Chain: {last} gives {size} features, but {layer} takes {n_in}. {remedy} the two sizes equal."
                )
            if not getattr(layer, "keeps_size", False):
                last, size = layer, n_out

    @property
    def keeps_size(self) -> bool:
        return all(getattr(layer, "keeps_size", False) for layer in self.layers)

    @property
    def n_in(self) -> int | None:
        return _first_size(self.layers, "n_in")

    @property
    def n_out(self) -> int | None:
        return _first_size(reversed(self.layers), "n_out")

    def forward(
        self, params: Params, x: jax.Array, key: Context | jax.Array | None = None
    ) -> tuple[jax.Array, tuple[Tree, ...]]:
        check_each(self.layers, "params", params)
        context, tape = context_of(key), []
        for i, (layer, weights) in enumerate(zip(self.layers, params, strict=True)):
            x, kept = layer_forward(layer, weights, x, child_key(context, i))
            tape.append(kept)
        return x, tuple(tape)

    def pull(self, f: LeafFunction, params: Params, tape: Tree, delta: jax.Array) -> tuple[jax.Array, tuple[Tree, ...]]:
        check_each(self.layers, "params", params)
        check_each(self.layers, "tape", tape)
        results = []
        for layer, weights, kept in zip(reversed(self.layers), reversed(params), reversed(tape), strict=True):
            delta, result = pull(layer, f, weights, kept, delta)
            results.append(result)
        return delta, tuple(reversed(results))

    def step(self, params: Params, x: jax.Array, cache: Tree, place: jax.Array) -> tuple[jax.Array, tuple[Tree, ...]]:
        after = []
        for layer, weights, own in zip(self.layers, params, cache, strict=True):
            x, kept = layer_step(layer, weights, x, own, place)
            after.append(kept)
        return x, tuple(after)


@spec
class Residual(OneLayer):
    """y = x + f(x), with f any layer that keeps the shape (He et al., 2016).

    Parameters, tape and deltas are f's own. Backwards the error signal takes both ways:
    ∂J/∂x = δ + ∂f(x)/∂x · δ.

    Args:
        layer: f, with as many features at its end as at its beginning.

    Raises:
        TypeError: `layer` is not a layer.
        ValueError: `layer` does not give as many features as it takes.

    Example:
        >>> import funcnet as fn
        >>> fn.Residual(fn.Chain(fn.Dense(8, 8), fn.ReLU())).n_out
        8
    """

    layer: AnyLayer

    def __post_init__(self) -> None:
        if None not in (self.n_in, self.n_out) and self.n_in != self.n_out:
            raise ValueError(
                f"{self}: takes {self.n_in} features and gives {self.n_out}, so the two cannot be added. "
                "End the branch with a layer of the size that it starts with."
            )

    def forward(self, params: Params, x: jax.Array, key: Context | jax.Array | None = None) -> tuple[jax.Array, Tree]:
        y, tape = layer_forward(self.layer, params, x, context_of(key))
        if y.shape != x.shape:
            raise ValueError(
                f"{self}: the branch turns shape {x.shape} into {y.shape}, so the two cannot be added. "
                'padding="SAME" without a stride keeps the shape; to change it on both ways, write '
                'Parallel(branch, Conv(n_in, n_out, (1, 1), stride), join="sum").'
            )
        return x + y, tape

    def pull(self, f: LeafFunction, params: Params, tape: Tree, delta: jax.Array) -> tuple[jax.Array, Tree]:
        branch, results = pull(self.layer, f, params, tape, delta)
        return delta + branch, results

    def step(self, params: Params, x: jax.Array, cache: Tree, place: jax.Array) -> tuple[jax.Array, Tree]:
        y, cache = layer_step(self.layer, params, x, cache, place)
        return x + y, cache


@spec
class Parallel(SeveralLayers):
    """y = [f_1(x), …, f_L(x)], side by side on the last axis, or f_1(x) + … + f_L(x): all layers on the same x.

    With "sum" a residual block that changes its size (`Parallel(branch, Conv(16, 32, (1, 1), 2), join="sum")`; He et
    al., 2016), with "concatenate" a dense block (`Parallel(Identity(), branch)`; Huang et al., 2017) or several sizes
    of kernels beside each other (Szegedy et al., 2015). Backwards each layer gets its share of δ, or all of it, and
    the error signals at x are added up.

    Parameters, deltas and, but for the marks of where it joined, the tape are tuples of the children's.

    Args:
        layers: one or more.
        join: "concatenate" or "sum".

    Raises:
        TypeError: a value that is not a layer.
        ValueError: none, sizes that do not fit together; at `forward`, outputs that cannot be joined.

    Example:
        >>> import funcnet as fn
        >>> fn.Parallel(fn.Identity(), fn.Chain(fn.Dense(4, 8), fn.ReLU())).n_out
        12
    """

    layers: tuple[AnyLayer, ...]
    join: str = "concatenate"

    def __init__(self, *layers: AnyLayer, join: Literal["concatenate", "sum"] = "concatenate") -> None:
        object.__setattr__(self, "layers", layers)
        object.__setattr__(self, "join", join)
        self.__post_init__()

    def __post_init__(self) -> None:
        if not self.layers or self.join not in ("concatenate", "sum"):
            raise ValueError(f"{self}: expected a layer or more, and join 'concatenate' or 'sum'.")
        takes = {size: layer for layer in self.layers if (size := getattr(layer, "n_in", None)) is not None}
        if len(takes) > 1:
            raise ValueError(f"Parallel: all take the same input, but {_sizes(takes, 'takes')}. Make them equal.")
        gives = {size: layer for layer, size in zip(self.layers, self._outputs()) if size is not None}
        if self.join == "sum" and len(gives) > 1:
            raise ValueError(f"Parallel: {_sizes(gives, 'gives')}, which cannot be added. Make them equal.")

    @property
    def n_in(self) -> int | None:
        return next((size for layer in self.layers if (size := getattr(layer, "n_in", None)) is not None), None)

    @property
    def n_out(self) -> int | None:
        sizes = self._outputs()
        if self.join == "sum":
            return next((size for size in sizes if size is not None), None)
        known = [size for size in sizes if size is not None]
        return sum(known) if len(known) == len(sizes) else None

    @property
    def keeps_size(self) -> bool:
        alike = all(getattr(layer, "keeps_size", False) for layer in self.layers)
        return alike and (self.join == "sum" or len(self.layers) == 1)

    def _outputs(self) -> list[int | None]:
        def size(layer: AnyLayer) -> int | None:
            own = getattr(layer, "n_out", None)
            return self.n_in if own is None and getattr(layer, "keeps_size", False) else own

        return [size(layer) for layer in self.layers]

    def forward(self, params: Params, x: jax.Array, key: Context | jax.Array | None = None) -> tuple[jax.Array, Tree]:
        check_each(self.layers, "params", params)
        context = context_of(key)
        passes = [
            layer_forward(layer, weights, x, child_key(context, i))
            for i, (layer, weights) in enumerate(zip(self.layers, params, strict=True))
        ]
        outputs, tapes = zip(*passes)
        apart = slice(1, None) if self.join == "sum" else slice(1, -1)
        if len({y.shape[apart] for y in outputs}) > 1:
            shapes = ", ".join(f"{layer} gives {y.shape}" for layer, y in zip(self.layers, outputs))
            raise ValueError(f"Parallel: outputs of these shapes cannot be joined by {self.join!r}: {shapes}.")
        if self.join == "sum":
            return sum(outputs[1:], outputs[0]), tuple((tape, ()) for tape in tapes)
        return jnp.concatenate(outputs, -1), tuple((tape, shape_alone(y)) for tape, y in zip(tapes, outputs))

    def pull(self, f: LeafFunction, params: Params, tape: Tree, delta: jax.Array) -> tuple[jax.Array, tuple[Tree, ...]]:
        parts = [delta] * len(self.layers)
        if self.join == "concatenate":
            edges = list(accumulate(shape.shape[-2] for _, shape in tape))
            parts = jnp.split(delta, edges[:-1], -1)
        pulled = [
            pull(layer, f, weights, kept, part)
            for layer, weights, (kept, _), part in zip(self.layers, params, tape, parts, strict=True)
        ]
        back, results = zip(*pulled)
        return sum(back[1:], back[0]), results

    def step(self, params: Params, x: jax.Array, cache: Tree, place: jax.Array) -> tuple[jax.Array, tuple[Tree, ...]]:
        each = zip(self.layers, params, cache, strict=True)
        outputs, after = zip(*[layer_step(layer, weights, x, own, place) for layer, weights, own in each])
        return sum(outputs[1:], outputs[0]) if self.join == "sum" else jnp.concatenate(outputs, -1), after

    def contract(self, f: LeafFunction, *kept: Sequence[Tree]) -> tuple[Tree, ...]:
        """The marks are taken off the tape of every pass."""
        tapes = [tuple(own for own, _ in tape) for tape in kept[::2]]
        return contract_each(self.layers, f, *chain.from_iterable(zip(tapes, kept[1::2])))


def mlp(
    sizes: Sequence[int],
    activation: AnyLayer = Tanh(),
    output: AnyLayer | None = None,
    *,
    init: Initializer = GlorotUniform(),
) -> Chain:
    """The usual network: a `Dense` between every two sizes, `activation` after each but the last.

    Args:
        sizes: numbers of units from the input to the output, two or more.
        activation: the layer after every hidden `Dense`.
        output: the layer after the last `Dense`; None leaves its sums as they are (logits).
        init: how the weights start; `HeNormal()` suits `ReLU()`.

    Returns:
        A `Chain`.

    Raises:
        ValueError: fewer than two sizes, or one below 1.

    Example:
        >>> import funcnet as fn
        >>> fn.mlp((64, 32, 10))
        Chain(Dense(64, 32), Tanh(), Dense(32, 10))
    """
    if isinstance(sizes, str | bytes) or not isinstance(sizes, Sequence) or len(sizes) < 2:
        raise ValueError(f"mlp: expected two sizes or more, input and output among them, got {shown(sizes)}.")
    for place, size in enumerate(sizes):
        integer(f"mlp: sizes[{place}]", size, "a number of units, 1 or more", 1)
    check_layer_functions(activation, "mlp: activation")
    if output is not None:
        check_layer_functions(output, "mlp: output")
    layers: list[AnyLayer] = []
    for n_in, n_out in pairwise(sizes):
        layers += [Dense(n_in, n_out, init=init), activation]
    return Chain(*layers[:-1], *(() if output is None else (output,)))


def _sizes(layers: dict[int, AnyLayer], does: str) -> str:
    return " and ".join(f"{layer} {does} {size}" for size, layer in layers.items())


def _first_size(layers: Iterator[AnyLayer] | tuple[AnyLayer, ...], name: str) -> int | None:
    """The size of the first of these layers that has one, unless a layer before it may change it."""
    for layer in layers:
        size: int | None = getattr(layer, name, None)
        if size is not None or not getattr(layer, "keeps_size", False):
            return size
    return None
