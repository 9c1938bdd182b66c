"""float64 for a check, whatever the type of what came and of the rest of the program."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core.protocols import Tree


@contextmanager
def float64() -> Iterator[None]:
    new_name = hasattr(jax, "enable_x64")  # since jax 0.8
    enable: Any = jax.enable_x64 if new_name else jax.experimental.enable_x64  # type: ignore[attr-defined]
    with enable(True):
        yield


def widened(tree: Tree) -> Tree:
    """Floating leaves as float64; keys, integers and Python's numbers as they are."""

    def one(leaf: Any) -> Any:
        is_array = isinstance(leaf, (list, np.ndarray, jax.Array)) or hasattr(leaf, "to_numpy")
        if is_array and _is_floating(leaf):
            return jnp.asarray(np.asarray(leaf, np.float64))
        return leaf

    return jax.tree.map(one, tree, is_leaf=lambda part: isinstance(part, list))


def _is_floating(values: Any) -> bool:
    """Whether they are numbers with fractions; what is no array is refused elsewhere, by name."""
    try:
        return bool(jnp.issubdtype(jnp.asarray(values).dtype, jnp.floating))
    except (TypeError, ValueError):
        return False
