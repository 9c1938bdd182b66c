"""`windows`: one long array of tokens, on a disk or in memory, as examples."""

from typing import Any

import numpy as np

from funcnet._core import arguments, scalars


def windows(tokens: Any, length: int) -> tuple[Any, Any]:
    """Examples (x, y) of `length` tokens each, y one token ahead of x: for every position, the next token.

    Both are views: nothing is copied, and of a `numpy.memmap` (say `np.memmap("tokens.bin", np.uint16, "r")`) nothing
    is read. `fit` then reads the batches that it draws, piece by piece. Tokens behind the last whole window are left
    out.

    Args:
        tokens: (size,), integers.
        length: tokens of an example.

    Returns:
        x and y, (number, length) each, with number = (size - 1) // length.

    Raises:
        TypeError: tokens that are not integers in one row.
        ValueError: fewer than length + 1 of them.

    Example:
        >>> import funcnet as fn, numpy as np
        >>> x, y = fn.windows(np.arange(8), 3)
        >>> x.tolist(), y.tolist()
        ([[0, 1, 2], [3, 4, 5]], [[1, 2, 3], [4, 5, 6]])
    """
    if not isinstance(tokens, np.ndarray):
        arguments.as_array("windows: tokens", tokens)
        tokens = np.asarray(tokens)
    if tokens.ndim != 1 or not np.issubdtype(tokens.dtype, np.integer):
        raise TypeError(f"windows: tokens: expected integers in one row, (size,), got {arguments.shown(tokens)}.")
    length = scalars.integer("windows: length", length, "a number of tokens, 1 or more", 1)
    number = (len(tokens) - 1) // length
    if number < 1:
        raise ValueError(
            f"windows: expected {length + 1} tokens or more, for one example of length {length} and what follows, got "
            f"{len(tokens)}."
        )
    x, y = (tokens[start : start + number * length].reshape(number, length) for start in (0, 1))
    return x, y
