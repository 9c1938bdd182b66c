"""What every public function checks of its arguments, before anything is computed or compiled."""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core import walkers
from funcnet._core.context import Context
from funcnet._core.keys import typed
from funcnet._core.protocols import AnyLayer, Loss, Params, Penalty, missing_functions
from funcnet._core.specs import is_spec
from funcnet._core.weighting import counted, replaced


class Batch(NamedTuple):
    """Checked arguments, as JAX's arrays. What has weight 0 is taken out of `x` and `y`."""

    params: Params
    x: jax.Array
    y: jax.Array
    weights: jax.Array | None
    key: jax.Array | None
    segments: jax.Array | None = None


def unpacked(x: Any) -> tuple[Any, jax.Array | None]:
    """x and the segments of its positions, of a pair (x, segment_ids), integers (m, T); else x, which has none."""
    if not (isinstance(x, tuple) and len(x) == 2 and np.ndim(x[0] if hasattr(x[0], "shape") else ()) > 1):
        return x, None
    own, segments = x[0], as_array("segment_ids", x[1])
    tokens, integers = (jnp.issubdtype(part.dtype, jnp.integer) for part in (own, segments))
    if segments.shape == np.shape(own) and not (segments.ndim == 2 and (tokens or integers)):
        return x, None  # two examples
    if np.shape(own)[:2] != segments.shape or np.ndim(own) > 3 or not integers:
        raise ValueError(
            f"segment_ids: expected integers (m, T), one for each position of x, got {shown(segments)} beside x of "
            f"shape {np.shape(own)}."
        )
    return own, segments


def checked_input(net: AnyLayer, params: Params, x: Any, key: Any = None) -> tuple[Params, jax.Array, jax.Array | None]:
    """Parameters and x as arrays and the key as a typed one, if they and the network fit together."""
    check_layer_functions(net)
    if unpacked(x)[1] is not None:
        raise TypeError(
            "x: segment_ids are taken by predict, forward, cost, value_and_grad, backprop, check_gradients, curvature, "
            "evaluate and trainings alone. Give x without them here."
        )
    params, x = jax.tree.map(jnp.asarray, params), as_array("x", x)
    if x.ndim < (1 if jnp.issubdtype(x.dtype, jnp.integer) else 2):
        raise ValueError(
            f"x: expected (m, *positions, features), got shape {x.shape}. "
            "Use x[None] for one example, x[:, None] for one feature."
        )
    check_params(net, params, x.dtype)
    _refuse_unknown(net, x)
    return params, x, None if key is None else _checked_key(net, key, len(x))


def checked_batch(
    net: AnyLayer,
    loss: Loss,
    params: Params,
    x: Any,
    y: Any,
    weights: Any = None,
    key: Any = None,
    segments: jax.Array | None = None,
) -> Batch:
    """All that a cost is computed from, checked; what may not count is taken out."""
    params, x, key = checked_input(net, params, x, key)
    check_loss(loss)
    y = as_array("y", y)
    if y.shape[:1] != x.shape[:1]:
        raise ValueError(
            f"x has {len(x)} examples (shape {x.shape}) but y has shape {y.shape}. Their first axes must be equal: "
            "check that both come from the same split, in the order x, y."
        )
    kind = next((p.dtype for p in jax.tree.leaves(params)), x.dtype)
    output = _output_struct(net, x.shape, x.dtype, kind, segments is not None)
    if weights is not None:
        weights = _checked_weights(weights, output.shape[:-1])
        x, y, segments = _taken_out(weights, x, y, segments, getattr(net, "by_position", False))
    refuse_non_finite("x", x)
    refuse_non_finite("y", y)
    jax.eval_shape(lambda a: loss.value(a, y), output)
    return Batch(params, x, y, weights, key, segments)


def pair(name: str, data: Any, expected: str = "a pair (x, y)") -> tuple[Any, Any]:
    """x and y of what should be both."""
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        got = f"{len(data)} parts" if isinstance(data, (tuple, list)) else shown(data)
        raise TypeError(f"{name}: expected {expected}, got {got}.")
    return data[0], data[1]


def checked_validation(net: AnyLayer, loss: Loss, params: Params, x: Any, y: Any, weights: Any = None) -> Batch:
    """`checked_batch` of one validation example or more; its errors name validation."""
    try:
        batch = checked_batch(net, loss, params, x, y, weights)
    except (TypeError, ValueError) as error:
        raise type(error)(f"validation: {error}") from error
    if not len(batch.x):
        raise ValueError(
            f"validation: expected an example or more, got shape {batch.x.shape}. Give some, or leave it out."
        )
    return batch


def check_loss(loss: Any) -> None:
    for name in ("value", "delta"):
        if isinstance(loss, type) or not callable(getattr(loss, name, None)):
            raise TypeError(
                f"loss: expected a loss such as SquaredError(), got {loss!r}, which lacks {name}(output, y)."
            )
    if not is_spec(loss):
        raise TypeError(f"loss: {type(loss).__name__} is not a spec. Put @fn.spec on the class.")


def refuse_mixing(net: AnyLayer) -> None:
    """Refuse a layer whose output for one example depends on the others: nothing is one example's there."""
    for _, layer in walkers.leaves(net):
        if getattr(layer, "mixes_examples", False):
            raise ValueError(
                f"net: {layer} mixes examples, so no gradient belongs to one of them. Use a layer that "
                "treats every example alone, such as LayerNorm."
            )


def as_array(name: str, values: Any) -> jax.Array:
    """Real values as JAX's array; integers that JAX's integers cannot hold are refused, not wrapped."""
    array = jnp.asarray(values)
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise TypeError(f"{name}: expected real numbers, got {array.dtype}.")
    narrowed = isinstance(values, np.ndarray) and array.dtype != values.dtype
    if narrowed and jnp.issubdtype(array.dtype, jnp.integer) and (values.astype(array.dtype) != values).any():
        raise ValueError(f"{name}: holds integers beyond {array.dtype}. Use smaller ones, or enable jax_enable_x64.")
    return array


def check_layer_functions(layer: object, name: str = "net") -> None:
    """Refuse a value that is not a layer, naming the functions it lacks."""
    lacking = missing_functions(layer)
    if isinstance(layer, type) or lacking:
        what = f"the class {layer.__name__}" if isinstance(layer, type) else repr(layer)
        missing = f", which lacks {', '.join(lacking)}" if lacking else ""
        raise TypeError(
            f"{name}: expected a layer such as Chain(...), got {what}{missing}. A layer is an instance with init, "
            "forward, backward and gradient (a combinator: contract instead of gradient)."
        )
    if not is_spec(layer):
        raise TypeError(f"{name}: {type(layer).__name__} is not a spec. Put @fn.spec on the class.")


def check_params(net: AnyLayer, params: Params, x_dtype: Any) -> None:
    """Refuse parameters that are not this network's, or of another type than x (None: whatever their type)."""
    expected, given = dict(walkers.named_params(params_struct(net))), dict(walkers.named_params(params))
    remedy = f"Parameters of {net} come from fn.init(net, key)."
    if missing := [name for name in expected if name not in given]:
        raise ValueError(f"params: {missing[0]} is missing. {remedy}")
    if extra := [name for name in given if name not in expected]:
        raise ValueError(f"params: {extra[0]} is not a parameter of this network. {remedy}")
    for name, leaf in given.items():
        if np.shape(leaf) != expected[name].shape:
            raise ValueError(f"params: {name} has shape {np.shape(leaf)}, expected {expected[name].shape}. {remedy}")
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(f"params: {name} is {dtype}, expected a floating type.")
        if x_dtype is not None and jnp.issubdtype(x_dtype, jnp.floating) and dtype != x_dtype:
            raise TypeError(
                f"params: {name} is {dtype} but x is {x_dtype}. Use one type: x.astype({dtype.name!r}), or "
                f"jax.tree.map(lambda leaf: leaf.astype({x_dtype.name!r}), params)."
            )
    wanted, got = str(jax.tree.structure(params_struct(net))), str(jax.tree.structure(params))
    if wanted != got:
        raise ValueError(f"params: expected the structure {wanted}, got {got}. {remedy}")


def check_features(layer: object, x: jax.Array, w: jax.Array, features: int) -> None:
    """Refuse inputs of another size or type than a layer's parameters want."""
    if x.shape[-1] != features and x.ndim > 2 and x.shape[1] == features:
        order = (0, *range(2, x.ndim), 1)
        raise ValueError(
            f"{layer}: expected inputs with {features} features on the last axis, got shape {x.shape}. There they "
            f"stand second: use x.transpose({order})."
        )
    if x.shape[-1] != features:
        raise ValueError(
            f"{layer}: expected inputs with {features} features on the last axis, got shape {x.shape}. "
            f"Check the previous layer's size, or make this one {type(layer).__name__}({x.shape[-1]}, …)."
        )
    if x.dtype != w.dtype:
        raise TypeError(
            f"{layer}: the inputs are {x.dtype} but the parameters {w.dtype}. Use x.astype({w.dtype.name!r})."
        )


def draws(net: AnyLayer) -> bool:
    """Whether a layer of this network uses a key."""
    layers = [layer for _, layer in walkers.leaves(net)]
    return any(getattr(layer, "draws", False) or "key" in (getattr(layer, "takes", None) or ()) for layer in layers)


def refuse_non_finite(name: str, values: jax.Array) -> None:
    """Name the first entry that is not finite, where values can be seen (not under jit)."""
    if isinstance(values, jax.core.Tracer) or not jnp.issubdtype(values.dtype, jnp.inexact):
        return
    finite = np.isfinite(np.asarray(values))
    if not finite.all():
        first = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(
            f"{name}[{', '.join(map(str, first))}] is {np.asarray(values)[first]}. Remove such examples, "
            "fill them in, or give them weight 0."
        )


@lru_cache(maxsize=1024)
def params_struct(net: Any) -> Params:
    """Shapes and types of a network's parameters."""
    return jax.eval_shape(lambda: net.init(jax.random.key(0)))


@lru_cache(maxsize=1024)
def _output_struct(net: Any, shape: tuple[int, ...], dtype: Any, params_dtype: Any, has_segments: bool = False) -> Any:
    params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, params_dtype), params_struct(net))
    segments = jax.ShapeDtypeStruct(shape[:2], jnp.int32) if has_segments else None
    return jax.eval_shape(
        lambda p, x, segments: walkers.layer_forward(net, p, x, Context(None, segments))[0],
        params,
        jax.ShapeDtypeStruct(shape, dtype),
        segments,
    )


def input_type(net: AnyLayer, params: Params, x: Any) -> Any:
    """The type in which x is propagated if it stays on the host: the parameters', if its own is narrower or refused."""
    own, kinds = jax.dtypes.canonicalize_dtype(x.dtype), [leaf.dtype for leaf in jax.tree.leaves(params)]
    if not kinds:
        return own
    if jnp.issubdtype(own, jnp.floating):
        return kinds[0] if own.itemsize < kinds[0].itemsize else own
    try:
        _output_struct(net, (1, *x.shape[1:]), own, kinds[0])
    except TypeError:
        return kinds[0]
    return own


def one_key(name: str, key: Any) -> jax.Array:
    """A single key of either kind, as JAX's typed one."""
    if not is_key(key) or typed(key).ndim:
        raise TypeError(f"{name}: expected one key, jax.random.key(seed), got {shown(key)}.")
    return typed(key)


def _refuse_unknown(net: AnyLayer, x: jax.Array) -> None:
    """Name the first integer that is out of a layer's `vocabulary`, where values can be seen (not under jit)."""
    if isinstance(x, jax.core.Tracer) or not jnp.issubdtype(x.dtype, jnp.integer):
        return
    ids = np.asarray(x)[..., 0] if hasattr(net, "has_segments") else np.asarray(x)
    for _, layer in walkers.leaves(net):
        size = getattr(layer, "vocabulary", None)
        if size is not None and (unknown := (ids < 0) | (ids >= size)).any():
            first = tuple(int(i) for i in np.argwhere(unknown)[0])
            raise ValueError(
                f"x[{', '.join(map(str, first))}] is {ids[first]}, but {layer} has rows for 0 … {size - 1}. Give "
                "padding one of these, and weight 0."
            )


def is_key(key: Any) -> bool:
    """Whether this is a random key, of either kind that JAX has."""
    if not hasattr(key, "dtype") or not hasattr(key, "shape"):
        return False
    return jnp.issubdtype(key.dtype, jax.dtypes.prng_key) or (key.dtype == jnp.uint32 and key.shape[-1:] == (2,))


def shown(value: Any) -> str:
    """A short description of a value for a message."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"shape {value.shape} of {value.dtype}"
    return repr(value)


def _checked_key(net: AnyLayer, key: Any, m: int) -> jax.Array:
    if not is_key(key) or typed(key).shape not in ((), (m,)):
        raise TypeError(
            f"key: expected one key, jax.random.key(seed), or one per example, jax.random.split(key, {m}), "
            f"got {shown(key)}."
        )
    if not draws(net):
        raise ValueError(
            f"key: no layer of {net} draws random numbers, so a key has no use. Leave key out. "
            '(A layer of your own that draws declares takes = ("key",) as a class attribute.)'
        )
    return typed(key)


def _checked_weights(weights: Any, cost_shape: tuple[int, ...]) -> jax.Array:
    weights = as_array("weights", weights)
    if weights.shape not in (cost_shape[:1], cost_shape):
        shapes = " or ".join(map(str, dict.fromkeys((cost_shape[:1], cost_shape))))
        raise ValueError(f"weights: expected shape {shapes}, one per example or position, got {weights.shape}.")
    if weights.dtype == bool:  # which count
        return weights
    if not jnp.issubdtype(weights.dtype, jnp.floating):
        weights = weights.astype(jnp.zeros(()).dtype)
    refuse_non_finite("weights", weights)
    if isinstance(weights, jax.core.Tracer):
        return jnp.where(weights < 0, jnp.nan, weights)
    if (np.asarray(weights) < 0).any():
        raise ValueError(f"weights: expected 0 or more, got {float(weights.min())}. Use 0 for what must not count.")
    return weights


def _taken_out(
    weights: jax.Array, x: jax.Array, y: jax.Array, segments: jax.Array | None, by_position: bool
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """x and y with what has weight 0 replaced, since 0·∞ is not 0.

    Each example, or position, of weight 0 is replaced by the first that counts: whatever a layer
    does with that one is as finite as the rest. Where positions see each other, a position of weight 0
    is out of the cost and not out of the input: only examples without any weight are replaced in x.
    """
    if not weights.size:
        return x, y, segments
    counts = counted(weights)
    example = counts.any(range(1, counts.ndim))
    y = replaced(y, counts if y.shape[: counts.ndim] == counts.shape else example)
    x = replaced(x, counts if by_position and x.shape[: counts.ndim] == counts.shape else example)
    return x, y, segments if segments is None else replaced(segments, example)


def check_penalty(penalty: Penalty | None) -> None:
    if penalty is None:
        return
    if isinstance(penalty, type) or not isinstance(penalty, Penalty):
        raise TypeError(f"penalty: expected one such as L2(1e-4), got {penalty!r}, which lacks value or gradient.")
    if not is_spec(penalty):
        raise TypeError(f"penalty: {type(penalty).__name__} is not a spec. Put @fn.spec on the class.")


def check_like_params(net: AnyLayer, grads: Any, params: Params) -> None:
    """Refuse gradients that are not shaped like the parameters: a layer's mistake."""
    shapes, expected = (jax.tree.map(jnp.shape, tree) for tree in (grads, params))
    if str(shapes) != str(expected):
        raise ValueError(
            f"gradient: a layer of {net} gives {shapes}, expected the shapes of params, {expected}. "
            "Look for it with fn.check_layer."
        )
