"""`Embedding`: a row of a table for each token; `Tied`: a network whose output reads the same table."""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from funcnet._core import tokens
from funcnet._core.context import Context, context_of
from funcnet._core.keys import child_key
from funcnet._core.numerics import sum_of_products, wide
from funcnet._core.products import DenseForm, square_norms
from funcnet._core.protocols import AnyLayer, Initializer, Params, Tree
from funcnet._core.specs import spec
from funcnet._core.walkers import (
    LeafFunction,
    Part,
    contract,
    deltas_alone,
    layer_forward,
    layer_step,
    pull,
    title_of,
)
from funcnet.initializers import Normal


@spec
class Embedding:
    """y = e[x]: row x of a table, for each integer x (a token, a word, a category).

    Parameters: `{"e": (vocabulary, n_out)}`. x is (m, *positions), of integers 0 … vocabulary - 1, and y
    (m, *positions, n_out). The tape is x: ∂J/∂e[v] = Σ δ over the positions that hold v, a scatter. Integers have no
    error signal: ∂J/∂x is zeros of x's type.

    An integer out of range is refused where it can be seen; under `jit` its row is NaN, never another token's.

    Args:
        vocabulary: how many integers there are.
        n_out: number of features of each.
        init: how e starts.

    Raises:
        TypeError: at `forward`, an x that holds no integers.
        ValueError: a size below 1.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> layer, params = fn.Embedding(3, 2), {"e": jnp.array([[0.0, 0.0], [1.0, 2.0], [3.0, 4.0]])}
        >>> y, tape = layer.forward(params, jnp.array([[2, 1]]))
        >>> y.tolist(), layer.gradient(tape, y)["e"].tolist()
        ([[[3.0, 4.0], [1.0, 2.0]]], [[0.0, 0.0], [1.0, 2.0], [3.0, 4.0]])
    """

    vocabulary: int
    n_out: int
    initializer: Initializer
    by_position: ClassVar[bool] = True

    def __init__(self, vocabulary: int, n_out: int, init: Initializer = Normal(0.02)) -> None:
        for name, value in (("vocabulary", vocabulary), ("n_out", n_out), ("initializer", init)):
            object.__setattr__(self, name, value)
        self.__post_init__()

    def __post_init__(self) -> None:
        if self.vocabulary < 1 or self.n_out < 1:
            raise ValueError(f"{self}: sizes must be 1 or more.")

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        return {"e": self.initializer(key, (self.vocabulary, self.n_out), jnp.zeros(()).dtype)}

    def forward(self, params: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        if not jnp.issubdtype(x.dtype, jnp.integer):
            raise TypeError(
                f"{self}: expected integers 0 … {self.vocabulary - 1} shaped (m, *positions), got {x.dtype}. "
                "Use x.astype(int)."
            )
        return tokens.rows(params["e"], x), x

    def backward(self, params: Any, tape: jax.Array, delta: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.zeros_like(tape), delta

    def gradient(self, tape: jax.Array, deltas: jax.Array) -> dict[str, jax.Array]:
        return {"e": tokens.sums(self.vocabulary, tape, deltas)}

    def square_norms(self, tape: jax.Array, deltas: jax.Array) -> jax.Array:
        """Σ over an example's distinct tokens of ‖Σ δ over their positions‖²."""
        return tokens.square_norms(*tokens.by_example(tape, deltas))

    def square_sum(self, tape: jax.Array, deltas: jax.Array) -> dict[str, jax.Array]:
        ids, sums = tokens.summed_at_first(*tokens.by_example(tape, deltas))
        return self.gradient(ids, jnp.square(sums))

    def inner(self, tape: jax.Array, deltas: jax.Array, tape2: jax.Array, deltas2: jax.Array) -> jax.Array:
        first, second = tokens.by_example(tape, deltas), tokens.by_example(tape2, deltas2)
        return tokens.inner(self.vocabulary, first, second)

    def as_dense(self, tape: jax.Array, deltas: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The inputs are unit vectors, given by the place of their 1."""
        return tokens.by_example(tape, deltas)


class Uses(NamedTuple):
    """What a table that is read at both ends keeps: of its use at the input, and of that at the output.

    In a tape: the tokens, and h, what is multiplied with every row. In deltas: the error signals of the rows read, and
    of the products.
    """

    first: jax.Array
    last: jax.Array


@spec
class TiedEmbedding:
    """The leaf layer of `Tied`: one table, both of its uses in one tape, so that their gradients are one gradient."""

    layer: Embedding
    by_position: ClassVar[bool] = True

    def __repr__(self) -> str:
        return repr(self.layer)

    @property
    def vocabulary(self) -> int:
        return self.layer.vocabulary

    def init(self, key: jax.Array) -> Params:
        return self.layer.init(key)

    def forward(self, params: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self.layer.forward(params, x)

    def backward(self, params: Any, tape: jax.Array, delta: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self.layer.backward(params, tape, delta)

    def gradient(self, tape: Uses, deltas: Uses) -> dict[str, jax.Array]:
        rows = self.layer.gradient(tape.first, deltas.first)["e"]
        delta, h = (a.reshape(math.prod(a.shape[:-1]), a.shape[-1]) for a in (deltas.last, tape.last))
        return {"e": rows + sum_of_products(delta, h, (0,), (0,))}

    def square_norms(self, tape: Uses, deltas: Uses) -> jax.Array | None:
        """‖S + D‖² = ‖S‖² + ‖D‖² + 2 Σ_st δ_s[x_t] (h_s · δ_t), with S of the rows read and D of the products.

        Where the two nearly cancel, rounding is left behind: a norm may be too large by it, never too small.
        """
        ids, delta_in = tokens.by_example(tape.first, deltas.first)
        h, delta_out = (
            wide(a).reshape(len(a), math.prod(a.shape[1:-1]), a.shape[-1]) for a in (tape.last, deltas.last)
        )
        products = square_norms(DenseForm(h, delta_out))
        if products is None:
            products = jnp.sum(jnp.square(_by_example(delta_out, h)), (1, 2))
        at = jnp.take_along_axis(delta_out, jnp.broadcast_to(ids[:, None], (*h.shape[:2], ids.shape[1])), 2)
        pairs = lax.dot_general(h, delta_in, (((2,), (2,)), ((0,), (0,))), precision=lax.Precision.HIGHEST)
        squares = tokens.square_norms(ids, delta_in) + products + 2 * jnp.sum(at * pairs, (1, 2))
        most = jnp.sum(_lengths(delta_in), 1) + jnp.sum(_lengths(h) * _lengths(delta_out), 1)
        return jnp.maximum(squares, 0) + 8 * jnp.finfo(h.dtype).eps * jnp.square(most)


def _lengths(rows: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.sum(jnp.square(rows), -1))


def _by_example(a: jax.Array, b: jax.Array) -> jax.Array:
    """Σ_t a_t b_tᵀ of each example."""
    return lax.dot_general(a, b, (((1,), (1,)), ((0,), (0,))), precision=lax.Precision.HIGHEST)


@spec
class Tied:
    """z = h eᵀ with h = layer(e[x]): the table that tokens come in by is also that of the logits they go out by.

    Parameters are a tuple, the embedding's and the layer's. The two uses of e are one leaf layer, whose tape holds
    both: its gradient is their sum, and so is an example's, the term between the two uses in its norm.

    Source: Press and Wolf, 2017.

    Args:
        embedding: an `Embedding`.
        layer: what lies between, with as many features at its end as the embedding has.

    Raises:
        TypeError: another layer than an `Embedding`; a value that is not a layer.
        ValueError: sizes that do not meet.

    Example:
        >>> import funcnet as fn, jax
        >>> net = fn.Tied(fn.Embedding(5, 4), fn.LayerNorm(4))
        >>> jax.tree.map(lambda leaf: leaf.shape, fn.init(net, jax.random.key(0)))
        ({'e': (5, 4)}, {'b': (4,), 'g': (4,)})
        >>> net.n_out
        5
    """

    embedding: Embedding
    layer: AnyLayer

    def __post_init__(self) -> None:
        n = self.embedding.n_out
        n_in, n_out = getattr(self.layer, "n_in", None), getattr(self.layer, "n_out", None)
        if (n_in or n) != n or (n_out or n) != n:
            raise ValueError(
                f"Tied: {self.embedding} gives {n} features, and the logits are products of {n}, but the layer between "
                f"takes {n_in} and gives {n_out}. Make them {n}."
            )

    @property
    def n_out(self) -> int:
        return self._table.vocabulary

    @property
    def by_position(self) -> bool:
        return getattr(self.layer, "by_position", False)

    @property
    def _table(self) -> Any:
        """The leaf layer that `f` sees."""
        return TiedEmbedding(self.embedding) if isinstance(self.embedding, Embedding) else self.embedding

    def init(self, key: jax.Array) -> tuple[Params, Params]:
        return self._table.init(jax.random.fold_in(key, 0)), self.layer.init(jax.random.fold_in(key, 1))

    def forward(self, params: Params, x: jax.Array, key: Context | jax.Array | None = None) -> tuple[jax.Array, Tree]:
        (table, own), context = params, context_of(key)
        h, ids = layer_forward(self.embedding, table, x)
        h, tape = layer_forward(self.layer, own, h, child_key(context, 1))
        return _logits(table, h), (Uses(ids, h), tape)

    def backward(self, params: Params, tape: Tree, delta: jax.Array) -> tuple[jax.Array, Tree]:
        return self.pull(deltas_alone, params, tape, delta)

    def pull(self, f: LeafFunction, params: Params, tape: Tree, delta: jax.Array) -> tuple[jax.Array, Tree]:
        (table, own), (uses, kept) = params, tape
        back = sum_of_products(delta, table["e"], (delta.ndim - 1,), (0,)).astype(delta.dtype)
        back, results = pull(self.layer, f, own, kept, back)
        return jnp.zeros_like(uses.first), (f(self._table, uses, Uses(back, delta)), results)

    def step(self, params: Params, x: jax.Array, cache: Tree, place: jax.Array) -> tuple[jax.Array, Tree]:
        table, own = params
        h, after = layer_step(self.layer, own, layer_forward(self.embedding, table, x)[0], cache[1], place)
        return _logits(table, h), ((), after)

    def contract(self, f: LeafFunction, *kept: Tree) -> tuple[Tree, Tree]:
        uses, rest = zip(*kept)
        return f(self._table, *uses), contract(self.layer, f, *rest)

    def parts(self) -> Iterator[Part]:
        yield "", self._table, lambda tree: tree[0]
        yield title_of(self.layer), self.layer, lambda tree: tree[1]

    def with_children(self, change: Callable[[Any], Any]) -> "Tied":
        new = copy.copy(self)
        object.__setattr__(new, "embedding", change(self._table))
        object.__setattr__(new, "layer", change(self.layer))
        return new


def _logits(table: Params, h: jax.Array) -> jax.Array:
    return sum_of_products(h, table["e"], (h.ndim - 1,), (1,)).astype(h.dtype)
