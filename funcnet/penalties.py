"""Costs of the weights themselves: Ĵ = J + Ω(θ), added once and never divided by the batch.

Penalties act on the leaves named "w", and "u" of recurrent layers, unless told otherwise, so never on biases, gains or
embeddings. Their strength is an array leaf: `jax.vmap` sweeps it without compiling again.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from funcnet._core.numerics import accumulation_type, total
from funcnet._core.protocols import Params, Tree
from funcnet._core.specs import spec


@spec
class L2:
    """α Σ w², with derivative 2 α w.

    Where others write ½ α Σ w² (weight decay in most libraries), use half their α; where they
    write α/(2m) Σ w² with m training examples, α/(2m).

    Args:
        strength: α ≥ 0, a number or a traced scalar.
        on: names of the leaves that it acts on; "w" stands for a recurrent layer's "u", too.

    Raises:
        ValueError: a negative strength; parameters without a leaf of these names.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> params = {"w": jnp.array([[3.0, 4.0]]), "b": jnp.array([9.0, 9.0])}
        >>> fn.L2(0.1).value(params).tolist(), fn.L2(0.5).gradient(params)["w"].tolist()
        (2.5, [[3.0, 4.0]])
    """

    strength: ArrayLike
    on: tuple[str, ...] = ("w",)

    def __post_init__(self) -> None:
        _refuse_negative(self, "strength", self.strength)

    def value(self, params: Params) -> jax.Array:
        return _sum(self, params, lambda w: _scalar(self, self.strength, w.dtype) * total(w * w))

    def gradient(self, params: Params) -> Tree:
        return _each(self, params, lambda w: 2 * _scalar(self, self.strength, w.dtype) * w)


@spec
class L1:
    """α Σ |w|, with derivative α sign(w) (0 at 0). See `L2` for arguments and errors (Tibshirani, 1996).

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> params = {"w": jnp.array([[3.0, -4.0]]), "b": jnp.array([9.0, 9.0])}
        >>> fn.L1(0.5).value(params).tolist(), fn.L1(0.5).gradient(params)["w"].tolist()
        (3.5, [[0.5, -0.5]])
    """

    strength: ArrayLike
    on: tuple[str, ...] = ("w",)

    def __post_init__(self) -> None:
        _refuse_negative(self, "strength", self.strength)

    def value(self, params: Params) -> jax.Array:
        return _sum(
            self, params, lambda w: _scalar(self, self.strength, accumulation_type(w.dtype)) * total(jnp.abs(w))
        )

    def gradient(self, params: Params) -> Tree:
        return _each(self, params, lambda w: _scalar(self, self.strength, w.dtype) * jnp.sign(w))


@spec
class ElasticNet:
    """l1 Σ |w| + l2 Σ w²: `L1(l1)` and `L2(l2)` together (Zou & Hastie, 2005).

    Args:
        l1, l2: strengths, as `L2` takes one.
        on: as for `L2`.

    Raises:
        ValueError: as for `L2`.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> params = {"w": jnp.array([[3.0, -4.0]]), "b": jnp.array([9.0, 9.0])}
        >>> fn.ElasticNet(l1=0.5, l2=0.5).value(params).tolist(), fn.ElasticNet(0.5, 0.5).gradient(params)["w"].tolist()
        (16.0, [[3.5, -4.5]])
    """

    l1: ArrayLike
    l2: ArrayLike
    on: tuple[str, ...] = ("w",)

    def __post_init__(self) -> None:
        _refuse_negative(self, "l1", self.l1)
        _refuse_negative(self, "l2", self.l2)

    def value(self, params: Params) -> jax.Array:
        return L1(self.l1, self.on).value(params) + L2(self.l2, self.on).value(params)

    def gradient(self, params: Params) -> Tree:
        return jax.tree.map(jnp.add, L1(self.l1, self.on).gradient(params), L2(self.l2, self.on).gradient(params))


def _scalar(penalty: Any, strength: ArrayLike, dtype: Any) -> jax.Array:
    if np.shape(strength) != ():
        raise ValueError(
            f"{type(penalty).__name__}: strength has shape {np.shape(strength)}, expected one number. "
            "To try several, jax.vmap over the penalty."
        )
    return jnp.asarray(strength, dtype)


def _sum(penalty: Any, params: Params, cost: Any) -> jax.Array:
    costs = [cost(_wide(w)) for w in jax.tree.leaves(_chosen(penalty, params))]
    return sum(costs[1:], costs[0])


def _each(penalty: Any, params: Params, gradient: Any) -> Tree:
    chosen = _chosen(penalty, params)

    def of(w: jax.Array, mine: jax.Array | None) -> jax.Array:
        return jnp.zeros_like(_wide(w)) if mine is None else gradient(_wide(mine))

    return jax.tree.map(of, params, chosen)


def _wide(w: jax.Array) -> jax.Array:
    return jnp.asarray(w).astype(accumulation_type(w.dtype))


def _chosen(penalty: Any, params: Params) -> Tree:
    """The parameters with None at every leaf that the penalty leaves alone."""
    on = {*penalty.on, "u"} if "w" in penalty.on else set(penalty.on)

    def choose(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array | None:
        return leaf if path and getattr(path[-1], "key", None) in on else None

    chosen = jax.tree_util.tree_map_with_path(choose, params)
    if not jax.tree.leaves(chosen):
        names = sorted(
            {str(getattr(path[-1], "key", "")) for path, _ in jax.tree_util.tree_leaves_with_path(params) if path}
        )
        raise ValueError(f"{penalty}: no parameter is named {' or '.join(penalty.on)}; there are {names}. Set on=.")
    return chosen


def _refuse_negative(penalty: Any, name: str, strength: ArrayLike) -> None:
    known = not isinstance(strength, jax.core.Tracer)
    if known and not (np.all(np.asarray(strength) >= 0) and np.all(np.isfinite(strength))):
        raise ValueError(f"{type(penalty).__name__}: {name} must be 0 or more and finite, got {strength}.")
