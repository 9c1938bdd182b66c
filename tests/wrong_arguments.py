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
import tempfile
import time
import warnings
from typing import NamedTuple

if __name__ == "__main__":
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import jax
import numpy as np
import right_calls
from wrong_values import FITS, is_key, kind_of, values_for

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


def quotes(words, value):
    """Whether a message shows the value itself, so that nobody looks for it."""
    text = repr(value)
    return 5 < len(text) < 100 and text in words


def same(found, expected):
    """Whether two results hold the same numbers."""
    if type(found).__module__.startswith("matplotlib"):
        return type(found) is type(expected) and _drawn(found) == _drawn(expected)
    leaves = [jax.tree.leaves(result) for result in (found, expected)]
    if not any(leaves):  # a spec, a text, nothing
        return repr(found) == repr(expected)
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
        kind = "clear" if names(words, argument) or quotes(words, value) else "unnamed"
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
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # "text" is a file's name, too
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
