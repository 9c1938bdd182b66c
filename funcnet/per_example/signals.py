"""How the error signal travels: a few numbers for each layer, from one backward pass."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core.contractions import gradient_shapes
from funcnet._core.numerics import accumulation_type, total, wide
from funcnet._core.outlines import type_and_shape
from funcnet._core.protocols import AnyLayer, Layer, Params, Tree
from funcnet._core.tables import aligned, html_table
from funcnet._core.trees import as_params
from funcnet._core.walkers import contract, gradient_of_leaf, has_names, leaves
from funcnet.per_example.gradients import check_backprop
from funcnet.propagation import Backprop

HARDLY = 1e-3  # a slope below which a unit passes nothing on
FLAT = 0.05  # of the steepest slope, below which a unit is saturated

OWN = ("dead", "saturated")  # what a layer has only before an activation
SIZES = ("a", "delta", "gradient", "weight", "gradient_to_weight", *OWN)
NUMBERS = range(1, len(SIZES) + 1)  # columns of the table


class Flow(dict[str, dict[str, jax.Array]]):
    """For every layer its sizes by name. A dict that prints as a table, and a pytree that keeps the layers' order."""

    def __repr__(self) -> str:
        return "\n".join(aligned(self._table(), NUMBERS, gap="  ", indent=""))

    def _repr_html_(self) -> str:
        return html_table(self._table(), NUMBERS)

    def _table(self) -> list[list[str]]:
        return [["", *SIZES], *([layer, *(_cell(sizes[name]) for name in SIZES)] for layer, sizes in self.items())]


def _flatten(flow: Flow) -> tuple[list[tuple[Any, Any]], tuple[str, ...]]:
    return [(jax.tree_util.DictKey(layer), sizes) for layer, sizes in flow.items()], tuple(flow)


jax.tree_util.register_pytree_with_keys(Flow, _flatten, lambda layers, sizes: Flow(zip(layers, sizes)))


def gradient_flow(net: AnyLayer, bp: Backprop, params: Params) -> Flow:
    """What to look at when a network does not learn: sizes of signals, errors, gradients, layer by layer.

    Args:
        net: a layer.
        bp: its `Backprop`, with m examples.
        params: the parameters it was made with.

    Returns:
        A dict that prints as a table. For every layer with parameters, counted from 1 ("layer 1"; where layers have
        names, "layer 9, block 2, feed-forward, Dense 1"), scalars by name. The projection before an `Attention` is
        three of them, "…, queries", "…, keys" and "…, values":

        - "a": rms of its tape, which for `Dense` is what came in;
        - "delta": rms of its deltas, of the summed cost;
        - "gradient": rms of the mean gradient Σ_i g_i / m;
        - "weight": rms of its parameters;
        - "gradient_to_weight": the ratio of the two before;
        - "dead": the share of units behind the activation that follows whose slope stays below 1e-3 at
          every example and position, so that nothing gets past them;
        - "saturated": the share of entries there whose slope is below 5 % of the steepest, for `Sigmoid`
          and `Tanh`.

        The last two are NaN where no activation follows, or one that has no steepest slope. An rms is
        √(mean of squares).

    Raises:
        TypeError: `bp` is not a `Backprop`.
        ValueError: bp of another network.

    Cost:
        One gradient (its products, and memory of the parameters' size), and passes over tape and deltas.

    Source: Glorot and Bengio, 2010 (signals and gradients by layer); Lu et al., 2020 (dying ReLU).

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> net = fn.Chain(fn.Dense(1, 2), fn.ReLU(), fn.Dense(2, 1))
        >>> params = fn.from_weights(net, [[[1.0, -1.0]], [[1.0], [1.0]]])
        >>> x = jnp.array([[1.0], [2.0]])
        >>> flow = fn.gradient_flow(net, fn.backprop(net, fn.SquaredError(), params, x, x - 1), params)
        >>> float(flow["layer 1"]["dead"]), float(flow["layer 2"]["delta"])
        (0.5, 1.0)
    """
    m = max(check_backprop(net, bp), 1)
    params = as_params(net, params, None)
    sums = contract(net, gradient_of_leaf, bp.tape, bp.deltas)
    flow = flow_of(net, bp, params, jax.tree.map(lambda g: g / m, sums), apart=True)
    nan: Any = np.asarray(np.nan, accumulation_type(bp.costs.dtype))  # no result of JAX's, for jax_debug_nans
    return Flow({name: {what: nan if v is None else v for what, v in sizes.items()} for name, sizes in flow.items()})


def flow_of(
    net: AnyLayer, bp: Backprop, params: Params, grads: Tree, counted: jax.Array | None = None, apart: bool = False
) -> dict[str, dict[str, jax.Array | None]]:
    """`gradient_flow` for a mean gradient that is there already; of the examples that count, if not all do.

    What a layer does not have is None. `apart`: the parts of an attention's projection each by itself.
    """
    dtype, named = accumulation_type(bp.costs.dtype), has_names(net)

    def look(leaf: Layer, tape: Tree, deltas: Tree) -> dict[str, jax.Array | None]:
        if gradient_shapes(leaf, tape, deltas) != ():
            own: dict[str, jax.Array | None] = {"a": rms(tape, counted), "delta": rms(deltas, counted)}
            return own | {"signals": _of_features(deltas)} if apart and getattr(leaf, "as_dense", None) else own
        if not getattr(leaf, "elementwise", False):
            return {}
        slope, _ = leaf.backward((), tape, jax.tree.map(jnp.ones_like, deltas))
        rows = tuple(range(slope.ndim - 1))
        dead = jnp.mean(jnp.all(jnp.abs(slope) < HARDLY, rows), dtype=dtype)
        steepest = getattr(leaf, "steepest", None)
        where = None if counted is None else _along(counted, slope)
        flat = None if steepest is None else jnp.mean(slope < FLAT * steepest, dtype=dtype, where=where)
        return {"dead": dead, "saturated": flat}

    flow: dict[str, dict[str, jax.Array | None]] = {}
    number, last, signals = 0, "", None
    inside: tuple[Tree, Tree] = (), ()
    followed = True  # the first activation after a layer is the one that counts
    for name, leaf, sizes, weights, slopes in leaves(net, contract(net, look, bp.tape, bp.deltas), params, grads):
        if "a" in sizes:
            number += 1
            last = f"layer {number}, {name}" if named else f"layer {number}"
            signals, inside = sizes.pop("signals", None), (weights, slopes)
            flow[last] = _with_gradient(sizes, *inside) | dict.fromkeys(OWN)
            followed = False
        elif sizes and not followed:
            flow[last] |= sizes
            followed = True
        elif signals is not None and not followed and getattr(leaf, "input_parts", None):
            followed, columns_of = True, leaf.input_parts
            if signals.size != max(columns.stop for columns in columns_of.values()):
                continue  # its input is not one layer's
            whole, prefix = flow.pop(last), last.rpartition(", ")[0] if named else last
            for part, columns in columns_of.items():
                own = {"a": whole["a"], "delta": jnp.sqrt(jnp.mean(signals[columns]))}
                of_part, slopes_of_part = jax.tree.map(lambda a, columns=columns: a[..., columns], inside)
                flow[f"{prefix}, {part}"] = _with_gradient(own, of_part, slopes_of_part) | dict.fromkeys(OWN)
            signals = None
    return flow


def _with_gradient(sizes: dict[str, jax.Array | None], weights: Tree, slopes: Tree) -> dict[str, jax.Array | None]:
    gradient, weight = rms(slopes), rms(weights)
    return sizes | {"gradient": gradient, "weight": weight, "gradient_to_weight": gradient / weight}


def _of_features(deltas: jax.Array) -> jax.Array:
    """The mean square of each feature's error signal."""
    rows = tuple(range(deltas.ndim - 1))
    return total(jnp.square(wide(deltas)), rows) / max(deltas.size // deltas.shape[-1], 1)


def number_of(name: str) -> int:
    """The number of the layer with this name in a flow, by which names are sorted."""
    return int(name.split()[1].rstrip(","))


def rms(tree: Tree, counted: jax.Array | None = None) -> Any:
    """√(mean of squares) over all real numbers of a tree, or of the examples that count; NaN if there are none."""
    floats = [wide(leaf) for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    if not floats:
        return np.asarray(np.nan, np.float32)
    count: Any = max(sum(leaf.size for leaf in floats), 1)
    if counted is not None:
        floats = [jnp.where(_along(counted, leaf), leaf, 0) for leaf in floats]
        count = count * counted.mean(dtype=floats[0].dtype)
    return jnp.sqrt(jnp.sum(jnp.stack([total(jnp.square(leaf)) for leaf in floats])) / count)


def _along(counted: jax.Array, values: jax.Array) -> jax.Array:
    """One number for each example, shaped to stand beside an array with examples first."""
    return counted.reshape(-1, *[1] * (values.ndim - 1))


def _cell(size: Any) -> str:
    """A number; of one that is traced, or of many side by side, what it is."""
    known = isinstance(size, jax.Array | np.ndarray | float) and not isinstance(size, jax.core.Tracer)
    return f"{float(size):.3g}" if known and np.ndim(size) == 0 else type_and_shape(size)
