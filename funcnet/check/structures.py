"""Laws of shape: parameters, tape and deltas as every walk over a network expects them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core import walkers
from funcnet._core.protocols import AnyLayer, Layer, Params, Tree
from funcnet.check.comparisons import Failures, failure
from funcnet.check.reports import Law

PARAMETERS = "a leaf's parameters are a dict of arrays, a combinator's a tuple of its layers' or its one layer's"
TREE = "contract takes f at every leaf layer once, in a tree like the parameters"
EXAMPLES_FIRST = "every array in tape and deltas has examples first"


def parameters_law(layer: AnyLayer, params: Params) -> Law:
    """Dicts hold arrays and nothing else, no array stands outside one, and each belongs to one leaf layer."""
    for values in walkers.layer_params(params):
        if not isinstance(values, dict):
            return Law(PARAMETERS, False, f"an array shaped {np.shape(values)} stands in no dict")
        for key, value in values.items():
            if not hasattr(value, "shape"):
                return Law(PARAMETERS, False, f"{key!r} in a dict is a {type(value).__name__}, not an array")
    try:
        parts = [(name, values) for name, _, values in walkers.leaves(layer, params)]
    except Failures as error:
        return Law(PARAMETERS, False, f"the layers' parts of the parameters are not there ({failure(error)})")
    for name, values in parts:
        if not isinstance(values, dict) and jax.tree.leaves(values):
            return Law(PARAMETERS, False, f"those of {name} are a {type(values).__name__}")
    count, whole = (
        sum(np.size(a) for a in jax.tree.leaves(tree)) for tree in ([values for _, values in parts], params)
    )
    if count != whole:
        return Law(PARAMETERS, False, f"the leaf layers have {count} parameters, and together there are {whole}")
    return Law(PARAMETERS, True, f"{len(parts)} leaf layer{'s' if len(parts) != 1 else ''}, {whole} parameters")


def contraction_law(layer: AnyLayer, params: Params, tape: Tree, deltas: Tree) -> Law:
    """Each leaf layer is given a number, and the numbers must come back at the leaves' places, no sums of them."""
    draw, visited = np.random.default_rng(0), dict[float, Layer]()

    def numbered(leaf: Layer, *kept: Tree) -> jax.Array:
        number = float(draw.uniform())
        visited[number] = leaf
        return jnp.asarray(number)

    try:
        numbers = jax.jit(lambda *kept: walkers.contract(layer, numbered, *kept))(tape, deltas)
        jax.tree.map(lambda number, part: (), numbers, params)  # or it is an error
        places: list[Any] = list(walkers.leaves(layer, numbers))
    except Failures as error:
        return Law(TREE, False, f"what it gives has another structure ({failure(error)})")
    for name, leaf, number in places:
        if np.shape(number) or float(number) not in visited:
            return Law(TREE, False, f"at {name} stands not one result of f, but what was made of several or of none")
        if visited[float(number)] != leaf:
            return Law(TREE, False, f"at {name} stands the result of {visited[float(number)]}")
    each = [float(np.ravel(number)[0]) for number in jax.tree.leaves(numbers)]
    if len(set(each)) < len(each):
        return Law(TREE, False, f"one result stands at {len(each) - len(set(each)) + 1} places")
    return Law(TREE, True, f"{len(places)} leaf layer{'s' if len(places) != 1 else ''}, in order")


def examples_first_law(layer: AnyLayer, tape: Tree, deltas: Tree, m: int) -> Law:
    """As `f` sees them: behind the axes of the stacks that a leaf layer stands in."""
    wrong: list[str] = []

    def look(leaf: Layer, *kept: Tree) -> tuple[()]:
        for what, tree in zip(("tape", "deltas"), kept):
            shapes = map(np.shape, jax.tree.leaves(tree))
            wrong.extend(f"{leaf}: {what} holds shape {shape}" for shape in shapes if shape[:1] != (m,))
        return ()

    jax.eval_shape(lambda *kept: walkers.contract(layer, look, *kept), tape, deltas)
    return Law(EXAMPLES_FIRST, not wrong, wrong[0] if wrong else f"first axis {m} throughout")
