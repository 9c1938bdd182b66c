"""Compiled programs that are kept for the latest kinds of call, and let go of after that."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

import jax

KEPT = 16
Result = TypeVar("Result")


class Program(Generic[Result]):
    """`jax.jit` of a function, with a program for each of the 16 latest kinds of call.

    A kind is what is compiled anew: other static parts (a new optimiser is one), or arrays of other shapes or types.
    `jax.jit` keeps the programs of all kinds as long as its function lives. Each takes memory and some 250 memory maps,
    of which a Linux process has 65,530: a loop over optimisers would end in a segmentation fault.
    """

    def __init__(self, function: Callable[..., Result]) -> None:
        self.function = function
        self.kinds: OrderedDict[Hashable, Any] = OrderedDict()
        self.lock = threading.Lock()

    def __call__(self, *arguments: Any) -> Result:
        leaves, structure = jax.tree.flatten(arguments)
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return self.function(*arguments)  # part of the caller's program
        return self._of(leaves, structure)(*arguments)

    def eval_shape(self, *arguments: Any) -> Any:
        """The shapes of the results, of arguments or their shapes; traced once for both."""
        return self._of(*jax.tree.flatten(arguments)).eval_shape(*arguments)

    def _of(self, leaves: list[Any], structure: Any) -> Any:
        kind = structure, tuple([(getattr(a, "shape", ()), getattr(a, "dtype", None) or type(a)) for a in leaves])
        with self.lock:
            program = self.kinds.pop(kind, None) or jax.jit(lambda *arguments: self.function(*arguments))
            self.kinds[kind] = program  # the latest stands last
            while len(self.kinds) > KEPT:
                self.kinds.popitem(last=False)
        return program
