"""Quantities beside the cost, of a whole data set at once: some are no means over examples."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from funcnet._core.arrays import as_array, instance, is_array, shown
from funcnet._core.numerics import accumulation_type, total
from funcnet._core.specs import spec
from funcnet._core.weighting import counted, for_reduction, reduced, weighted
from funcnet.losses import CrossEntropy


@runtime_checkable
class Metric(Protocol):
    """A number for the outputs of a whole data set. One of your own is a class under `funcnet.spec`.

    `name` and `larger_is_better` may be attributes of the class.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> @fn.spec
        ... class Bias:
        ...     name = "bias"
        ...     larger_is_better = False
        ...
        ...     def value(self, output, y, weights):
        ...         return jnp.mean(output - y)
        >>> net, x = fn.Dense(1, 1), jnp.array([[1.0], [3.0]])
        >>> fn.evaluate(net, fn.SquaredError(), fn.from_weights(net, [[[2.0]]]), (x, x), metrics=[Bias()])
        {'cost': 2.5, 'bias': 2.0}
    """

    @property
    def name(self) -> str:
        """The column in the history."""

    @property
    def larger_is_better(self) -> bool:
        """Which way early stopping takes for better."""

    def value(self, output: jax.Array, y: jax.Array, weights: jax.Array | None) -> jax.Array:
        """A scalar, from output and y as the loss takes them; weights as `funcnet.cost` takes them."""


@spec
class Accuracy:
    """The share of examples (and positions) whose largest output is the class y.

    y holds integer classes, or probabilities that sum to 1, whose largest is meant. With a single output, or y
    shaped like the output and of booleans, integers, or numbers that do not sum to 1 (several labels, or none), it is
    the share of answers on the right side of logit 0, as for `BinaryCrossEntropy`.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> float(fn.Accuracy().value(jnp.array([[2.0, 1.0], [0.0, 3.0]]), jnp.array([0, 0]), None))
        0.5
    """

    larger_is_better = True
    name = "accuracy"

    def value(self, output: jax.Array, y: jax.Array, weights: jax.Array | None) -> jax.Array:
        output, y, weights = _arrays(output, y, weights)
        wide = accumulation_type(output.dtype)
        if y.shape != output.shape:
            return _mean((output.argmax(-1).astype(jnp.int32) == _classes(self, output, y)).astype(wide), weights)
        answers = ((output > 0) == (y.astype(wide) > 0.5)).mean(-1, dtype=wide)
        classes = (output.argmax(-1) == y.argmax(-1)).astype(wide)
        return _mean(jnp.where(_are_answers(output, y, weights), answers, classes), weights)


@spec
class TopK:
    """The share of examples whose class is among the k largest outputs; of several labels, one or more of them.

    y as for `Accuracy`: classes, probabilities, or answers of 0 and 1.

    Args:
        k: 1 or more.

    Raises:
        ValueError: a k below 1, or, when it is computed, of more than there are outputs.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> outputs = jnp.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
        >>> float(fn.TopK(2).value(outputs, jnp.array([1, 2]), None))
        0.5
    """

    k: int
    larger_is_better = True

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"{self}: k must be 1 or more.")

    @property
    def name(self) -> str:
        return f"top_{self.k}"

    def value(self, output: jax.Array, y: jax.Array, weights: jax.Array | None) -> jax.Array:
        output, y, weights = _arrays(output, y, weights)
        if self.k > output.shape[-1]:
            raise ValueError(f"{self}: there are only {output.shape[-1]} outputs.")
        _, best = jax.lax.top_k(output, self.k)
        right = (best == _classes(self, output, y)[..., None]).any(-1)
        if y.shape == output.shape:
            labels = jnp.take_along_axis(y.astype(accumulation_type(output.dtype)) > 0.5, best, -1)
            right = jnp.where(_are_answers(output, y, weights), labels.any(-1), right)
        return _mean(right.astype(accumulation_type(output.dtype)), weights)


@spec
class MeanAbsoluteError:
    """The mean of |a - y| over examples, positions and features.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> round(float(fn.MeanAbsoluteError().value(jnp.array([[1.0], [2.0]]), jnp.array([[1.0], [3.0]]), None)), 4)
        0.5
    """

    larger_is_better = False
    name = "mean_absolute_error"

    def value(self, output: jax.Array, y: jax.Array, weights: jax.Array | None) -> jax.Array:
        output, y, weights = _arrays(output, y, weights)
        a, y = _matched(self, output, y)
        return _mean(jnp.abs(a - y).mean(-1), weights)


@spec
class R2:
    """1 - Σ (a - y)² / Σ (y - mean y)², the mean of it over features: the share of variance explained.

    No mean over examples. A target that never varies has none to explain: NaN.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> round(float(fn.R2().value(jnp.array([[1.0], [2.0]]), jnp.array([[1.0], [3.0]]), None)), 4)
        0.5
    """

    larger_is_better = True
    name = "r2"

    def value(self, output: jax.Array, y: jax.Array, weights: jax.Array | None) -> jax.Array:
        output, y, weights = _arrays(output, y, weights)
        a, y = _matched(self, output, y)
        counts = jnp.ones(a.shape[:-1], bool) if weights is None else _wide(counted(weights), a.shape[:-1])
        rows, counts = tuple(range(a.ndim - 1)), counts[..., None]
        most = jnp.max(y, rows, where=counts, initial=-jnp.inf)
        least = jnp.min(y, rows, where=counts, initial=jnp.inf)
        varies, mean = most > least, _sums(y, weights) / _sums(jnp.ones_like(y), weights)
        spread = _sums((y - jnp.expand_dims(mean, rows)) ** 2, weights)
        return jnp.where(varies, 1 - _sums((a - y) ** 2, weights) / jnp.where(varies, spread, 1), jnp.nan).mean()


@spec
class Perplexity:
    """exp of the cross-entropy per position, in nats: among how many tokens the network hesitates.

    A class of weight 0 has no share, as in the cost; of a network that guesses it is the vocabulary's size.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> round(float(fn.Perplexity().value(jnp.zeros((2, 3, 5)), jnp.zeros((2, 3), int), None)), 4)
        5.0
    """

    larger_is_better = False
    name = "perplexity"

    def value(self, output: jax.Array, y: jax.Array, weights: jax.Array | None) -> jax.Array:
        output, y, weights = _arrays(output, y, weights)
        return jnp.exp(_mean(CrossEntropy().value(output, y), weights))


@spec
class F1:
    """The mean over classes of 2 TP / (2 TP + FP + FN) ("macro"); with a single output, of class 1 alone.

    No mean over examples. A class that is neither in y nor read counts as 0.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> outputs = jnp.array([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0]])  # read as 0, 1, 0
        >>> round(float(fn.F1().value(outputs, jnp.array([0, 1, 1]), None)), 4)
        0.6667
    """

    larger_is_better = True
    name = "f1"

    def value(self, output: jax.Array, y: jax.Array, weights: jax.Array | None) -> jax.Array:
        output, y, weights = _arrays(output, y, weights)
        wide = accumulation_type(output.dtype)
        classes = output.argmax(-1), _classes(self, output, y)
        read, true = (jax.nn.one_hot(c, output.shape[-1], dtype=wide) for c in classes)
        if y.shape == output.shape:
            answers = _are_answers(output, y, weights)
            read = jnp.where(answers, (output > 0).astype(wide), read)
            true = jnp.where(answers, (y.astype(wide) > 0.5).astype(wide), true)
        both, either = _sums(read * true, weights), _sums(read + true, weights)
        return jnp.where(either > 0, 2 * both / jnp.where(either > 0, either, 1), 0).mean()


def check_metrics(metrics: Any) -> tuple[Metric, ...]:
    """Metrics whose names are all different, and not that of the cost."""
    if metrics is None:
        return ()
    if isinstance(metrics, Metric) and not isinstance(metrics, type):
        raise TypeError(f"metrics: expected a list, got one metric alone. Write metrics=[{metrics}].")
    if isinstance(metrics, str | bytes | Mapping) or is_array(metrics) or not isinstance(metrics, Iterable):
        raise TypeError(f"metrics: expected a list, such as [Accuracy()], got {shown(metrics)}.")
    metrics = tuple(metrics)
    for metric in metrics:
        if isinstance(metric, type) or not isinstance(metric, Metric):
            raise TypeError(f"metrics: expected such as Accuracy(), got {shown(metric)}.{instance(metric)}")
    columns = ["cost", *(metric.name for metric in metrics)]
    if repeated := [name for name in columns if columns.count(name) > 1]:
        raise ValueError(
            f"metrics: two columns would be called {repeated[0]!r}, and one would be lost. Give a metric of your own "
            "another name."
        )
    return metrics


def _arrays(output: Any, y: Any, weights: Any) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    output, y = as_array("output", output), as_array("y", y)
    if not output.ndim:
        raise ValueError(f"output: expected (m, *positions, outputs), got shape {output.shape}.")
    weights = None if weights is None else as_array("weights", weights)
    if weights is not None and weights.shape not in (output.shape[:1], output.shape[:-1]):
        raise ValueError(f"weights: expected shape {output.shape[:1]} or {output.shape[:-1]}, got {weights.shape}.")
    return output, y, weights


def _are_answers(output: jax.Array, y: jax.Array, weights: jax.Array | None) -> bool | jax.Array:
    """Whether each output is a question of its own, answered by y: else y holds the probabilities of classes."""
    if output.shape[-1] == 1 or not jnp.issubdtype(y.dtype, jnp.floating):
        return True
    off = jnp.abs(y.sum(-1, dtype=accumulation_type(y.dtype)) - 1) > 1e-2
    return off.any() if weights is None else (off & _wide(counted(weights), off.shape)).any()


def _classes(metric: Metric, output: jax.Array, y: jax.Array) -> jax.Array:
    """The class of every example (and position), counted wide enough for all that there are."""
    if y.shape == output.shape:
        return y.argmax(-1).astype(jnp.int32)
    if y.shape != output.shape[:-1] or output.shape[-1] == 1 or not jnp.issubdtype(y.dtype, jnp.integer):
        remedy = f" For a single output use y[..., None], shaped {output.shape}." if output.shape[-1] == 1 else ""
        raise ValueError(
            f"{metric}: expected integer classes shaped {output.shape[:-1]} or probabilities shaped {output.shape}, "
            f"got y of {y.dtype} shaped {y.shape} for an output shaped {output.shape}.{remedy}"
        )
    return y.astype(jnp.int32)


def _matched(metric: Metric, output: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Output and target in the accumulation type, if their shapes are equal: they are never broadcast."""
    if output.shape != y.shape:
        raise ValueError(
            f"{metric}: expected y shaped like the output, {output.shape}, got {y.shape}. For one feature use "
            "y[..., None]."
        )
    wide = accumulation_type(output.dtype)
    return output.astype(wide), y.astype(wide)


def _wide(weights: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """A weight for each example and position."""
    return jnp.broadcast_to(weights.reshape(*weights.shape, *[1] * (len(shape) - weights.ndim)), shape)


def _sums(values: jax.Array, weights: jax.Array | None) -> jax.Array:
    """Σ over examples (and positions) of each feature, by their weights."""
    weights = for_reduction(weights, "mean")
    return total(weighted(values, weights), tuple(range(values.ndim - 1)))


def _mean(values: jax.Array, weights: jax.Array | None) -> jax.Array:
    return reduced(values, weights, "mean")
