"""`Attention`: every position takes a mean of values, weighted by how well its query fits their keys."""

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from funcnet._core.numerics import accumulation_type, total, wide
from funcnet._core.specs import spec
from funcnet._core.workarounds import not_before, queries_at_once, turns_at_once
from funcnet.layers.base import Parameterless, Pass

WHOLE, REACHES = 256, 4  # queries that are one block, if not causal; how many lengths the blocks of causal ones reach
T_AXIS = 3  # of (m, key heads, query heads for each, T, …)


@spec
class Attention(Parameterless):
    """o = softmax(q kᵀ / √d) v in each of `heads` heads of d = n / heads features.

    It has no parameters: the projections before and behind it are `Dense`. x is (m, T, (heads + 2 kv_heads) d), the
    queries, then the keys, then the values of all heads, each head after the other, and o is (m, T, n). With fewer
    kv_heads than heads, query head h uses key head h // (heads / kv_heads) (Ainslie et al., 2023). Causal: position
    t sees none behind it. Where positions have segments, those of another one are masked, and what is in segment 0
    (padding) sees none and is seen by none: its o is 0.

    The weights P are made a block of queries at a time, and made again in `backward`, so that no (T, T) stays: the tape
    is x, o, and log Σ exp of each row of S = q kᵀ/√d, (m, heads, T). ∂J/∂v = Pᵀ δ, ∂J/∂P = δ vᵀ,
    ∂J/∂S = P ⊙ (∂J/∂P - Σ δ ⊙ o), ∂J/∂q = ∂J/∂S k/√d, ∂J/∂k = (∂J/∂S)ᵀ q/√d. Causal blocks stop at the last key that
    they may see, which is nearly half of the work. Scores and sums are in float32 or better.

    Source: Vaswani et al., 2017; in blocks: Dao et al., 2022.

    Args:
        n: number of features of o.
        heads: a divisor of n.
        kv_heads: heads of keys and values, a divisor of heads; None: as many.
        causal: whether a position sees only itself and those before it.
        block: queries at a time; it need not divide T. None: 64 on CPUs, T/4 elsewhere, and up to 256 at once if not
            causal.

    Raises:
        ValueError: numbers that do not divide each other; at `forward`, inputs of another size.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> x = jnp.array([[[0.0, 1.0, 2.0], [0.0, 1.0, 4.0]]])  # q, k, v of two positions
        >>> fn.Attention(1, 1).forward((), x)[0].tolist()
        [[[2.0], [3.0]]]
    """

    n: int
    heads: int
    kv_heads: int | None = None
    causal: bool = True
    block: int | None = None
    takes: ClassVar[tuple[str, ...]] = ("segments",)
    keeps_size: ClassVar[bool] = False
    by_position: ClassVar[bool] = False
    elementwise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        keys = self.heads if self.kv_heads is None else self.kv_heads
        if min(self.n, self.heads, keys) < 1 or self.n % self.heads or self.heads % keys:
            raise ValueError(f"{self}: heads must divide n, and kv_heads must divide heads.")
        if self.block is not None and self.block < 1:
            raise ValueError(f"{self}: block must be 1 or more.")

    @property
    def n_in(self) -> int:
        return sum(self._sizes)

    @property
    def n_out(self) -> int:
        return self.n

    @property
    def input_parts(self) -> dict[str, slice]:
        """Which of its input's features are what: reports on the layer before name its parts."""
        q, k, v = self._sizes
        return {"queries": slice(0, q), "keys": slice(q, q + k), "values": slice(q + k, q + k + v)}

    @property
    def _sizes(self) -> tuple[int, int, int]:
        """Features of queries, keys and values."""
        keys = (self.kv_heads or self.heads) * self._d
        return self.n, keys, keys

    @property
    def _d(self) -> int:
        return self.n // self.heads

    def forward(self, params: Any, x: jax.Array, segments: jax.Array | None = None) -> tuple[jax.Array, Any]:
        if x.ndim != 3 or x.shape[-1] != self.n_in:
            queries, keys, values = self._sizes
            raise ValueError(
                f"{self}: expected inputs (m, T, {self.n_in}), {queries} features of queries, {keys} of keys and "
                f"{values} of values, got shape {x.shape}."
            )
        q, k, v = self._heads(x)
        outputs, log_sums = [q[:, :, :, :0]], [wide(q[:, :, :, :0, :1])]  # all there is without positions
        for rows in self._rows(x.shape[1]):
            block = partial(self._mixed, k[:, :, : rows.reach], v[:, :, : rows.reach], segments)
            parts = rows.places, rows.cut(q)
            _, (o, sums) = lax.scan(block, None, parts, unroll=turns_at_once(len(rows.places)))
            outputs.append(rows.joined(o).astype(x.dtype))
            log_sums.append(rows.joined(sums))
        o = self._features(jnp.concatenate(outputs, T_AXIS))
        sums = jnp.concatenate(log_sums, T_AXIS).reshape(x.shape[0], self.heads, x.shape[1])
        return o, (x, o, sums) if segments is None else (x, o, sums, segments)

    def _mixed(self, keys: jax.Array, values: jax.Array, segments: jax.Array | None, _: None, part: Any) -> Any:
        """o and log Σ exp of a block of queries."""
        places, q = part
        scores = _product(q, keys, (4,), (3,)) * self._d**-0.5  # (m, key heads, query heads for each, block, reach)
        if (seen := self._seen(places, keys.shape[2], segments)) is not None:
            seen = seen[:, None, None]
            scores = _masked(scores, seen)
        largest = jnp.max(scores, -1, keepdims=True)
        weights = _only(seen, jnp.exp(scores - largest), segments)
        sums = total(weights, (4,), keepdims=True)
        sums = jnp.where(sums == 0, 1, sums)
        return None, (_product(weights.astype(q.dtype), values, (4,), (2,)) / sums, largest + jnp.log(sums))

    def backward(self, params: Any, tape: Any, delta: jax.Array) -> Pass:
        x, o, log_sums, *rest = tape
        q, k, v = self._heads(not_before(x, delta))
        signal, o = (self._queries(a) for a in (delta, o))
        along = total(wide(signal) * wide(o), (4,), keepdims=True)
        parts = q, signal, along, wide(log_sums).reshape(along.shape)
        of_q = [jnp.zeros_like(q[:, :, :, :0], along.dtype)]
        of_k = of_v = jnp.zeros(k.shape, along.dtype)
        for rows in self._rows(x.shape[1]):
            block = partial(self._pulled, k[:, :, : rows.reach], v[:, :, : rows.reach], rest[0] if rest else None)
            zero = jnp.zeros_like(of_k[:, :, : rows.reach])
            cut = rows.places, *map(rows.cut, parts)
            more, one_of_q = lax.scan(block, (zero, zero), cut, unroll=turns_at_once(len(rows.places)))
            of_q.append(rows.joined(one_of_q))
            of_k, of_v = map(_added, (of_k, of_v), more)
        signals = jnp.concatenate(of_q, T_AXIS), of_k[:, :, None], of_v[:, :, None]
        return jnp.concatenate([self._features(part.astype(delta.dtype)) for part in signals], -1), delta

    def _pulled(
        self, keys: jax.Array, values: jax.Array, segments: jax.Array | None, sums: Any, part: Any
    ) -> tuple[Any, jax.Array]:
        """What a block of queries adds to ∂J/∂k and ∂J/∂v, and its ∂J/∂q.

        S, P and their derivatives are transposed here, (m, key heads, reach, query heads for each, block): three of the
        products like it better, and XLA would otherwise find S in the forward pass and keep it for here.
        """
        places, q, signal, along, log_sums = part
        along, log_sums = (jnp.moveaxis(a, 4, 2) for a in (along, log_sums))
        scores = _product(keys, q, (3,), (4,)) * self._d**-0.5
        if (seen := self._seen(places, keys.shape[2], segments)) is not None:
            seen = jnp.swapaxes(seen, 1, 2)[:, None, :, None]
            scores = _masked(scores, seen)
        p = _only(seen, jnp.exp(scores - log_sums), segments)
        slope = (p * (_product(values, signal, (3,), (4,)) - along) * self._d**-0.5).astype(q.dtype)
        more = _product(slope, q, (3, 4), (2, 3)), _product(p.astype(q.dtype), signal, (3, 4), (2, 3))
        return tuple(map(jnp.add, sums, more)), _product(slope, keys, (2,), (2,))

    @property
    def step(self) -> Any:
        """`step` of causal attention: the query of one position, with the keys and values of those before it."""
        return self._step if self.causal else None

    def cache(self, m: int, length: int, dtype: Any) -> tuple[jax.Array, jax.Array]:
        """Keys and values of positions to come."""
        empty = jnp.zeros((m, self.kv_heads or self.heads, length, self._d), dtype)
        return empty, empty

    def _step(self, params: Any, x: jax.Array, cache: Any, place: jax.Array) -> tuple[jax.Array, Any]:
        q, *new = self._heads(x[:, None])
        keys, values = (
            lax.dynamic_update_slice_in_dim(old, one.astype(old.dtype), place, 2) for old, one in zip(cache, new)
        )
        scores = _product(q, keys.astype(q.dtype), (4,), (3,)) * self._d**-0.5
        weights = jax.nn.softmax(_masked(scores, (jnp.arange(keys.shape[2]) <= place)[None, None, None, None]))
        o = _product(weights.astype(q.dtype), values.astype(q.dtype), (4,), (2,))
        return self._features(o.astype(x.dtype))[:, 0], (keys, values)

    def _heads(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries (m, key heads, query heads for each, T, d), keys and values (m, key heads, T, d)."""
        q, k, v = jnp.split(x, [self.n, self.n + self._sizes[1]], -1)
        return self._queries(q), self._queries(k)[:, :, 0], self._queries(v)[:, :, 0]

    def _queries(self, x: jax.Array) -> jax.Array:
        m, T, features = x.shape
        keys = self.kv_heads or self.heads
        return x.reshape(m, T, keys, features // (keys * self._d), self._d).transpose(0, 2, 3, 1, 4)

    def _features(self, x: jax.Array) -> jax.Array:
        m, keys, each, T, d = x.shape
        return x.transpose(0, 3, 1, 2, 4).reshape(m, T, keys * each * d)

    def _seen(self, places: jax.Array, reach: int, segments: jax.Array | None) -> jax.Array | None:
        """Which of the first keys queries at these places see: (m or 1, queries, keys); None: all."""
        seen = (places[:, None] >= jnp.arange(reach)[None])[None] if self.causal else None
        if segments is None:
            return seen
        of_q, of_k = jnp.take(segments, places, 1)[:, :, None], segments[:, None, :reach]
        same = (of_q == of_k) & (of_k > 0)
        return same if seen is None else same & seen

    def _rows(self, T: int) -> Iterator["_Rows"]:
        """Blocks of queries, first a smaller one if need be; those of one loop reach equally far."""
        if not T:
            return
        size = self.block or (T if not self.causal and T <= WHOLE else queries_at_once(T))
        number, first = divmod(T, size)
        if first:
            yield _Rows(0, first, first, first if self.causal else T)
        loops = min(number, REACHES if self.causal else 1)
        for i in range(loops):
            start, stop = (first + size * (number * j // loops) for j in (i, i + 1))
            yield _Rows(start, stop, size, stop if self.causal else T)


@dataclasses.dataclass(frozen=True)
class _Rows:
    """Queries from `start` on to `stop`, `block` at a time, that see no key from `reach` on."""

    start: int
    stop: int
    block: int
    reach: int

    @property
    def places(self) -> np.ndarray:
        return np.arange(self.start, self.stop).reshape(-1, self.block)

    def cut(self, a: jax.Array) -> jax.Array:
        """(m, ·, ·, T, ·) as (blocks, m, ·, ·, block, ·)."""
        a = a[:, :, :, self.start : self.stop]
        blocks = (self.stop - self.start) // self.block
        return jnp.moveaxis(a.reshape(*a.shape[:T_AXIS], blocks, self.block, a.shape[-1]), T_AXIS, 0)

    def joined(self, blocks: jax.Array) -> jax.Array:
        a = jnp.moveaxis(blocks, 0, T_AXIS)
        return a.reshape(*a.shape[:T_AXIS], self.stop - self.start, a.shape[-1])


def _product(a: jax.Array, b: jax.Array, over_a: tuple[int, ...], over_b: tuple[int, ...]) -> jax.Array:
    """Σ over these axes of a·b, for each example and key head, in the accumulation type."""
    dimensions = (over_a, over_b), ((0, 1), (0, 1))
    return lax.dot_general(a, b, dimensions, preferred_element_type=accumulation_type(a.dtype))


def _masked(scores: jax.Array, seen: jax.Array) -> jax.Array:
    """Scores of what is not seen are the lowest that there is: finite, since -∞ less -∞ is NaN."""
    return jnp.where(seen, scores, jnp.finfo(scores.dtype).min)


def _only(seen: jax.Array | None, weights: jax.Array, segments: jax.Array | None) -> jax.Array:
    """The weights of what is seen: with segments a row may see nothing, and exp then gives 1 in the place of 0."""
    return weights if seen is None or segments is None else jnp.where(seen, weights, 0)


def _added(whole: jax.Array, part: jax.Array) -> jax.Array:
    """The whole with a part added to its first positions."""
    reach = part.shape[2]
    if reach == whole.shape[2]:
        return whole + part
    return lax.dynamic_update_slice(whole, whole[:, :, :reach] + part, (0,) * 4)
