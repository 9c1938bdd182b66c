"""The values that `wrong_arguments.py` hands in, and which of them an argument may well hold."""

import inspect
import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import right_calls
from right_calls import SGD

import funcnet as fn


# ------------------------------------------------------------------ values
def values_for(right):
    """(name, value) of what stands in the argument's place: the same for all, and what is made of the right value."""
    m = np.float32 if not jax.config.jax_enable_x64 else np.float64
    yield from {
        "None": None,
        "text": "text",
        "bytes": b"bytes",
        "object()": object(),
        "class": fn.Tanh,
        "lambda": lambda *_: None,
        "generator": (i for i in range(3)),
        "{}": {},
        "[]": [],
        "()": (),
        "nan": float("nan"),
        "inf": float("inf"),
        "-1": -1,
        "0": 0,
        "2": 2,
        "1.5": 1.5,
        "True": True,
        "10**30": 10**30,
        "int64(2)": np.int64(2),
        "float32(0.5)": np.float32(0.5),
        "1+2j": 1 + 2j,
        "ragged": [[1.0, 2.0], [3.0]],
        "list of None": [None] * 6,
        "list of text": ["cat", "dog", "cat", "dog", "cat", "dog"],
        "array of objects": np.array([1.0, None, 2.0, "a", 3.0, 4.0], object),
        "array of text": np.array(["cat", "dog", "cat", "dog", "cat", "dog"]),
        "array of dates": np.array(["2026-01-01"] * 6, "datetime64[D]"),
        "array of no example": np.zeros((0, 3), m),
        "array of no axis": jnp.asarray(0.5, m),
        "array (6,)": np.ones(6, m),
        "array (2, 3, 4, 5, 6)": np.ones((2, 3, 4, 5, 6), m),
        "array (7, 5)": np.ones((7, 5), m),
        "array of complex": np.ones((6, 3), np.complex64),
        "array of integers": np.ones((6, 2), int),
        "array of float16": np.ones((6, 2), np.float16),
        "array of flags": np.eye(6, 2) > 0,
        "table with text": table({"a": [1.0, 2.0], "b": ["u", "v"]}),
        "sparse matrix": sparse(),
        "torch tensor": tensor(),
        "params": right_calls.params(),
        "state": right_calls.state(),
        "key": jax.random.key(3),
        "layer": fn.Tanh(),
        "loss": fn.SquaredError(),
        "penalty": fn.L2(0.3),
        "optimizer": SGD,
        "metric": fn.Accuracy(),
        "backprop": right_calls.backprop(),
        "dict of arrays": {"w": jnp.ones((3, 2)), "b": jnp.ones(2)},
        "set": {1, 2},
    }.items()
    yield from of_right(right)


def of_right(right):
    """What is nearly the right value."""
    if right is None:
        return
    yield "its class", type(right)
    yield "in a list", [right]
    yield "twice", (right, right)
    if isinstance(right, bool):
        yield "as NumPy's", np.bool_(right)
    elif isinstance(right, int | float):
        yield "as NumPy's", np.asarray(right)[()]
        yield "as text", str(right)
        yield "as float", float(right) if isinstance(right, int) else right + 0.0
        yield "in an array", np.asarray([right])
    elif isinstance(right, np.ndarray | jax.Array) and not jnp.issubdtype(right.dtype, jax.dtypes.prng_key):
        array = np.asarray(right)
        yield "as NumPy's", array
        yield "as lists", array.tolist()
        yield "as objects", array.astype(object)
        yield "as text", array.astype(str)
        if array.ndim < 3:
            yield "as a table", table(array)
        if array.dtype.kind == "i":
            yield "as floats", array.astype(float)
            yield "one-hot", np.eye(2, dtype=int)[array % 2]
        if array.ndim:
            yield "one example", array[0]
            yield "shorter", array[:-1]
            yield "one axis more", array[..., None]
            yield "one axis in front", array[None]
        if array.ndim == 2:
            yield "turned", array.T
        if array.dtype.kind == "f":
            yield "with NaN", np.where(np.arange(array.size).reshape(array.shape) == 1, np.nan, array)
            yield "minus", -array
    elif isinstance(right, tuple | list | dict):
        yield "without the first", dict([*right.items()][1:]) if isinstance(right, dict) else right[1:]
        if not isinstance(right, dict):
            yield "as a list", list(right)


def table(columns):
    pandas = __import__("pandas")
    return pandas.DataFrame(columns)


def sparse():
    return __import__("scipy.sparse").sparse.csr_matrix(np.eye(6, 3))


def tensor():
    """A tensor of PyTorch, where it is installed; else a list."""
    try:
        return __import__("torch").ones(6, 3)
    except ImportError:
        return [[1.0] * 3] * 6


# ------------------------------------------------------------------ which values are right
BY_NAME = {
    "weights": "array", "y": "array", "other": "nothing", "output": "layer", "kv_heads": "count", "block": "count",
    "stride": "count", "hidden": "count", "on_epoch": "function", "norm": "function", "f": "function",
    "metrics": "no metrics", "checkpoint": "nothing", "privacy": "nothing", "penalty": "penalty",
    "optimizer": "optimizer", "key": "key", "path": "path", "names": "nothing", "top_k": "count", "top_p": "number",
    "stop": "count",
    "positive_weight": "numbers", "strength": "strengths", "l1": "strengths", "l2": "strengths",
    "max_norm": "strength", "noise_multiplier": "strength", "expected_batch_size": "strength", "title": "anything",
    "examples": "list of 6", "labels": "list of 2", "seeds": "seeds", "learning_rate": "numbers", "sizes": "counts",
    "on": "words", "cls": "anything", "name": "word", "directory": "word", "number": "count", "column": "word",
    "value": "number", "window": "counts", "kernel_size": "counts", "predicted": "array", "wanted": "array",
    "context": "key", "weight": "nothing", "ws": "arrays", "bs": "arrays", "lane": "count", "tokens": "array",
    "data": "arrays", "trainable": "flag", "epochs": "count or None", "sweep": "sweep",
    "validation": "arrays", "compute_dtype": "nothing",
}  # fmt: skip
OWN = {
    "Privacy.max_norm": "number", "Privacy.noise_multiplier": "number", "plot_gradient_norms.max_norm": "number",
    "plot_decision_regions.names": "list of 2", "plot_cost_surface.path": "nothing",
    "Checkpoint.seconds": "number or inf", "spec.cls": "nothing", "History.seen.name": "word", "Repeat.n": "count",
    "worksheet.learning_rate": "number", "GELU.approximate": "flag", "evaluate.data": "arrays",
    "summary.x": "array or shape", "SquaredError().value.output": "array", "CrossEntropy().delta.output": "floats",
    "CrossEntropy().probabilities.output": "floats", "Accuracy().value.output": "array", "train_state.params": "tree",
    "noise_multiplier.examples": "count", "child_key.key": "key or None", "explain_page.title": "word",
    "check_function.params": "tree", "diagnose.params": "tree", "Trainings.__getitem__.lane": "integer",
}  # fmt: skip
OF_A_TYPE = (
    (bool, "flag"), (int, "count"), (float, "number"), (str, "word"), (fn.Penalty, "penalty"),
    (optax.GradientTransformation, "optimizer"),
)  # fmt: skip


def is_whole(value):
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= 0


def is_real(value):
    """Whether it is a number, or an array of no axis that holds one."""
    if isinstance(value, jax.Array) and not is_key(value):
        value = np.asarray(value)
    if isinstance(value, np.ndarray) and not value.shape:
        value = value[()]
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def is_flag(value):
    return np.asarray(value).dtype == bool


def is_numeric(value):
    """Whether NumPy reads numbers in it, and nothing but numbers."""
    try:
        return np.asarray(value).dtype.kind in "biuf"
    except (ValueError, TypeError):
        return False


def several(fits):
    return lambda value: isinstance(value, list | tuple | np.ndarray | range) and all(map(fits, value))


def is_key(value):
    return isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


FITS = {
    "nothing": lambda value: False,
    "anything": lambda value: True,
    "flag": lambda value: isinstance(value, bool | np.bool_),
    "count": is_whole,
    "counts": lambda value: several(is_whole)(value),
    "number": lambda value: is_real(value) and np.isfinite(float(value)),
    "number or inf": is_real,
    "integer": lambda value: isinstance(value, int | np.integer) and not isinstance(value, bool),
    "count or None": lambda value: value is None or is_whole(value),
    "numbers": lambda value: several(is_real)(value) or is_real(value),
    "strength": lambda value: is_whole(value) or (is_numeric(value) and not is_flag(value) and np.size(value) == 1),
    "strengths": lambda value: is_whole(value) or (is_numeric(value) and not is_flag(value)),
    "word": lambda value: isinstance(value, str),
    "words": several(lambda value: isinstance(value, str)),
    "path": lambda value: isinstance(value, str | os.PathLike),
    "key": is_key,
    "key or None": lambda value: value is None or is_key(value),
    "layer": lambda value: hasattr(value, "forward") and not isinstance(value, type),
    "loss": lambda value: hasattr(value, "delta") and not isinstance(value, type),
    "penalty": lambda value: isinstance(value, fn.Penalty) and not isinstance(value, type),
    "optimizer": lambda value: isinstance(value, optax.GradientTransformation),
    "array": is_numeric,
    "arrays": lambda value: isinstance(value, list | tuple) and all(map(is_numeric, value)),
    "array or shape": is_numeric,
    "floats": lambda value: is_numeric(value) and np.asarray(value).dtype.kind == "f",
    "tree": lambda value: all(np.asarray(leaf).dtype.kind in "biufc" for leaf in jax.tree.leaves(value)),
    "seeds": lambda value: isinstance(value, set | range) or inspect.isgenerator(value) or several(is_whole)(value),
    "sweep": lambda value: isinstance(value, dict),
    "no metrics": lambda value: isinstance(value, list | tuple) and not value,
    "function": callable,
    "list of 2": lambda value: np.iterable(value) and len(value) == 2,
    "list of 6": lambda value: np.iterable(value) and len(value) == 6,
}


def kind_of(function, argument, right):
    own = OWN.get(f"{function}.{argument}") or BY_NAME.get(argument)
    if own:
        return own
    if hasattr(right, "forward"):
        return "layer"
    if hasattr(right, "delta"):
        return "loss"
    if is_key(right):
        return "key"
    if isinstance(right, np.ndarray | jax.Array):
        return "array"
    return next((kind for of, kind in OF_A_TYPE if isinstance(right, of)), "nothing")
