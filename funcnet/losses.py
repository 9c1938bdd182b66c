"""Costs of an output against its target, each with its derivative beside it.

`value` gives the cost of every example and position, summed over the last axis, in float32 or
better; `delta` gives its derivative with respect to the output, shaped and typed like the output.

For curvature a loss may have two more. `hessian_columns(output, y=None)` gives the columns s_c of a
square root of the second derivative with respect to the output, Σ_c s_c s_cᵀ = ∂²(cost)/∂output²,
stacked in front: (C, m, *positions, C). `sample(key, output)` draws targets as the model predicts
them, so that E[δ δᵀ] over the draws is that second derivative.

`formula` is what a page and a worksheet print of it: the cost of one output and its derivative, in a, the
output, y, its target, p, its probability, and C, how many outputs there are. `class_formula` is the
cost where the target is a class, in the p of that class alone.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from funcnet._core.arrays import as_array, shown
from funcnet._core.numerics import accumulation_type, total
from funcnet._core.specs import spec


@spec
class SquaredError:
    """½ Σ_k (a_k - y_k)². Its derivative is a - y.

    The ½ is the texts' and makes the derivative plain; for the mean squared error over n features
    multiply by 2/n.

    Raises:
        ValueError: output and target of other shapes.
        TypeError: a target of another type than the output.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> fn.SquaredError().value(jnp.array([[1.0, 2.0]]), jnp.array([[0.0, 4.0]])).tolist()
        [2.5]
    """

    formula: ClassVar[tuple[str, str]] = ("½ (a - y)²", "a - y")

    def value(self, output: jax.Array, y: jax.Array) -> jax.Array:
        return _over_features(optax.losses.l2_loss(*_matched(self, output, y)))

    def delta(self, output: jax.Array, y: jax.Array) -> jax.Array:
        a, y = _matched(self, output, y)
        return (a - y).astype(output.dtype)

    def hessian_columns(self, output: jax.Array, y: jax.Array | None = None) -> jax.Array:
        return _diagonal(jnp.ones_like(output))

    def sample(self, key: jax.Array, output: jax.Array) -> jax.Array:
        return output + jax.random.normal(key, output.shape, output.dtype)


@spec
class AbsoluteError:
    """Σ_k |a_k - y_k|. Its derivative is the sign of a - y, and 0 at 0.

    Its second derivative is 0 wherever there is one, so it has no Gauss-Newton matrix.

    Raises:
        ValueError: output and target of other shapes.
        TypeError: a target of another type than the output.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> a, y = jnp.array([[1.0, 2.0]]), jnp.array([[0.5, 4.0]])
        >>> costs, delta = fn.AbsoluteError().value(a, y), fn.AbsoluteError().delta(a, y)
        >>> print(*(f"{number:.3f}" for number in (*costs, *delta[0])))
        2.500 1.000 -1.000
    """

    formula: ClassVar[tuple[str, str]] = ("|a - y|", "sign(a - y)")

    def value(self, output: jax.Array, y: jax.Array) -> jax.Array:
        a, y = _matched(self, output, y)
        return _over_features(jnp.abs(a - y))

    def delta(self, output: jax.Array, y: jax.Array) -> jax.Array:
        a, y = _matched(self, output, y)
        return jnp.sign(a - y).astype(output.dtype)


@spec
class Huber:
    """½ e² where |e| = |a - y| ≤ threshold, threshold (|e| - ½ threshold) beyond (Huber, 1964).

    Its derivative is e, clipped to ±threshold; its second is 1 up to the threshold and 0 beyond.

    Args:
        threshold: above 0.

    Raises:
        ValueError: output and target of other shapes; a threshold that is not above 0.
        TypeError: a target of another type than the output.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> a, y = jnp.array([[1.0, 2.0]]), jnp.array([[0.5, 4.0]])
        >>> costs, delta = fn.Huber().value(a, y), fn.Huber().delta(a, y)
        >>> print(*(f"{number:.3f}" for number in (*costs, *delta[0])))
        1.625 0.500 -1.000
    """

    threshold: float = 1.0

    def __post_init__(self) -> None:
        if self.threshold <= 0:
            raise ValueError(f"{self}: threshold must be positive.")

    @property
    def formula(self) -> tuple[str, str]:
        t = f"{self.threshold:g}"
        factor = "" if self.threshold == 1 else f"{t} "
        return f"½ min(|a - y|, {t})² + {factor}max(|a - y| - {t}, 0)", f"max(-{t}, min(a - y, {t}))"

    def value(self, output: jax.Array, y: jax.Array) -> jax.Array:
        return _over_features(optax.losses.huber_loss(*_matched(self, output, y), delta=self.threshold))

    def delta(self, output: jax.Array, y: jax.Array) -> jax.Array:
        a, y = _matched(self, output, y)
        return jnp.clip(a - y, -self.threshold, self.threshold).astype(output.dtype)

    def hessian_columns(self, output: jax.Array, y: jax.Array | None = None) -> jax.Array:
        a, y = _matched(self, output, _needed(self, y))
        return _diagonal((jnp.abs(a - y) <= self.threshold).astype(output.dtype))


@spec
class LogCosh:
    """Σ_k log cosh(a_k - y_k): ½ e² near 0, |e| - log 2 far away.

    Its derivative is tanh(a - y), its second 1 / cosh²(a - y).

    Raises:
        ValueError: output and target of other shapes.
        TypeError: a target of another type than the output.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> a, y = jnp.array([[1.0, 2.0]]), jnp.array([[0.5, 4.0]])
        >>> costs, delta = fn.LogCosh().value(a, y), fn.LogCosh().delta(a, y)
        >>> print(*(f"{number:.3f}" for number in (*costs, *delta[0])))
        1.445 0.462 -0.964
    """

    formula: ClassVar[tuple[str, str]] = ("log(cosh(a - y))", "tanh(a - y)")

    def value(self, output: jax.Array, y: jax.Array) -> jax.Array:
        a, y = _matched(self, output, y)
        near = jnp.abs(a - y) < 1
        squares = jnp.square(jnp.sinh(jnp.where(near, a - y, 0)))  # cosh² - 1: near 0 the other form has no digits
        return _over_features(jnp.where(near, jnp.log1p(squares) / 2, optax.losses.log_cosh(a, y)))

    def delta(self, output: jax.Array, y: jax.Array) -> jax.Array:
        a, y = _matched(self, output, y)
        return jnp.tanh(a - y).astype(output.dtype)

    def hessian_columns(self, output: jax.Array, y: jax.Array | None = None) -> jax.Array:
        a, y = _matched(self, output, _needed(self, y))
        return _diagonal((1 / jnp.cosh(a - y)).astype(output.dtype))


@spec
class CrossEntropy:
    """-Σ_k q_k log softmax(a)_k, from logits a. Its derivative is softmax(a) Σ_k q_k - q.

    The target is the class, an integer in 0 … C-1 shaped (m, *positions), or probabilities q
    shaped like the logits. Smoothing s mixes the target with the uniform one, (1 - s) q + s/C
    (Szegedy et al., 2016). Exact in float32 for logits of ±1e4, since the largest logit is
    subtracted before anything else.

    Under `jit` targets cannot be seen, so a class outside 0 … C-1, or probabilities that do not sum
    to 1, cannot be refused: they make that example's cost and derivative NaN, never a plausible number.

    Args:
        label_smoothing: s, 0 ≤ s < 1.

    Raises:
        ValueError: shapes that do not fit, labels out of range, probabilities that do not sum to 1.
        TypeError: targets of the wrong kind.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> logits = jnp.array([[0.0, 0.0], [1e4, -1e4]])
        >>> fn.CrossEntropy().value(logits, jnp.array([0, 1])).tolist()
        [0.6931471824645996, 20000.0]
    """

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"{self}: label_smoothing must be at least 0 and below 1.")

    @property
    def formula(self) -> tuple[str, str]:
        s = self.label_smoothing
        q = f"({1 - s:g} y + {s:g} / C)" if s else "y"
        return f"-{q} log(p) with p = softmax(a)", f"p - {q}"

    @property
    def class_formula(self) -> str | None:
        return None if self.label_smoothing else "-log(p)"

    def value(self, output: jax.Array, y: jax.Array) -> jax.Array:
        logits, q, _ = self._targets(output, y)
        if q.shape == logits.shape:
            return -_over_features(_times(q, jax.nn.log_softmax(logits)))
        # Of a class, one number is read of each row: no array of targets beside the logits.
        s, exist, log_p = self.label_smoothing, _are_classes(q, logits), jax.nn.log_softmax(logits)
        own = jnp.take_along_axis(log_p, jnp.expand_dims(jnp.where(exist, q, 0), -1), -1)[..., 0]
        costs = jnp.where(exist, -own, jnp.nan)
        return (1 - s) * costs - _over_features(log_p) * s / logits.shape[-1] if s else costs

    def delta(self, output: jax.Array, y: jax.Array) -> jax.Array:
        output = _logits(output)
        logits, q, mass = self._targets(output, y)
        p = jax.nn.softmax(logits)
        if q.shape == logits.shape:
            return (p * mass - q).astype(output.dtype)
        s = self.label_smoothing / logits.shape[-1]
        here = lax.broadcasted_iota(q.dtype, logits.shape, logits.ndim - 1) == jnp.expand_dims(q, -1)
        delta = p - jnp.where(here, 1 - self.label_smoothing + s, s).astype(logits.dtype)
        return jnp.where(jnp.expand_dims(_are_classes(q, logits), -1), delta, jnp.nan).astype(output.dtype)

    def probabilities(self, output: jax.Array) -> jax.Array:
        """The classes' probabilities, softmax(a): what `predict` gives, read as this loss reads it."""
        return jax.nn.softmax(_below_infinity(_logits(output)))

    def hessian_columns(self, output: jax.Array, y: jax.Array | None = None) -> jax.Array:
        # diag(p) - p pᵀ = Σ_c p_c (e_c - p)(e_c - p)ᵀ
        p = jax.nn.softmax(_below_infinity(output.astype(accumulation_type(output.dtype))))
        root = jnp.sqrt(p if y is None else p * self._targets(output, y)[2])
        return (jnp.expand_dims(jnp.moveaxis(root, -1, 0), -1) * (_unit_columns(p) - p[None])).astype(output.dtype)

    def sample(self, key: jax.Array, output: jax.Array) -> jax.Array:
        if self.label_smoothing:
            raise ValueError(
                f"{self}: with smoothed targets no class drawn from the model has the second derivative as the "
                "second moment of its delta. Use CrossEntropy() here: smoothing does not change the second derivative."
            )
        return jax.random.categorical(key, output.astype(accumulation_type(output.dtype)))

    def _targets(self, output: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array, float | jax.Array]:
        """Logits in the accumulation type, the classes or their (smoothed) probabilities, and the sum of these."""
        mass: float | jax.Array = 1.0
        output = _logits(output)
        given, y = y, as_array("y", y)
        classes, s = output.shape[-1], self.label_smoothing
        if classes == 1:
            raise ValueError(
                f"{self}: expected an output for each class, two or more, got output of shape {output.shape}, whose "
                "softmax is 1 whatever it is. For yes or no use BinaryCrossEntropy(), with y shaped like the output."
            )
        logits = _below_infinity(output.astype(accumulation_type(output.dtype)))
        if jnp.issubdtype(y.dtype, jnp.integer):
            if y.shape != output.shape[:-1]:
                raise ValueError(_class_message(self, output, y, f"integer classes shaped {output.shape[:-1]}"))
            _refuse(self, given, lambda y: (y < 0) | (y >= classes), f"classes must be 0 … {classes - 1}")
            # What counts the classes must hold their number.
            return logits, y.astype(jnp.int32) if y.dtype.itemsize < 4 else y, mass
        if y.dtype == output.dtype:
            if y.shape != output.shape:
                raise ValueError(_class_message(self, output, y, f"probabilities shaped {output.shape}"))
            q = y.astype(logits.dtype)
            mass = (1 - s) * total(q, (q.ndim - 1,), keepdims=True) + s

            def wrong(q: Any) -> Any:
                return (q < 0).any(-1) | ~(abs(q.sum(-1) - 1) <= 1e-2)

            rule = "probabilities must be 0 or more and sum to 1"
            _refuse(self, given, lambda q: wrong(q.astype(float)), rule)
            q = jnp.where(jnp.expand_dims(wrong(q), -1), jnp.nan, q)
        else:
            raise TypeError(_class_message(self, output, y, f"integer classes or {output.dtype} probabilities as y"))
        return logits, (1 - s) * q + s / classes if s else q, mass


@spec
class BinaryCrossEntropy:
    """Σ_k -y_k log σ(a_k) - (1 - y_k) log(1 - σ(a_k)), from logits a. Its derivative is σ(a) - y.

    Each feature is a question of its own, answered yes (1), no (0) or by a probability; y is
    shaped like the logits and may be boolean or integer. A y outside 0 … 1 is refused where it
    can be seen, and under `jit` makes that cost and derivative NaN.

    With positive weights w a yes that is missed costs w_k times as much: Σ_k -w_k y_k log σ(a_k) - …, whose derivative
    is σ(a) (1 - y) - w y (1 - σ(a)). For answers that are rarely yes, (how many no) / (how many yes) makes both weigh
    alike.

    Args:
        positive_weight: w, above 0: one number, or one for each output.

    Raises:
        ValueError: shapes that do not fit, a target outside 0 … 1, a weight not above 0.
        TypeError: targets of the wrong kind.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> loss = fn.BinaryCrossEntropy(positive_weight=3.0)
        >>> [round(cost, 4) for cost in loss.value(jnp.zeros((2, 1)), jnp.array([[1.0], [0.0]])).tolist()]
        [2.0794, 0.6931]
    """

    positive_weight: float | tuple[float, ...] = 1.0

    def __post_init__(self) -> None:
        weights = self.positive_weight if isinstance(self.positive_weight, tuple) else (self.positive_weight,)
        if not weights or min(weights) <= 0:
            raise ValueError(f"{self}: positive_weight must be above 0.")

    @property
    def formula(self) -> tuple[str, str] | None:
        w = self.positive_weight
        if isinstance(w, tuple):
            return None
        if w == 1:
            return "-y log(p) - (1 - y) log(1 - p) with p = σ(a)", "p - y"
        return f"-{w:g} y log(p) - (1 - y) log(1 - p) with p = σ(a)", f"p (1 - y) - {w:g} y (1 - p)"

    def value(self, output: jax.Array, y: jax.Array) -> jax.Array:
        logits, q = self._targets(output, y)
        yes, no = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
        return -_over_features(_times(self._weights(q) * q, yes) + _times(1 - q, no))

    def delta(self, output: jax.Array, y: jax.Array) -> jax.Array:
        logits, q = self._targets(output, y)
        p = jax.nn.sigmoid(logits)
        if self.positive_weight == 1:
            return (p - q).astype(output.dtype)
        return (p * (1 - q) - self._weights(q) * q * jax.nn.sigmoid(-logits)).astype(output.dtype)

    def probabilities(self, output: jax.Array) -> jax.Array:
        """The probabilities of yes, σ(a): what `predict` gives, read as this loss reads it."""
        return jax.nn.sigmoid(_logits(output))

    def hessian_columns(self, output: jax.Array, y: jax.Array | None = None) -> jax.Array:
        logits = output.astype(accumulation_type(output.dtype))
        second = jax.nn.sigmoid(logits) * jax.nn.sigmoid(-logits)
        if self.positive_weight != 1:
            _, q = self._targets(output, _needed(self, y))
            second = second * (self._weights(q) * q + 1 - q)
        return _diagonal(jnp.sqrt(second).astype(output.dtype))

    def sample(self, key: jax.Array, output: jax.Array) -> jax.Array:
        if self.positive_weight != 1:
            raise ValueError(
                f"{self}: with positive weights no answer drawn from the model has the second derivative as the second "
                "moment of its delta. Use kind 'exact' with y, or 'empirical'."
            )
        chance = jax.nn.sigmoid(output.astype(accumulation_type(output.dtype)))
        return jax.random.bernoulli(key, chance).astype(output.dtype)

    def _targets(self, output: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        output, given, y = _logits(output), y, as_array("y", y)
        if y.shape != output.shape:
            raise ValueError(_shape_message(self, output, y, f"y shaped like the output, {output.shape}"))
        if jnp.issubdtype(y.dtype, jnp.integer) or y.dtype == bool:
            y = y.astype(output.dtype)
        logits, q = _matched(self, output, y)
        _refuse(self, given, lambda q: (q < 0) | (q > 1), "targets must lie in 0 … 1")
        return logits, jnp.where((q < 0) | (q > 1), jnp.nan, q)

    def _weights(self, q: jax.Array) -> float | jax.Array:
        if not isinstance(self.positive_weight, tuple):
            return self.positive_weight
        if len(self.positive_weight) != q.shape[-1]:
            raise ValueError(
                f"{self}: there are {len(self.positive_weight)} positive weights for {q.shape[-1]} outputs. Give one "
                "number, or one for each output."
            )
        return jax.lax.broadcast(jnp.asarray(self.positive_weight, q.dtype), q.shape[:-1])


def _logits(output: Any) -> jax.Array:
    """A network's output, which a softmax or a sigmoid is taken of."""
    output = as_array("output", output)
    if not output.ndim or not jnp.issubdtype(output.dtype, jnp.floating):
        raise TypeError(
            f"output: expected logits (m, *positions, outputs), got shape {output.shape} of {output.dtype}."
        )
    return output


def _are_classes(y: jax.Array, logits: jax.Array) -> jax.Array:
    return (y >= 0) & (y < logits.shape[-1])


def _times(q: jax.Array, logarithms: jax.Array) -> jax.Array:
    """q log p, and 0 where q is 0 and p may be, too."""
    return jnp.where(q == 0, 0, q * jnp.where(q == 0, 0, logarithms))


def _below_infinity(logits: jax.Array) -> jax.Array:
    """Logits of which the largest may be subtracted: an infinite one takes all probability."""
    return jnp.minimum(logits, np.asarray(jnp.finfo(logits.dtype).max, logits.dtype))


def _unit_columns(like: jax.Array) -> jax.Array:
    """The unit vectors e_c in front: (C, 1, …, 1, C)."""
    C = like.shape[-1]
    return jnp.eye(C, dtype=like.dtype).reshape(C, *[1] * (like.ndim - 1), C)


def _diagonal(root: jax.Array) -> jax.Array:
    """The columns of a diagonal matrix, given its diagonal (m, *positions, C)."""
    return _unit_columns(root) * root[None]


def _needed(loss: Any, y: jax.Array | None) -> jax.Array:
    if y is None:
        raise ValueError(f"{loss}: its second derivative depends on the target. Give y (or use kind 'empirical').")
    return y


def _over_features(costs: jax.Array) -> jax.Array:
    return jnp.sum(costs, axis=-1)


def _matched(loss: Any, output: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Output and target in the accumulation type, if they fit each other."""
    output, y = as_array("output", output), as_array("y", y)
    if not output.ndim:
        raise ValueError(f"{loss}: output: expected (m, *positions, features), got {shown(output)}.")
    if output.shape != y.shape:
        raise ValueError(_shape_message(loss, output, y, f"y shaped like the output, {output.shape}"))
    if output.dtype != y.dtype:
        raise TypeError(
            f"{loss}: the output is {output.dtype} but y is {y.dtype}. Use y.astype({output.dtype.name!r})."
        )
    wide = accumulation_type(output.dtype)
    return output.astype(wide), y.astype(wide)


def _shape_message(loss: Any, output: jax.Array, y: jax.Array, expected: str) -> str:
    remedy, outputs = "Check the size of the last layer and the targets.", output.shape[-1]
    if y.shape in (output.shape[:-1], (*output.shape[:-1], 1)) and outputs > 1:
        remedy = f"There is one target for {outputs} outputs: end in Dense(…, 1), or give {outputs} targets."
        if jnp.issubdtype(y.dtype, jnp.integer) or y.dtype == bool:
            remedy += " If y holds classes, use CrossEntropy()."
    elif y.shape == output.shape[:-1]:
        remedy = "Use y[..., None]."
    elif y.ndim < output.ndim - 1 and y.shape[:1] == output.shape[:1]:
        remedy = "For one output an example put Flatten(), or GlobalAveragePool(), before the last Dense."
    return f"{loss}: expected {expected}, got y shaped {y.shape} for an output shaped {output.shape}. {remedy}"


def _class_message(loss: Any, output: jax.Array, y: jax.Array, expected: str) -> str:
    """What is wrong with targets that are neither classes nor probabilities, with what makes them so."""
    whole = jnp.issubdtype(y.dtype, jnp.integer)
    to_classes = "" if whole else ".astype(int)"
    if not whole and not isinstance(y, jax.core.Tracer) and (np.asarray(y) % 1 != 0).any():
        to_classes = ".astype(int) for classes, which are whole numbers (for others use SquaredError())"
    if y.shape == output.shape[:-1]:
        remedy = f"Use y{to_classes}."
    elif y.shape == (*output.shape[:-1], 1):
        remedy = f"Use y[..., 0]{to_classes}."
    elif y.shape == output.shape and (whole or y.dtype == bool):
        remedy = "If each row has one 1, use y.argmax(-1); if it may have several, BinaryCrossEntropy()."
    elif y.shape == output.shape:
        remedy = f"Use y.astype({output.dtype.name!r})."
    else:
        return _shape_message(loss, output, y, expected)
    got = f"y of {y.dtype} shaped {y.shape} for an output shaped {output.shape}"
    return f"{loss}: expected {expected}, got {got}. {remedy}"


def _refuse(loss: Any, y: Any, wrong: Callable[[np.ndarray], np.ndarray], rule: str) -> None:
    """Name the first wrong target, where targets can be seen (not those that jit passes in)."""
    if isinstance(y, jax.core.Tracer):
        return
    targets = np.asarray(y)
    if (refused := wrong(targets)).any():
        first = tuple(int(i) for i in np.argwhere(refused)[0])
        raise ValueError(f"{loss}: {rule}, but y[{', '.join(map(str, first))}] is {targets[first]}.")
