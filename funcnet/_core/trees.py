"""The door for trees: a network's parameters, and what is kept of a pass."""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core import walkers
from funcnet._core.arrays import as_array, is_array, shown
from funcnet._core.protocols import AnyLayer, Params, Tree
from funcnet._core.specs import is_spec


@lru_cache(maxsize=1024)
def params_struct(net: Any) -> Params:
    """Shapes and types of a network's parameters."""
    return jax.eval_shape(lambda: net.init(jax.random.key(0)))


def as_params(net: AnyLayer, params: Params, x_dtype: Any, x: str = "x") -> Params:
    """Parameters as JAX's arrays, if they are this network's, of one type with x (None: whatever), or what it is."""
    _check_names(net, params)
    leaves = [as_array(f"params: {name}", leaf) for name, leaf in walkers.named_params(params)]
    params = jax.tree.unflatten(jax.tree.structure(params), leaves)
    _check_leaves(net, params, x_dtype, x)
    return params


def check_params(net: AnyLayer, params: Params, x_dtype: Any) -> None:
    """Refuse parameters that are not this network's, or of another type than x (None: whatever their type)."""
    _check_names(net, params)
    _check_leaves(net, params, x_dtype, "x")


def _check_leaves(net: AnyLayer, params: Params, x_dtype: Any, x: str) -> None:
    """Refuse parameters of other shapes or types, or in another structure, than this network's."""
    expected, given = (dict(walkers.named_params(tree)) for tree in (params_struct(net), params))
    remedy = _remedy(net)
    for name, leaf in given.items():
        if np.shape(leaf) != expected[name].shape:
            raise ValueError(f"params: {name} has shape {np.shape(leaf)}, expected {expected[name].shape}. {remedy}")
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(f"params: {name} is {dtype}, expected a floating type.")
        if x_dtype is not None and jnp.issubdtype(x_dtype, jnp.floating) and dtype != x_dtype:
            raise TypeError(
                f"params: {name} is {dtype} but {x} is {x_dtype}. Use one type: {x}.astype({dtype.name!r}), or "
                f"jax.tree.map(lambda leaf: leaf.astype({x_dtype.name!r}), params)."
            )
    wanted, got = str(jax.tree.structure(params_struct(net))), str(jax.tree.structure(params))
    if wanted != got:
        raise ValueError(f"params: expected the structure {wanted}, got {got}. {remedy}")


def check_like_params(net: AnyLayer, grads: Any, params: Params) -> None:
    """Refuse gradients that are not shaped like the parameters: a layer's mistake."""
    shapes, expected = (jax.tree.map(jnp.shape, tree) for tree in (grads, params))
    if str(shapes) != str(expected):
        raise ValueError(
            f"gradient: a layer of {net} gives {shapes}, expected the shapes of params, {expected}. "
            "Look for it with fn.check_layer."
        )


def check_like(name: str, tree: Tree, params: Params) -> None:
    """Refuse a tree of arrays that is not shaped like the parameters."""
    check_arrays(name, tree, "a tree like the parameters")
    shapes, expected = (jax.tree.map(np.shape, part) for part in (tree, params))
    if str(shapes) != str(expected):
        raise ValueError(f"{name}: has the shapes {shapes}, expected those of the parameters, {expected}.")


def check_arrays(name: str, tree: Tree, source: str) -> None:
    """Refuse a tree of anything but arrays, where `source` gives what is wanted."""
    wrong = [leaf for leaf in jax.tree.leaves(tree) if not is_array(leaf)]
    if wrong or tree is None or is_spec(tree):
        got = shown(wrong[0] if wrong else tree)
        raise TypeError(f"{name}: expected arrays, from {source}, got {got}.")


def _check_names(net: AnyLayer, params: Params) -> None:
    """Refuse what has not the parameters of this network, no more and no less."""
    if hasattr(params, "params"):
        raise TypeError(f"params: expected parameters, got a {type(params).__name__}. Use its params: state.params.")
    expected, given = ([name for name, _ in walkers.named_params(tree)] for tree in (params_struct(net), params))
    if isinstance(params_struct(net), tuple | dict) and expected and not isinstance(params, tuple | list | dict):
        raise TypeError(f"params: expected parameters, got {shown(params)}. {_remedy(net)}")
    if missing := [name for name in expected if name not in given]:
        raise ValueError(f"params: {missing[0]} is missing. {_remedy(net)}")
    if extra := [name for name in given if name not in expected]:
        raise ValueError(f"params: {extra[0]} is not a parameter of this network. {_remedy(net)}")


def _remedy(net: AnyLayer) -> str:
    return f"Parameters of {net} come from fn.init(net, key)."
