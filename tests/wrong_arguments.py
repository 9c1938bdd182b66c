"""Hand every public function wrong arguments, and count what it says: `python tests/wrong_arguments.py [name]`.

From one right call of each (`right_calls.py`) every argument in turn is replaced by about 50 values. What comes is

- clear: an error that funcnet raises on purpose, and that names the argument (or the spec's field);
- unnamed: one that does not name it;
- internal: an error in the words of JAX, NumPy or Python;
- accepted: a result. It is right where the argument takes such a value, or the numbers are those of the right call;
  what is left is wrong, and must be none.

With a name only the functions whose name begins with it are called; `--all` prints a line for each function,
`--show N` N examples of each class that should be empty, `--clear N` some clear messages to read.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import dis
import inspect
import io
import multiprocessing
import os
import pathlib
import re
import signal
import sys
import time
import warnings
from typing import NamedTuple

if __name__ == "__main__":
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import jax
import jax.numpy as jnp
import numpy as np
import optax
import right_calls
from right_calls import SGD

import funcnet as fn

PACKAGE = str(pathlib.Path(fn.__file__).parent)
SECONDS = 20  # that one call may take
MOST_INTERNAL = 0.03


class Outcome(NamedTuple):
    function: str
    argument: str
    value: str
    kind: str  # clear, unnamed, internal, right, accepted, slow
    words: str


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
    "layer": lambda value: hasattr(value, "forward") and not isinstance(value, type),
    "loss": lambda value: hasattr(value, "delta") and not isinstance(value, type),
    "penalty": lambda value: isinstance(value, fn.Penalty) and not isinstance(value, type),
    "optimizer": lambda value: isinstance(value, optax.GradientTransformation),
    "array": is_numeric,
    "arrays": lambda value: isinstance(value, list | tuple) and all(map(is_numeric, value)),
    "array or shape": is_numeric,
    "floats": lambda value: is_numeric(value) and np.asarray(value).dtype.kind == "f",
    "tree": lambda value: all(map(is_numeric, jax.tree.leaves(value))),
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


# ------------------------------------------------------------------ one call
class Slow(BaseException):
    """The call took too long."""


def _stop(*_):
    raise Slow


@contextlib.contextmanager
def silent():
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def guarded():
    before = signal.signal(signal.SIGALRM, _stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        with silent():
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def is_own(error):
    """Whether funcnet raised it on purpose, in words of its own."""
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    raised = dis.opname[code.co_code[trace.tb_lasti]] == "RAISE_VARARGS"
    cause = error.__cause__
    quoted = isinstance(cause, Exception) and str(cause) and str(cause) in str(error) and not is_own(cause)
    return raised and code.co_filename.startswith(PACKAGE) and not quoted


ALIASES = {
    "n_in": "sizes", "n_out": "sizes", "vocabulary": "sizes", "length": "sizes", "n": "sizes", "data": "x|y",
    "validation": "x|y", "init": "initializer", "layer": "layers", "cls": "spec", "x": "inputs",
    "name": "column|telemetry", "folder": "checkpoint in",
}  # fmt: skip


def names(words, argument):
    found = rf"\b({re.escape(argument)}|{ALIASES.get(argument, re.escape(argument))})\b"
    return re.search(found, words) is not None


def same(found, expected):
    """Whether two results hold the same numbers."""
    if type(found).__module__.startswith("matplotlib"):
        return type(found) is type(expected) and _drawn(found) == _drawn(expected)
    leaves = [jax.tree.leaves(result) for result in (found, expected)]
    return len(leaves[0]) == len(leaves[1]) and all(map(_alike, *leaves))


def _drawn(ax):
    return [repr(np.asarray(part.get_array())) for part in (*ax.images, *ax.collections)], ax.get_xlabel()


def _alike(a, b):
    if isinstance(a, np.ndarray | jax.Array | np.generic | float) and isinstance(
        b, np.ndarray | jax.Array | np.generic | float
    ):
        if is_key(a) or is_key(b):
            return is_key(a) and is_key(b) and _alike(jax.random.key_data(a), jax.random.key_data(b))
        return np.array_equal(np.asarray(a), np.asarray(b), equal_nan=np.asarray(a).dtype.kind == "f")
    return repr(a) == repr(b)


def is_default(function, argument, value):
    try:
        default = inspect.signature(function).parameters[argument].default
    except (ValueError, KeyError):
        return False
    return (value is None and default is None) or (isinstance(value, str | bool) and value == default)


def outcome(function, call, right, expected, argument, name, value):
    """What a call says when this argument holds this value."""
    try:
        with guarded():
            result = call(**{**right, argument: value})
            alike = same(result, expected)
    except Slow:
        return Outcome(function, argument, name, "slow", "")
    except Exception as error:
        words = str(error)
        if not is_own(error):
            return Outcome(function, argument, name, "internal", f"{type(error).__name__}: {words}")
        kind = "clear" if names(words, argument) else "unnamed"
        return Outcome(function, argument, name, kind, f"{type(error).__name__}: {words}")
    fits = FITS[kind_of(function, argument, right[argument])](value) or is_default(call, argument, value)
    words = "the same numbers" if alike else "other numbers"
    return Outcome(function, argument, name, "right" if fits or alike else "accepted", words)


def outcomes_of(function):
    """All calls of one function."""
    with silent():
        call, right = right_calls.CALLS[function]()
        expected = call(**right)
    found = []
    for argument, own in right.items():
        for name, value in values_for(own):
            found.append(outcome(function, call, right, expected, argument, name, value))
    jax.clear_caches()  # the programs of what was accepted
    return found


def count(functions, workers=1):
    """For each of these functions all outcomes, on so many processes."""
    if workers == 1:
        yield from map(outcomes_of, functions)
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, context) as pool:
        yield from pool.map(outcomes_of, functions)


# ------------------------------------------------------------------ words
CLASSES = ("clear", "unnamed", "internal", "right", "accepted", "slow")


def line(title, outcomes):
    counts = collections.Counter(one.kind for one in outcomes)
    return f"{title:28}" + "".join(f"{counts[kind]:>10,}" for kind in CLASSES) + f"{len(outcomes):>10,}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("function", nargs="?", default="", help="the beginning of a name")
    parser.add_argument("--all", action="store_true", help="a line for each function")
    parser.add_argument(
        "--show", type=int, default=0, metavar="N", help="examples of unnamed, internal, accepted, slow"
    )
    parser.add_argument("--clear", type=int, default=0, metavar="N", help="clear messages, drawn at random")
    parser.add_argument("--right", type=int, default=0, metavar="N", help="accepted values, drawn at random")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    options = parser.parse_args()
    began = time.perf_counter()
    functions = [name for name in right_calls.CALLS if name.startswith(options.function)]
    print(f"{'':28}" + "".join(f"{kind:>10}" for kind in CLASSES) + f"{'calls':>10}")
    found = []
    for function, outcomes in zip(functions, count(functions, options.workers)):
        found += outcomes
        if options.all:
            print(line(function, outcomes), flush=True)
    print(line("all", found))
    wanted = dict.fromkeys(("unnamed", "internal", "accepted", "slow"), options.show)
    draw = np.random.default_rng(0)
    for kind, most in {**wanted, "clear": options.clear, "right": options.right}.items():
        chosen = [one for one in found if one.kind == kind]
        for i in sorted(draw.permutation(len(chosen))[:most]):
            one = chosen[i]
            print(f"{kind}: {one.function}, {one.argument} = {one.value}: {one.words[:400]}")
    internal = sum(one.kind == "internal" for one in found) / max(len(found), 1)
    accepted = sum(one.kind == "accepted" for one in found)
    print(f"{internal:.1%} internal, {accepted} accepted that are wrong, {time.perf_counter() - began:.0f} s")
    sys.exit(internal > MOST_INTERNAL or accepted > 0)


if __name__ == "__main__":
    main()
