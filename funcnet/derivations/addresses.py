"""One weight's address, (layer, from, to): what it may be, and what there is where it is wrong."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from funcnet._core import scalars
from funcnet._core.protocols import Layer, Params

Where = tuple[int, int | None, int]
"""A parameter as (layer, from, to); a from of None is a bias."""


class Weights(NamedTuple):
    """What a layer with parameters has: inputs and outputs of its weight matrix (0, 0: none), biases or not."""

    layer: Layer
    n_in: int
    n_out: int
    bias: bool


def weights_in(layer: Layer, params: Params) -> Weights:
    """What a leaf layer with these parameters, or their shapes, has."""
    w = params.get("w") if isinstance(params, dict) else None
    n_in, n_out = w.shape if w is not None and len(w.shape) == 2 else (0, 0)
    return Weights(layer, n_in, n_out, n_out > 0 and "b" in params)


def checked_weight(name: str, layers: Sequence[Weights], weight: Any) -> Where:
    """The address, if these layers, counted from 1, have such a weight."""
    rule = f"{name}: expected (layer, from, to), with layer from 1, from and to array indices, from None for a bias"
    if not isinstance(weight, tuple | list) or len(weight) != 3:
        raise ValueError(f"{rule}; got {weight!r}.")
    layer, source, to = weight
    if not all(map(scalars.is_integer, (layer, to, 0 if source is None else source))):
        raise ValueError(f"{rule}; got {weight!r}.")
    if not 1 <= layer <= len(layers):
        known = "; ".join(f"{number}: {weights.layer}" for number, weights in enumerate(layers, 1))
        raise ValueError(f"{name}={weight!r}: there is no layer {layer}. The layers with parameters are {known}.")
    weights = layers[layer - 1]
    if not weights.n_out:
        raise ValueError(f"{name}={weight!r}: layer {layer}, {weights.layer}, has no matrix w. Choose another layer.")
    if source is None and not weights.bias:
        raise ValueError(
            f"{name}={weight!r}: layer {layer}, {weights.layer}, has no bias. Give a from of 0 … {weights.n_in - 1}."
        )
    if not 0 <= to < weights.n_out or (source is not None and not 0 <= source < weights.n_in):
        raise ValueError(
            f"{name}={weight!r}: there is no such weight in layer {layer}, {weights.layer}, where from is "
            f"0 … {weights.n_in - 1}{' (or None)' if weights.bias else ''} and to is 0 … {weights.n_out - 1}."
        )
    return int(layer), None if source is None else int(source), int(to)
