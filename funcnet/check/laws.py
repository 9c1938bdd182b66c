"""The laws of a layer, on which every contraction of a backward pass rests."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core.protocols import AnyLayer, Params, Tree
from funcnet.check.claims import laws_of_functions, positions_law
from funcnet.check.comparisons import agreement, unless_it_fails
from funcnet.check.independence import SEGMENTS, key_law, laws_of_backward, segments_law
from funcnet.check.passes import Pass, Trial, compiled, floating, propagate, trial
from funcnet.check.reports import Law
from funcnet.check.structures import contraction_law, examples_first_law, parameters_law

LINEAR = "backward and gradient are linear in delta"
OUTPUT_ALONE = "an example's output does not depend on its batch"
SIGNAL_ALONE = "an example's error signal does not depend on its batch"
SUM = "the gradient of a batch is the sum of those of its examples"
STATELESS = "the same call gives the same value: no state"
TYPE_KEPT = "float32 stays float32"
WIDE_GRADIENT = "a bfloat16 tape gives a float32 gradient"
INTEGERS = "integers as x have no error signal"


def laws(
    layer: AnyLayer, params: Params, x: jax.Array, delta: np.ndarray, other: np.ndarray, keys: jax.Array | None
) -> Iterator[Law]:
    """Each law, tried on this batch (float64, two examples or more, a key per example or None).

    Laws that presuppose another are left out where that one is broken.
    """
    tried = trial(layer, params, x, delta, other, keys)
    first, alone = tried.first, tried.alone
    parameters = parameters_law(layer, params)
    yield parameters
    shapes = [examples_first_law(layer, first.tape, first.deltas, len(x))]
    if parameters.held:
        shapes.append(contraction_law(layer, params, first.tape, first.deltas))
    yield from shapes

    yield _linear_law(tried, delta, other)
    yield agreement(OUTPUT_ALONE, first.y, alone.y)
    if floating(x):
        yield agreement(SIGNAL_ALONE, first.input_delta, alone.input_delta)
    else:
        yield _integers_law(first.input_delta, x)
    yield agreement(SUM, first.grads, jax.tree.map(lambda g: np.sum(g, axis=0), alone.grads))
    if parameters.held and all(law.held for law in shapes):
        yield from laws_of_functions(tried)
        yield positions_law(layer, params, tried.x, len(x))
    yield from laws_of_backward(tried)
    yield key_law(tried)
    yield unless_it_fails(SEGMENTS, lambda: segments_law(tried))

    again = jax.jit(lambda *batch: propagate(layer, *batch))(params, tried.x, delta, keys)
    yield agreement(STATELESS, (again.y, again.grads), (first.y, first.grads))
    yield unless_it_fails(TYPE_KEPT, lambda: _type_kept(tried))
    yield unless_it_fails(WIDE_GRADIENT, lambda: _wide_gradient(tried))


def _linear_law(tried: Trial, delta: np.ndarray, other: np.ndarray) -> Law:
    layer, params, keys, x = tried[:4]
    mixed, second = (_of_delta(compiled(layer, params, x, d, keys)) for d in (2 * delta - 3 * other, other))
    combined = jax.tree.map(lambda a, b: 2 * np.asarray(a) - 3 * np.asarray(b), _of_delta(tried.first), second)
    terms = np.abs(delta).max(initial=0) + np.abs(other).max(initial=0)  # what may cancel within a layer
    return agreement(LINEAR, mixed, combined, float(terms))


def _of_delta(result: Pass) -> Tree:
    """What came of delta; integers have no derivative."""
    return (result.input_delta, result.grads) if floating(result.input_delta) else result.grads


def _integers_law(input_delta: jax.Array, x: jax.Array) -> Law:
    """Its values are nobody's: zeros are the custom."""
    result = f"input_delta is {input_delta.dtype}, shaped {input_delta.shape}"
    kept = (input_delta.dtype, input_delta.shape) == (x.dtype, x.shape)
    return Law(INTEGERS, kept, result + ("" if kept else f", expected {x.dtype}, shaped {x.shape}"))


def _type_kept(tried: Trial) -> Law:
    result = _in_type(tried, jnp.float32)
    kept = result.input_delta.dtype in (jnp.float32, tried.x.dtype if not floating(tried.x) else jnp.float32)
    held = result.y.dtype == jnp.float32 and kept
    return Law(TYPE_KEPT, held, f"output {result.y.dtype}, error signal {result.input_delta.dtype}")


def _wide_gradient(tried: Trial) -> Law:
    types = {jnp.dtype(g.dtype).name for g in jax.tree.leaves(_in_type(tried, jnp.bfloat16).grads)}
    return Law(WIDE_GRADIENT, types <= {"float32", "float64"}, f"gradient {', '.join(sorted(types)) or 'empty'}")


def _in_type(tried: Trial, dtype: Any) -> Any:
    """Shapes and types of a pass in which all that is floating has this type."""
    narrow = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, dtype if floating(a) else a.dtype),
        (tried.params, tried.x, tried.delta),
    )
    return jax.eval_shape(lambda p, a, d: propagate(tried.layer, p, a, d, tried.keys), *narrow)
