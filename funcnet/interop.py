"""The hand-written backward pass inside other JAX programs, as `jax.custom_vjp` rules."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from funcnet._core import arguments, walkers
from funcnet._core.context import Context
from funcnet._core.protocols import AnyLayer, ArrayLike, Loss, Params, Penalty
from funcnet._core.specs import spec
from funcnet._core.weighting import Reduction, check_reduction
from funcnet.propagation import cost, value_and_grad


def as_function(net: AnyLayer) -> "Function":
    """The network as `f(params, x, key=None)`, differentiated by its hand-written backward pass.

    To drop into any JAX program: its `jax.grad`, `jit` and `vmap`, or a Flax or Equinox model.
    Reverse mode only: `jax.jvp` and `jax.hessian` of it raise JAX's error for custom rules.

    Args:
        net: a layer.

    Returns:
        A hashable callable that gives the output for `params` and x (m, *positions, features).

    Raises:
        TypeError: `net` is not a layer. The callable raises what `forward` raises.

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp
        >>> net = fn.Dense(1, 1)
        >>> f = fn.as_function(net)
        >>> params = fn.from_weights(net, [[[2.0]]])
        >>> jax.grad(lambda params: f(params, jnp.array([[3.0]])).sum())(params)["w"].tolist()
        [[3.0]]
    """
    arguments.check_layer_functions(net)
    return Function(net)


@spec
class Function:
    """A network as a callable with its own derivative. Made by `as_function`."""

    net: AnyLayer

    def __call__(self, params: Params, x: ArrayLike, key: jax.Array | None = None) -> jax.Array:
        params, x, key = arguments.checked_input(self.net, params, x, key)
        arguments.refuse_non_finite("x", x)
        return _apply(self.net, params, x, key)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _apply(net: AnyLayer, params: Params, x: jax.Array, key: jax.Array | None) -> jax.Array:
    return walkers.layer_forward(net, params, x, Context(key))[0]


def _apply_forward(net: AnyLayer, params: Params, x: jax.Array, key: jax.Array | None) -> Any:
    output, tape = walkers.layer_forward(net, params, x, Context(key))
    return output, (params, tape)


def _apply_backward(net: AnyLayer, kept: Any, delta: jax.Array) -> Any:
    params, tape = kept
    input_delta, grads = walkers.pull(net, walkers.gradient_of_leaf, params, tape, delta)
    return jax.tree.map(lambda g, leaf: g.astype(leaf.dtype), grads, params), input_delta, None


_apply.defvjp(_apply_forward, _apply_backward)


def as_cost(
    net: AnyLayer,
    loss: Loss,
    x: ArrayLike,
    y: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    penalty: Penalty | None = None,
    key: jax.Array | None = None,
    reduction: Reduction = "mean",
) -> "CostFunction":
    """The cost as a function J(params), differentiated by the hand-written backward pass.

    For whatever calls `jax.grad` itself: `optax.lbfgs` and its line search, `jax.scipy`'s
    minimisers. Args are those of `cost`. J is differentiable with respect to params alone: asking
    it for a derivative with respect to x, y, weights or a penalty's strength is an error.

    Returns:
        A callable J(params), a pytree: it may be handed to `jit` as an argument.

    Raises:
        What `cost` raises, when J is called.

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp
        >>> net = fn.Dense(1, 1)
        >>> J = fn.as_cost(net, fn.SquaredError(), jnp.array([[1.0]]), jnp.array([[5.0]]))
        >>> jax.grad(J)(fn.from_weights(net, [[[2.0]]]))["w"].tolist()
        [[-3.0]]
    """
    check_reduction(reduction)
    arguments.check_layer_functions(net)
    arguments.check_loss(loss)
    arguments.check_penalty(penalty)
    own, segments = arguments.unpacked(x)
    own, y = arguments.as_array("x", own), arguments.as_array("y", y)
    x = own if segments is None else (own, segments)
    weights = None if weights is None else arguments.as_array("weights", weights)
    key = None if key is None else arguments.checked_key(net, key, len(own) if own.ndim else 0)
    data = {"x": x, "y": y, "weights": weights, "penalty": penalty, "key": key}
    return CostFunction(net, loss, reduction, data)


@partial(jax.tree_util.register_dataclass, data_fields=["data"], meta_fields=["net", "loss", "reduction"])
@dataclasses.dataclass(frozen=True, eq=False)
class CostFunction:
    """A cost as a callable of the parameters with its own derivative. Made by `as_cost`."""

    net: AnyLayer
    loss: Loss
    reduction: Reduction
    data: dict[str, Any]

    def __call__(self, params: Params) -> jax.Array:
        params = arguments.as_params(self.net, params, None)
        return _cost(self.net, self.loss, self.reduction, self.data, params)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _cost(net: AnyLayer, loss: Loss, reduction: Reduction, data: dict[str, Any], params: Params) -> jax.Array:
    x, y, rest = _split(data)
    return cost(net, loss, params, x, y, reduction=reduction, **rest)


def _cost_forward(net: AnyLayer, loss: Loss, reduction: Reduction, data: Any, params: Any) -> Any:
    if any(leaf.perturbed for leaf in jax.tree.leaves(data, is_leaf=_is_primal)):
        raise TypeError(
            "as_cost: J is differentiable with respect to params alone. For other derivatives "
            "use fn.backprop (its input_delta) or jax.grad of fn.cost."
        )
    data, params = (jax.tree.map(lambda leaf: leaf.value, tree, is_leaf=_is_primal) for tree in (data, params))
    x, y, rest = _split(data)
    return value_and_grad(net, loss, params, x, y, reduction=reduction, **rest)


def _cost_backward(net: AnyLayer, loss: Loss, reduction: Reduction, grads: Any, scale: jax.Array) -> Any:
    return None, jax.tree.map(lambda g: g * jnp.asarray(scale, g.dtype), grads)


_cost.defvjp(_cost_forward, _cost_backward, symbolic_zeros=True)


def _split(data: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    return data["x"], data["y"], {name: data[name] for name in ("weights", "penalty", "key")}


def _is_primal(leaf: Any) -> bool:
    return isinstance(leaf, jax.custom_derivatives.CustomVJPPrimal)
