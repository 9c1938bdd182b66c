"""Arrays that should be the same, compared, and the outcome as a law."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import numpy as np

from funcnet._core.protocols import ArrayLike, Tree
from funcnet.check.reports import Law

TOLERANCE = 1e-9

Failures = (TypeError, ValueError, IndexError, KeyError, AttributeError)
"""What a layer raises that does not do what it claims."""


class Pair(NamedTuple):
    """Two arrays that should be equal, and the size of the terms that may cancel within them."""

    actual: ArrayLike
    expected: ArrayLike
    terms: float = 0.0


def agreement(name: str, actual: Tree, expected: Tree, terms: float = 0.0) -> Law:
    """Whether two trees agree, array by array, relative to the largest entry of each."""
    if str(jax.tree.structure(actual)) != str(jax.tree.structure(expected)):
        return Law(name, False, "the two have different structures")
    leaves = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
    return agreement_of_pairs(name, [Pair(a, b, terms) for a, b in leaves])


def agreement_of_pairs(name: str, pairs: Iterable[Pair]) -> Law:
    """Whether both of every pair agree."""
    worst = 0.0
    for pair in pairs:
        a, b = np.asarray(pair.actual), np.asarray(pair.expected)
        if a.shape != b.shape:
            return Law(name, False, f"shapes {a.shape} and {b.shape}")
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            return Law(name, False, "not finite")
        if b.size:
            gap, size = np.abs(a - b).max(), max(np.abs(b).max(), pair.terms)
            worst = max(worst, float(gap / size) if size > 0 else float(gap))
    return Law(name, bool(worst <= TOLERANCE), f"largest difference {worst:.1e}")


def unless_it_fails(name: str, law: Callable[[], Law]) -> Law:
    """The law, or that it is broken because the layer raised an error."""
    try:
        return law()
    except Failures as error:
        return Law(name, False, failure(error))


def failure(error: Exception) -> str:
    """An error in one line."""
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"
