"""Quantities beside the cost, of a whole data set at once: some are no means over examples."""

from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from funcnet.precision import accumulation_type
from funcnet.spec import spec

__all__ = ["F1", "R2", "Accuracy", "MeanAbsoluteError", "Metric", "TopK"]


@runtime_checkable
class Metric(Protocol):
    """A number for the outputs of a whole data set. One of your own is a class under `funcnet.spec`.

    `name` is the column in the history; `larger_is_better` tells early stopping which way is up.
    """

    larger_is_better: ClassVar[bool]

    @property
    def name(self) -> str:
        """The column in the history."""

    def value(self, output: jax.Array, y: jax.Array, weights: jax.Array | None) -> jax.Array:
        """A scalar, from output and y as the loss takes them; weights as `funcnet.cost` takes them."""


@spec
class Accuracy:
    """The share of examples (and positions) whose largest output is the class y.

    y holds integer classes, or probabilities, whose largest is meant. With a single output, or y
    of booleans or 0 and 1 shaped like the output, it is the share of answers on the right side
    of logit 0, as for `BinaryCrossEntropy`.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> float(fn.Accuracy().value(jnp.array([[2.0, 1.0], [0.0, 3.0]]), jnp.array([0, 0]), None))
        0.5
    """

    larger_is_better: ClassVar[bool] = True
    name: ClassVar[str] = "accuracy"

    def value(self, output: jax.Array, y: jax.Array, weights: jax.Array | None) -> jax.Array:
        if _is_binary(output, y):
            right = (output > 0) == (y.astype(output.dtype) > 0.5)
            return _mean(right.mean(-1, dtype=accumulation_type(output.dtype)), weights)
        return _mean((output.argmax(-1) == _classes(y, output)).astype(accumulation_type(output.dtype)), weights)


@spec
class TopK:
    """The share of examples whose class is among the k largest outputs."""

    k: int
    larger_is_better: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"{self}: k must be 1 or more.")

    @property
    def name(self) -> str:
        return f"top_{self.k}"

    def value(self, output: jax.Array, y: jax.Array, weights: jax.Array | None) -> jax.Array:
        if self.k > output.shape[-1]:
            raise ValueError(f"{self}: there are only {output.shape[-1]} outputs.")
        _, best = jax.lax.top_k(output, self.k)
        found = (best == _classes(y, output)[..., None]).any(-1)
        return _mean(found.astype(accumulation_type(output.dtype)), weights)


@spec
class MeanAbsoluteError:
    """The mean of |a - y| over examples, positions and features."""

    larger_is_better: ClassVar[bool] = False
    name: ClassVar[str] = "mean_absolute_error"

    def value(self, output: jax.Array, y: jax.Array, weights: jax.Array | None) -> jax.Array:
        return _mean(jnp.abs(output - y).mean(-1, dtype=accumulation_type(output.dtype)), weights)


@spec
class R2:
    """1 - Σ (a - y)² / Σ (y - mean y)², the mean of it over features: the share of variance explained.

    No mean over examples. A target that never varies has none to explain: NaN.
    """

    larger_is_better: ClassVar[bool] = True
    name: ClassVar[str] = "r2"

    def value(self, output: jax.Array, y: jax.Array, weights: jax.Array | None) -> jax.Array:
        wide = accumulation_type(output.dtype)
        a, y = (values.astype(wide) for values in (output, y))
        share = _shares(weights, a.shape[:-1], wide)[..., None]
        rows = tuple(range(a.ndim - 1))
        centred = y - (share * y).sum(rows, keepdims=True)
        return (1 - (share * (a - y) ** 2).sum(rows) / (share * centred**2).sum(rows)).mean()


@spec
class F1:
    """The mean over classes of 2 TP / (2 TP + FP + FN) ("macro"); with a single output, of class 1 alone.

    No mean over examples. A class that is neither in y nor read counts as 0.
    """

    larger_is_better: ClassVar[bool] = True
    name: ClassVar[str] = "f1"

    def value(self, output: jax.Array, y: jax.Array, weights: jax.Array | None) -> jax.Array:
        wide = accumulation_type(output.dtype)
        if _is_binary(output, y):
            read, true = (output > 0).astype(wide), (y.astype(wide) > 0.5).astype(wide)
        else:
            classes = output.shape[-1]
            read, true = (jax.nn.one_hot(c, classes, dtype=wide) for c in (output.argmax(-1), _classes(y, output)))
        share = _shares(weights, output.shape[:-1], wide)[..., None]
        rows = tuple(range(output.ndim - 1))
        both, either = (share * read * true).sum(rows), (share * (read + true)).sum(rows)
        return jnp.where(either > 0, 2 * both / jnp.where(either > 0, either, 1), 0).mean()


def _is_binary(output: jax.Array, y: jax.Array) -> bool:
    return y.shape == output.shape and (output.shape[-1] == 1 or not jnp.issubdtype(y.dtype, jnp.floating))


def _classes(y: jax.Array, output: jax.Array) -> jax.Array:
    return y.argmax(-1) if y.shape == output.shape else y


def _shares(weights: jax.Array | None, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """What each example (and position) counts, shaped so; they sum to 1 (to 0 where nothing counts)."""
    wide = jnp.ones(shape, dtype) if weights is None else weights.astype(dtype)
    wide = jnp.broadcast_to(wide.reshape(*wide.shape, *[1] * (len(shape) - wide.ndim)), shape)
    whole = wide.sum()
    return jnp.where(whole == 0, 0, wide / jnp.where(whole == 0, 1, whole))


def _mean(values: jax.Array, weights: jax.Array | None) -> jax.Array:
    return (_shares(weights, values.shape, values.dtype) * values).sum()
