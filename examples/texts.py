"""Text that every Python has: the modules of its own library, one after the other, each letter a byte."""

import os
from pathlib import Path

import numpy as np

import funcnet as fn

Passages = tuple[np.ndarray, np.ndarray]


def library() -> np.ndarray:
    """All modules in an order that was drawn once, so that the last ones are of every kind, too: uint8."""
    modules = sorted(Path(os.__file__).parent.glob("*.py"))
    order = np.random.default_rng(0).permutation(len(modules))
    return np.concatenate([np.fromfile(modules[i], np.uint8) for i in order])


def passages(number: int, held: int, length: int) -> tuple[Passages, Passages]:
    """Passages (x, y), y a letter ahead: so many drawn from nine tenths of the text, and others of the last tenth."""
    x, y = fn.windows(library(), length)
    last = len(x) // 10
    if number + last > len(x) or held > last:
        raise SystemExit(
            f"Python's library has {len(x) - last:,} passages of {length} letters to learn from and {last:,} to hold "
            f"out, but {number:,} and {held:,} are wanted. Take fewer: smaller --steps, or --passages."
        )
    out = len(x) - last + np.arange(held) * last // held
    drawn = np.random.default_rng(0).permutation(len(x) - last)[:number]
    return (x[drawn], y[drawn]), (x[out], y[out])


def written(tokens: np.ndarray) -> str:
    """Tokens as text; what is not ASCII as a dot."""
    return "".join(chr(token) if token == 10 or 32 <= token < 127 else "·" for token in np.asarray(tokens))
