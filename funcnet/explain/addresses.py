"""One weight's address, (layer, from, to): what it may be, and what there is where it is wrong."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Where = tuple[int, int | None, int]
"""A parameter as (layer, from, to); a from of None is a bias."""


class Weights(NamedTuple):
    """What a layer with parameters has: inputs and outputs of its weight matrix (0, 0: none), biases or not."""

    layer: Any
    n_in: int
    n_out: int
    bias: bool


def checked_weight(name: str, layers: Sequence[Weights], weight: Any) -> Where:
    """The address, if these layers, counted from 1, have such a weight."""

    def is_index(value: Any) -> bool:
        return isinstance(value, int | np.integer) and not isinstance(value, bool)

    rule = f"{name}: expected (layer, from, to), with layer from 1, from and to array indices, from None for a bias"
    if not isinstance(weight, tuple | list) or len(weight) != 3:
        raise ValueError(f"{rule}; got {weight!r}.")
    layer, source, to = weight
    if not is_index(layer) or not is_index(to) or not (source is None or is_index(source)):
        raise ValueError(f"{rule}; got {weight!r}.")
    if not 1 <= layer <= len(layers):
        there = "; ".join(f"{number}: {own.layer}" for number, own in enumerate(layers, 1))
        raise ValueError(f"{name}={weight!r}: there is no layer {layer}. The layers with parameters are {there}.")
    own = layers[layer - 1]
    if not own.n_out:
        raise ValueError(f"{name}={weight!r}: layer {layer}, {own.layer}, has no matrix w. Choose another layer.")
    if source is None and not own.bias:
        raise ValueError(
            f"{name}={weight!r}: layer {layer}, {own.layer}, has no bias. Give a from of 0 … {own.n_in - 1}."
        )
    if not 0 <= to < own.n_out or (source is not None and not 0 <= source < own.n_in):
        raise ValueError(
            f"{name}={weight!r}: there is no such weight in layer {layer}, {own.layer}, where from is "
            f"0 … {own.n_in - 1}{' (or None)' if own.bias else ''} and to is 0 … {own.n_out - 1}."
        )
    return int(layer), None if source is None else int(source), int(to)
