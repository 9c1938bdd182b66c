"""What every public function checks of its arguments, before anything is computed or compiled.

Arrays, keys and trees have doors of their own, which stand here by name, too.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core import walkers
from funcnet._core.arrays import as_array as as_array
from funcnet._core.arrays import instance as instance
from funcnet._core.arrays import is_array as is_array
from funcnet._core.arrays import is_list as is_list
from funcnet._core.arrays import refuse_non_finite as refuse_non_finite
from funcnet._core.arrays import shown as shown
from funcnet._core.context import Context
from funcnet._core.keys import is_key as is_key
from funcnet._core.keys import one_key as one_key
from funcnet._core.keys import typed
from funcnet._core.protocols import AnyLayer, Loss, Params, Penalty, missing_functions
from funcnet._core.specs import is_spec
from funcnet._core.trees import as_params as as_params
from funcnet._core.trees import check_arrays as check_arrays
from funcnet._core.trees import check_like as check_like
from funcnet._core.trees import check_like_params as check_like_params
from funcnet._core.trees import check_params as check_params
from funcnet._core.trees import params_struct as params_struct
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
    x = as_array("x", x)
    if x.ndim < (1 if jnp.issubdtype(x.dtype, jnp.integer) else 2):
        raise ValueError(
            f"x: expected (m, *positions, features), got shape {x.shape}. "
            "Use x[None] for one example, x[:, None] for one feature."
        )
    params = as_params(net, params, x.dtype)
    _refuse_unknown(net, x)
    return params, x, None if key is None else checked_key(net, key, len(x))


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
            lacks = f"{shown(loss)}, which lacks {name}(output, y)"
            raise TypeError(f"loss: expected a loss such as SquaredError(), got {lacks}.{instance(loss)}")
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


def check_layer_functions(layer: object, name: str = "net") -> None:
    """Refuse a value that is not a layer, naming the functions it lacks."""
    lacking = missing_functions(layer)
    if isinstance(layer, type) or lacking:
        missing = f", which lacks {', '.join(lacking)}" if lacking else ""
        hint = " (A combinator has contract in place of gradient.)" if "gradient" in lacking else ""
        got = f"{shown(layer)}{missing}"
        raise TypeError(f"{name}: expected a layer such as Chain(...), got {got}.{hint}{instance(layer)}")
    if not is_spec(layer):
        raise TypeError(f"{name}: {type(layer).__name__} is not a spec. Put @fn.spec on the class.")


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


def checked_key(net: AnyLayer, key: Any, m: int) -> jax.Array:
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
        got = shown(penalty)
        raise TypeError(
            f"penalty: expected one such as L2(1e-4), got {got}, which lacks value or gradient.{instance(penalty)}"
        )
    if not is_spec(penalty):
        raise TypeError(f"penalty: {type(penalty).__name__} is not a spec. Put @fn.spec on the class.")
