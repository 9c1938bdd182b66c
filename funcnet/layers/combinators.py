"""`Chain` and `Residual`: layers made of layers. `mlp`: the usual chain."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import jax

from funcnet.initializers import GlorotUniform
from funcnet.keys import child_key
from funcnet.layers.activations import Tanh
from funcnet.layers.dense import Dense
from funcnet.protocols import AnyLayer, Initializer, Layer, Tree
from funcnet.spec import spec


def contract(layer: AnyLayer, f: Callable[[Layer, Tree, Tree], Tree], tape: Tree, deltas: Tree) -> Tree:
    """`f(leaf, tape, deltas)` at every leaf layer of `layer`, as a tree like its parameters.

    Every quantity that funcnet takes from a backward pass is one contraction: the gradient is
    `contract(net, lambda leaf, tape, deltas: leaf.gradient(tape, deltas), tape, deltas)`.
    """
    if hasattr(layer, "contract"):
        return layer.contract(f, tape, deltas)
    return f(layer, tape, deltas)


@spec
class Chain:
    """Layers one after the other: y = f_L(… f_2(f_1(x))).

    Parameters, tape and deltas are tuples of the children's. A chain is a layer, so chains nest.

    Raises:
        TypeError: something that is no layer, with the function it lacks.
        ValueError: neighbours whose sizes do not meet.

    Example:
        >>> import funcnet as fn
        >>> fn.Chain(fn.Dense(2, 3), fn.Sigmoid(), fn.Dense(3, 1))
        Chain(Dense(2, 3), Sigmoid(), Dense(3, 1))
    """

    layers: tuple[AnyLayer, ...]

    def __init__(self, *layers: AnyLayer) -> None:
        object.__setattr__(self, "layers", layers)
        self.__post_init__()

    def __post_init__(self) -> None:
        last, size = None, None
        for layer in self.layers:
            n_in, n_out = getattr(layer, "n_in", None), getattr(layer, "n_out", None)
            if None not in (size, n_in) and size != n_in:
                raise ValueError(
                    f"Chain: {last} gives {size} features, but {layer} takes {n_in}. Make the two sizes equal."
                )
            if not getattr(layer, "keeps_size", False):
                last, size = layer, n_out

    @property
    def keeps_size(self) -> bool:
        return all(getattr(layer, "keeps_size", False) for layer in self.layers)

    @property
    def by_position(self) -> bool:
        return all(getattr(layer, "by_position", False) for layer in self.layers)

    @property
    def n_in(self) -> int | None:
        return _first_size(self.layers, "n_in")

    @property
    def n_out(self) -> int | None:
        return _first_size(reversed(self.layers), "n_out")

    def init(self, key: jax.Array) -> tuple[Any, ...]:
        return tuple(layer.init(jax.random.fold_in(key, i)) for i, layer in enumerate(self.layers))

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> tuple[jax.Array, tuple[Tree, ...]]:
        tape = []
        for i, (layer, own) in enumerate(zip(self.layers, params, strict=True)):
            x, kept = layer.forward(own, x, child_key(key, i))
            tape.append(kept)
        return x, tuple(tape)

    def backward(self, params: Any, tape: Any, delta: jax.Array) -> tuple[jax.Array, tuple[Tree, ...]]:
        deltas = []
        for layer, own, kept in zip(reversed(self.layers), reversed(params), reversed(tape), strict=True):
            delta, remembered = layer.backward(own, kept, delta)
            deltas.append(remembered)
        return delta, tuple(reversed(deltas))

    def contract(self, f: Callable[[Layer, Tree, Tree], Tree], tape: Any, deltas: Any) -> tuple[Tree, ...]:
        return tuple(contract(layer, f, t, d) for layer, t, d in zip(self.layers, tape, deltas, strict=True))


@spec
class Residual:
    """y = x + f(x), with f any layer that keeps the shape (He et al., 2016).

    Parameters, tape and deltas are f's own. Backwards the error signal takes both ways:
    ∂J/∂x = δ + ∂f(x)/∂x · δ.

    Raises:
        TypeError: `layer` is no layer.
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

    @property
    def keeps_size(self) -> bool:
        return getattr(self.layer, "keeps_size", False)

    @property
    def by_position(self) -> bool:
        return getattr(self.layer, "by_position", False)

    @property
    def n_in(self) -> int | None:
        return getattr(self.layer, "n_in", None)

    @property
    def n_out(self) -> int | None:
        return getattr(self.layer, "n_out", None)

    def init(self, key: jax.Array) -> Any:
        return self.layer.init(key)

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> tuple[jax.Array, Tree]:
        y, tape = self.layer.forward(params, x, key)
        if y.shape != x.shape:
            raise ValueError(f"{self}: the branch turns shape {x.shape} into {y.shape}, so the two cannot be added.")
        return x + y, tape

    def backward(self, params: Any, tape: Tree, delta: jax.Array) -> tuple[jax.Array, Tree]:
        branch, deltas = self.layer.backward(params, tape, delta)
        return delta + branch, deltas

    def contract(self, f: Callable[[Layer, Tree, Tree], Tree], tape: Tree, deltas: Tree) -> Tree:
        return contract(self.layer, f, tape, deltas)


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
    if not isinstance(sizes, Sequence) or len(sizes) < 2:
        raise ValueError(f"mlp: expected two sizes or more, input and output among them, got {sizes!r}.")
    layers: list[AnyLayer] = []
    for n_in, n_out in pairwise(sizes):
        layers += [Dense(n_in, n_out, init=init), activation]
    return Chain(*layers[:-1], *(() if output is None else (output,)))


def _first_size(layers: Iterator[AnyLayer] | tuple[AnyLayer, ...], name: str) -> int | None:
    """The size of the first of these layers that has one, unless a layer before it may change it."""
    for layer in layers:
        size: int | None = getattr(layer, name, None)
        if size is not None or not getattr(layer, "keeps_size", False):
            return size
    return None
