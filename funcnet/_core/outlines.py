"""Named tuples of arrays in a few lines: where each array stands, its type and its shape."""

import reprlib
from itertools import groupby
from typing import Any

import jax
from jax.tree_util import DictKey, GetAttrKey, keystr

from funcnet._core.tables import aligned, html_table

Path = tuple[Any, ...]

MOST = 8  # lines of a field


def type_and_shape(leaf: Any) -> str:
    """An array without its numbers, "float32[3,2]"; any other leaf as it is, in short."""
    if not hasattr(leaf, "dtype") or not hasattr(leaf, "shape"):
        return reprlib.repr(leaf)
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def outline(fields: Any) -> str:
    """The repr of a named tuple. Nothing is computed, so it may be traced."""
    return "\n".join([type(fields).__name__, *aligned(_rows(fields), gap="  ")])


def html_outline(fields: Any) -> str:
    """The same as a table for notebooks."""
    return html_table([[type(fields).__name__, ""], *_rows(fields)])


def _rows(fields: Any) -> list[list[str]]:
    """An address in each, and what stands there: of arrays with names ("w" and "b" of a layer) all together."""
    rows = []
    for field, tree in fields._asdict().items():
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        own = [
            [field + keystr(holder), ", ".join(_named(path[len(holder) :], leaf) for path, leaf in held)]
            for holder, held in groupby(leaves, lambda pair: _holder(pair[0]))
        ]
        if len(own) > MOST:
            left = len(own) - MOST + 1
            own[MOST - 2 : -1] = [[f"… {left} more", ""]]
        rows += own or [[field, "no arrays"]]
    return rows


def _holder(path: Path) -> Path:
    """The path without the name at its end, if it ends with one."""
    return path[:-1] if path and isinstance(path[-1], DictKey | GetAttrKey) else path


def _named(names: Path, leaf: Any) -> str:
    return " ".join([*(str(getattr(key, "key", getattr(key, "name", ""))) for key in names), type_and_shape(leaf)])
