"""`summary`: a network as a table of shapes, parameters, operations and memory."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from funcnet._core import arguments, scalars, walkers, workarounds
from funcnet._core.protocols import AnyLayer, ArrayLike, Params, Tree
from funcnet._core.tables import aligned, html_table
from funcnet.derivations.chains import links

WIDE = 60  # letters of a layer in the table
NUMBERS = (0, 3, 4, 5, 6)  # columns of the table


@dataclasses.dataclass(frozen=True)
class Row:
    """One layer.

    Attributes:
        layer: the code that makes it, or its first 60 letters.
        output: the shape of what it gives.
        parameters: how many numbers it learns.
        forward, backward: floating-point operations of its share of `value_and_grad`; NaN where JAX's backend
            cannot count them.
        tape: bytes that it keeps for the backward pass, beyond what layers before it keep already.
    """

    layer: str
    output: tuple[int, ...]
    parameters: int
    forward: float
    backward: float
    tape: int


@dataclasses.dataclass(frozen=True, repr=False)
class Summary:
    """A table with a row for every layer, and totals.

    Attributes:
        input: the shape that comes in.
        rows: one for every layer; nested chains are opened, other combinators are one row.
    """

    input: tuple[int, ...]
    rows: tuple[Row, ...]

    @property
    def parameters(self) -> int:
        return sum(row.parameters for row in self.rows)

    @property
    def forward(self) -> float:
        return sum(row.forward for row in self.rows)

    @property
    def backward(self) -> float:
        return sum(row.backward for row in self.rows)

    @property
    def tape(self) -> int:
        return sum(row.tape for row in self.rows)

    def __str__(self) -> str:
        return "\n".join(aligned(self._table(), NUMBERS, gap="  ", indent=""))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(self._table(), NUMBERS)

    def _table(self) -> list[list[str]]:
        head = ["", "layer", "output", "parameters", "flops forward", "backward", "tape bytes"]
        table = [head, ["", "input", _shape(self.input), "", "", "", ""]]
        for number, row in enumerate(self.rows, 1):
            table.append([str(number), row.layer, _shape(row.output), *_counts(row)])
        return [*table, ["", "total", "", *_counts(self)]]


def summary(net: AnyLayer, x: ArrayLike | tuple[int, ...]) -> Summary:
    """A table of the network: output shapes, parameters, floating-point operations, bytes of tape.

    Operations are counted by JAX from each layer's own program, so a user's layer is counted like the others.
    Forward is `predict`; backward is what `value_and_grad` adds: ∂J/∂x where a layer below has parameters, and the
    gradient. The cost itself, transcendental functions (exp, tanh, counted by JAX apart) and what the compiler
    fuses away are not in it.

    Args:
        net: a layer.
        x: an input (m, *positions, features), or integers (m, *positions), or its shape.

    Returns:
        A `Summary`, which prints as a table. Nothing is computed or compiled.

    Raises:
        ValueError: an input or shape that does not fit the network.
        TypeError: `net` is not a layer.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> fn.summary(fn.mlp((784, 100, 10), fn.ReLU()), jnp.ones((32, 784), "float32"))
           layer            output    parameters  flops forward   backward  tape bytes
           input            32 × 784
        1  Dense(784, 100)  32 × 100      78,500      5,020,800  5,020,700     100,352
        2  ReLU()           32 × 100           0          3,200      6,401      12,800
        3  Dense(100, 10)   32 × 10        1,010         64,320    128,310           0
           total                          79,510      5,088,320  5,155,411     113,152
    """
    arguments.check_layer_functions(net)
    given = _struct(net, x)
    dtype = given.dtype if jnp.issubdtype(given.dtype, jnp.floating) else jnp.zeros(()).dtype
    structs = jax.eval_shape(lambda: net.init(jax.random.key(0)))
    structs = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), structs)
    layers = list(links(net, structs))
    learning = [place for place, (_, params) in enumerate(layers) if jax.tree.leaves(params)]
    first = min(learning, default=len(layers))
    rows, inputs = [], given
    for place, ((layer, params), tape) in enumerate(zip(layers, _tape_bytes(layers, given))):
        learns, passes_on = place >= first, place > first
        with workarounds.set_aside():
            output, forward, backward = _operations(layer, params, inputs, learns, passes_on)
        count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
        rows.append(Row(_code(layer), output.shape, count, forward, backward, tape))
        inputs = output
    return Summary(given.shape, tuple(rows))


def _struct(net: AnyLayer, x: Any) -> jax.ShapeDtypeStruct:
    first = next((leaf for _, leaf in walkers.leaves(net)), None)
    tokens = hasattr(first, "vocabulary")
    if isinstance(x, tuple | list) and all(map(scalars.is_integer, x)):
        shape, dtype = tuple(map(int, x)), jnp.zeros((), int if tokens else float).dtype
    else:
        array = x if isinstance(x, jax.ShapeDtypeStruct) else arguments.as_array("x", x)
        shape, dtype = tuple(array.shape), array.dtype
    if tokens and jnp.issubdtype(dtype, jnp.integer) and shape:
        return jax.ShapeDtypeStruct(shape, dtype)
    if len(shape) < 2 or min(shape) < 0 or not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(
            f"x: expected a floating input (m, *positions, features) or its shape, got shape {shape} of {dtype}. "
            f"For one example of {shape[-1] if shape else 'n'} features write (1, {shape[-1] if shape else 'n'})."
        )
    return jax.ShapeDtypeStruct(shape, dtype)


def _operations(
    layer: AnyLayer, params: Params, x: jax.ShapeDtypeStruct, learns: bool, passes_on: bool
) -> tuple[jax.ShapeDtypeStruct, float, float]:
    """What a layer gives, its operations forward, and those that a pass forward and backward has more."""

    def both(params: Params, x: jax.Array, delta: jax.Array) -> Tree:
        y, tape = walkers.layer_forward(layer, params, x)
        input_delta, grads = walkers.pull(layer, walkers.gradient_of_leaf, params, tape, delta)
        return (y, input_delta, grads) if passes_on else (y, grads)

    def output(params: Params, x: jax.Array) -> jax.Array:
        return walkers.layer_forward(layer, params, x)[0]

    y = jax.eval_shape(output, params, x)
    forward = _flops(output, params, x)
    return y, forward, _flops(both, params, x, y) - forward if learns else 0.0


def _flops(function: Callable[..., Any], *structs: Any) -> float:
    """As JAX counts them in the program before it is compiled; what the result does not need is not in it."""
    analysis = jax.jit(function).lower(*structs).cost_analysis()
    return math.nan if analysis is None else float(analysis.get("flops", 0.0))


def _tape_bytes(layers: list[tuple[Any, ...]], x: jax.ShapeDtypeStruct) -> list[int]:
    """Bytes that each layer's tape adds. An array that two tapes hold is one array, and parameters are there anyway."""
    sizes = []

    def run(params_of_layers: list[Params], x: jax.Array) -> jax.Array:
        arrays = {id(leaf): leaf for leaf in jax.tree.leaves(params_of_layers)}
        for (layer, _), params in zip(layers, params_of_layers):
            x, tape = walkers.layer_forward(layer, params, x)
            new = {id(part): part for part in jax.tree.leaves(tape) if id(part) not in arrays}
            sizes.append(sum(part.size * part.dtype.itemsize for part in new.values()))
            arrays |= new
        return x

    jax.eval_shape(run, [params for _, params in layers], x)
    return sizes


def _code(layer: AnyLayer) -> str:
    """The code that makes a layer, cut off where it is long."""
    code = repr(layer)
    return code if len(code) <= WIDE else f"{code[:WIDE]}…"


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def _counts(row: Row | Summary) -> list[str]:
    flops = ("not counted" if math.isnan(count) else f"{count:,.0f}" for count in (row.forward, row.backward))
    return [f"{row.parameters:,}", *flops, f"{row.tape:,}"]
