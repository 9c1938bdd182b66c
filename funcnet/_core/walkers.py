"""The walks over a network's layers, and the one over its parameters.

Every combinator's backward pass is one sweep, `pull`: it sends the error signal down and takes `f` at every leaf
layer on the way. With an `f` that returns the deltas it is backward propagation, with `leaf.gradient` the gradient
without any deltas kept. `contract` takes `f` of a tape and deltas that were kept.

`f` sees a leaf and its examples, nothing of where the leaf stands. A stack of layers puts its axis in front of
whatever `f` gives; how many such axes there are is asked by contracting with a scalar in `f`'s place.
"""

import copy
import dataclasses
import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp

from funcnet._core.arrays import instance, is_array, shown
from funcnet._core.context import Context, context_of
from funcnet._core.numerics import wide
from funcnet._core.protocols import AnyLayer, Layer, Params, Tree

LeafFunction = Callable[..., Tree]
"""f(leaf, tape, deltas), or f(leaf, tape, deltas, tape2, deltas2) of two passes."""


def layer_forward(
    layer: Any, params: Params, x: jax.Array, context: Context | jax.Array | None = None
) -> tuple[jax.Array, Tree]:
    """The forward pass of a layer in a combinator: (y, tape), the layer handed what it takes beside x.

    Args:
        layer: a child.
        params: its parameters.
        x: its input.
        context: its own, from `funcnet.child_key(context, i)`; a key alone, or None.

    Returns:
        Its output and its tape.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> y, tape = fn.layer_forward(fn.ReLU(), (), jnp.array([[-1.0, 2.0]]))
        >>> y.tolist()
        [[0.0, 2.0]]
    """
    _check_layer(layer, "forward")
    _check_signal("x", x)
    context = context_of(context)
    if hasattr(layer, "pull"):
        return layer.forward(params, x, context)
    takes = getattr(layer, "takes", None)
    if takes is not None:
        return layer.forward(params, x, **{name: getattr(context, name) for name in takes})
    return layer.forward(params, x, context.key) if _has_key(type(layer).forward) else layer.forward(params, x)


@lru_cache(maxsize=1024)
def _has_key(function: Callable[..., Any]) -> bool:
    """Whether `forward(self, params, x, …)` has room for a key, which it then is handed."""
    places = inspect.signature(function).parameters.values()
    return len(places) > 3 or any(place.kind is place.VAR_POSITIONAL for place in places)


def layer_step(layer: Any, params: Params, x: jax.Array, cache: Tree, place: jax.Array) -> tuple[jax.Array, Tree]:
    """The forward pass of one position: (y, cache), from its input and what layers kept of the positions before it.

    Args:
        layer: one for which `has_step` holds.
        params: its parameters.
        x: (m, features), or integers (m,): the input at this position.
        cache: a tree like the parameters, with each leaf layer's cache at its place.
        place: the position's number, from 0.
    """
    if getattr(layer, "step", None) is not None:
        return layer.step(params, x, cache, place)
    return layer_forward(layer, params, x)[0], cache


def has_step(layer: Any) -> bool:
    """Whether a network can be propagated position by position: all its layers have a `step`, or are `by_position`."""
    if getattr(layer, "step", None) is None:
        return not hasattr(layer, "contract") and getattr(layer, "by_position", False)
    return not hasattr(layer, "contract") or all(has_step(child) for _, child, _ in parts(layer))


def pull(layer: Any, f: LeafFunction, params: Params, tape: Tree, delta: jax.Array) -> tuple[jax.Array, Tree]:
    """∂J_i/∂x and `f(leaf, tape, deltas)` of every leaf layer, in one sweep from the output down.

    With an `f` that returns the deltas it is `backward`; with `leaf.gradient` it is the gradient, and keeps no deltas.

    Args:
        layer: a layer.
        f: of a leaf layer, its tape and its deltas.
        params, tape, delta: as for `backward`.

    Returns:
        ∂J_i/∂x, and a tree like the parameters with f's results in the place of each leaf layer's.

    Example:
        >>> import funcnet as fn
        >>> net = fn.Chain(fn.Dense(1, 1), fn.Tanh())
        >>> params = fn.from_weights(net, [[[0.0]]])
        >>> y, tape = fn.forward(net, params, [[1.0], [3.0]])
        >>> by_hand = lambda leaf, tape, deltas: leaf.gradient(tape, deltas)
        >>> input_delta, grads = fn.pull(net, by_hand, params, tape, y - 1)
        >>> grads[0]["w"].tolist()
        [[-4.0]]
    """
    _check_layer(layer, "backward", f)
    _check_signal("delta", delta)
    if hasattr(layer, "pull"):
        return layer.pull(f, params, tape, delta)
    input_delta, deltas = layer.backward(params, tape, delta)
    return input_delta, deltas if f is deltas_alone else contract(layer, f, tape, deltas)


def contract(layer: AnyLayer, f: LeafFunction, *kept: Tree) -> Tree:
    """`f(leaf, *kept)` at every leaf layer of `layer`, as a tree like its parameters.

    Every quantity that funcnet takes from a backward pass is one contraction.

    Args:
        layer: a layer.
        f: of a leaf layer and its share of `kept`.
        kept: the tape and the deltas of one pass, or of two in turn.

    Returns:
        A tree like the parameters with f's results in the place of each leaf layer's.

    Example:
        >>> import funcnet as fn
        >>> net = fn.Chain(fn.Dense(1, 1), fn.Tanh())
        >>> params = fn.from_weights(net, [[[0.0]]])
        >>> bp = fn.backprop(net, fn.SquaredError(), params, [[1.0], [3.0]], [[1.0], [2.0]])
        >>> by_hand = lambda leaf, tape, deltas: leaf.gradient(tape, deltas)  # what `fn.gradient` asks of each
        >>> fn.contract(net, by_hand, bp.tape, bp.deltas)[0]["w"].tolist()
        [[-7.0]]
    """
    _check_layer(layer, "contract" if hasattr(layer, "contract") else "gradient", f)
    if not hasattr(layer, "contract"):
        return f(layer, *kept)
    if len(kept) <= 2 or hasattr(layer, "pull"):
        return layer.contract(f, *kept)
    return _contract_pass_by_pass(layer, f, kept)


def _check_layer(layer: Any, needed: str, f: Any = callable) -> None:
    """Refuse what is no layer, and an f that is no function."""
    if isinstance(layer, type) or not hasattr(layer, needed) or not hasattr(layer, "forward"):
        raise TypeError(f"layer: expected a layer, got {shown(layer)}, which lacks {needed}.{instance(layer)}")
    if not callable(f):
        raise TypeError(f"f: expected a function of a leaf layer, its tape and its deltas, got {shown(f)}.")


def _check_signal(name: str, value: Any) -> None:
    """Refuse what is no array, nor a tree of some, as layers of one's own may hand to each other."""
    leaves = jax.tree.leaves(value)
    if not leaves or not all(map(is_array, leaves)):
        raise TypeError(f"{name}: expected an array, got {shown(value)}.")


def _contract_pass_by_pass(layer: Any, f: LeafFunction, kept: tuple[Tree, ...]) -> Tree:
    """For a combinator whose `contract(f, tape, deltas)` knows of one pass alone: the others' leaves, then its own."""
    others: list[tuple[Tree, ...]] = []

    def remember(leaf: Layer, *passes: Tree) -> tuple[()]:
        others.append(passes)
        return ()

    layer.contract(remember, *kept[2:])
    rest = iter(others)
    return layer.contract(lambda leaf, tape, deltas: f(leaf, tape, deltas, *next(rest)), *kept[:2])


def deltas_alone(leaf: Layer, tape: Tree, deltas: Tree) -> Tree:
    """The `f` with which `pull` is `backward`."""
    return deltas


def gradient_of_leaf(leaf: Layer, tape: Tree, deltas: Tree) -> Tree:
    """The `f` with which a contraction is the gradient, in the accumulation type whatever the layer's own is."""
    if any(map(_narrow, jax.tree.leaves((tape, deltas)))):
        grads = jax.eval_shape(leaf.gradient, tape, deltas)
        if any(map(_narrow, jax.tree.leaves(grads))):
            tape, deltas = jax.tree.map(wide, (tape, deltas))
    return leaf.gradient(tape, deltas)


def _narrow(values: jax.Array | jax.ShapeDtypeStruct) -> bool:
    return jnp.issubdtype(values.dtype, jnp.floating) and jnp.finfo(values.dtype).bits < 32


# ------------------------------------------------------------------ stacks
def examples_first(net: AnyLayer, f: LeafFunction, *kept: Tree) -> Tree:
    """`contract` of an `f` that gives arrays (m, …): arrays (m, *stack, …)."""
    return with_examples_first(net, contract(net, f, *kept), *kept)


def with_examples_first(net: AnyLayer, each: Tree, *kept: Tree) -> Tree:
    """What a contraction gave, (*stack, m, …), with the axis of examples moved to the front."""

    def moved(stack: jax.ShapeDtypeStruct, part: Tree) -> Tree:
        return jax.tree.map(lambda a: jnp.moveaxis(a, len(stack.shape), 0), part) if stack.shape else part

    return jax.tree.map(moved, stacks(net, *kept), each)


def stacks(net: AnyLayer, *kept: Tree) -> Tree:
    """A scalar in the place of every leaf layer, shaped as the stacks in which the layer stands."""
    return jax.eval_shape(partial(contract, net, lambda *leaf: jnp.zeros(())), *kept)


def whole(each: Tree, shape: tuple[int, ...], dtype: jax.typing.DTypeLike) -> jax.Array:
    """The sum over all layers of values that have this shape behind the axes of their stacks."""
    sums = (jnp.sum(a, range(a.ndim - len(shape))) if a.ndim > len(shape) else a for a in jax.tree.leaves(each))
    return sum(sums, jnp.zeros(shape, dtype))


# ------------------------------------------------------------------ layers by name
def leaves(net: Any, *trees: Tree) -> Iterator[tuple[Any, ...]]:
    """(name, leaf, its part of every tree that is shaped like the parameters) of each leaf layer, in order.

    The layers of a stack come one by one, so this serves words and reports, not computations.
    """
    yield from _leaves(net, trees, ())


def _leaves(layer: Any, trees: tuple[Tree, ...], name: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    if not hasattr(layer, "contract"):
        kind = _kind(layer)
        yield ", ".join(name if name and name[-1].split(" ")[0] == kind else (*name, kind)), layer, *trees
        return
    for title, child, take in parts(layer):
        yield from _leaves(child, tuple(map(take, trees)), (*name, title) if title else name)


def has_names(net: Any) -> bool:
    """Whether somebody gave a layer of a network a name, or layers stand in a stack: words then say which is meant."""
    if not hasattr(net, "contract"):
        return False
    return bool(title_of(net)) or _is_stack(net) or any(has_names(child) for _, child, _ in parts(net))


def map_leaves(net: Any, f: Callable[..., Tree], *trees: Tree) -> Tree:
    """`f(leaf, its part of every tree)` of each leaf layer, as a tree like the parameters."""
    if not hasattr(net, "contract"):
        return f(net, *trees)
    results = [map_leaves(child, f, *map(take, trees)) for _, child, take in parts(net)]
    if _is_stack(net):
        return net.join(results)
    return results[0] if len(results) == 1 and not isinstance(_children(net)[0], tuple) else tuple(results)


def _is_stack(layer: Any) -> bool:
    """Whether its parameters stand one behind the other on an axis in front. (`Parallel` has a word for a join.)"""
    return callable(getattr(layer, "join", None))


Part = tuple[str, Any, Callable[[Tree], Tree]]


def parts(layer: Any) -> Iterator[Part]:
    """(name, child, how to take the child's share of a tree like params) of a combinator.

    A combinator without a `parts` of its own has its children in its fields: in one field that holds a layer, whose
    parameters are the combinator's own, or else several, whose parameters are a tuple.
    """
    if hasattr(layer, "parts"):
        yield from layer.parts()
        return
    fields = _children(layer)
    children = [child for field in fields for child in (field if isinstance(field, tuple) else (field,))]
    if len(fields) == 1 and not isinstance(fields[0], tuple):
        yield "", children[0], lambda tree: tree
    else:
        yield from numbered(children)


def numbered(children: Sequence[Any]) -> Iterator[Part]:
    """The parts of a combinator whose parameters are a tuple: children of one kind are counted from 1."""
    kinds = [_kind(child) for child in children]
    often, so_far = Counter(kinds), Counter[str]()
    for place, (kind, child) in enumerate(zip(kinds, children)):
        so_far[kind] += 1
        alone = kind if hasattr(child, "contract") and not _is_stack(child) else ""  # a stack's layers have numbers
        number = f"{kind} {so_far[kind]}" if often[kind] > 1 else alone
        yield title_of(child) or number, child, lambda tree, place=place: tree[place]  # type: ignore[misc]


def _kind(layer: Any) -> str:
    """The name of a layer's class, or of the class of what it is wrapped around."""
    return _kind(layer.layer) if hasattr(layer, "layer") else type(layer).__name__


def title_of(layer: Any) -> str:
    """The name that somebody gave a layer, through what is wrapped around it."""
    title: str = getattr(layer, "name", "") or (title_of(layer.layer) if hasattr(layer, "layer") else "")
    return title


def child_fields(layer: Any) -> list[str]:
    """The names of the fields that hold a layer, or a tuple of layers."""

    def holds_layers(value: Any) -> bool:
        return hasattr(value, "forward") or (isinstance(value, tuple) and bool(value) and hasattr(value[0], "forward"))

    return [field.name for field in dataclasses.fields(layer) if holds_layers(getattr(layer, field.name))]


def with_leaves(layer: Any, change: Callable[[Any], Any]) -> Any:
    """The network with each leaf layer replaced by what `change` makes of it, in order."""
    if not hasattr(layer, "contract"):
        return change(layer)
    if hasattr(layer, "with_children"):
        return layer.with_children(lambda child: with_leaves(child, change))
    new = copy.copy(layer)
    for name in child_fields(layer):
        value = getattr(layer, name)
        several = isinstance(value, tuple)
        children = tuple(with_leaves(child, change) for child in (value if several else (value,)))
        object.__setattr__(new, name, children if several else children[0])
    return new


def _children(layer: Any) -> list[Any]:
    return [getattr(layer, name) for name in child_fields(layer)]


# ------------------------------------------------------------------ parameters
def layer_params(params: Params) -> list[dict[str, Any]]:
    """The parameters (or what else is shaped like them) of every layer that has some, in order.

    A leaf layer's are a dict; `check_layer` holds every layer to it.
    """
    return jax.tree.leaves(params, is_leaf=lambda part: isinstance(part, dict))


def named_params(params: Params) -> Iterator[tuple[str, Any]]:
    """Every parameter under its name in words: "layer 2, w". Only layers that have parameters are counted."""
    for number, layer in enumerate(layer_params(params), 1):
        for path, leaf in jax.tree_util.tree_leaves_with_path(layer):
            yield ", ".join([f"layer {number}", *(str(getattr(part, "key", part)) for part in path)]), leaf
