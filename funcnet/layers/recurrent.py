"""`GRU`, `LSTM`: a state that goes from position to position. The error signal comes back the same way."""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from funcnet._core.arguments import check_features
from funcnet._core.numerics import accumulation_type, sum_of_products, total, wide
from funcnet._core.specs import spec
from funcnet._core.workarounds import sum_of_outer_products, turns_at_once
from funcnet.initializers import GlorotUniform
from funcnet.layers.positions import check_sequence, goes_on


@spec
class GRU:
    """h_t = (1 - z) ⊙ ñ + z ⊙ h_{t-1}, a state whose gates r and z say what is forgotten and what is kept.

    r = σ(x w_r + h u_r + b_r), z = σ(x w_z + h u_z + b_z) and ñ = tanh(x w_n + b_n + r ⊙ (h u_n + c)), with h = h_{t-1}
    and h_0 = 0: the variant with the reset behind the product, of cuDNN, Flax and PyTorch. x is (m, T, n_in), and
    y (m, T, n_out) holds every h_t. Where positions have segments, each starts anew, and in segment 0 (padding) y is 0.

    Parameters: `{"w": (n_in, 3 n_out), "u": (n_out, 3 n_out), "b": (3 n_out,), "c": (n_out,)}`, gates in the order
    r, z, n. They start as in Keras, each gate by itself: w by Glorot, u orthogonal, b and c 0. The tape is x, y, the
    gates and h u_n + c, from which `backward` takes every slope; its deltas are those of the gates' sums and of
    h u_n + c, so that each gradient is one product over all positions.

    Source: Cho et al., 2014.

    Args:
        n_in: number of features that come in.
        n_out: number of features of the state.

    Raises:
        ValueError: a size below 1; at `forward`, inputs without positions or of another size.

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp
        >>> net = fn.Chain(fn.GRU(2, 3), fn.Last(), fn.Dense(3, 1))
        >>> fn.predict(net, fn.init(net, jax.random.key(0)), jnp.ones((5, 7, 2))).shape
        (5, 1)
    """

    n_in: int
    n_out: int
    takes: ClassVar[tuple[str, ...]] = ("segments",)

    def __post_init__(self) -> None:
        _check_sizes(self)

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        n, params = self.n_out, _weights(key, self.n_in, self.n_out, 3)
        return params | {"b": jnp.zeros(3 * n, params["w"].dtype), "c": jnp.zeros(n, params["w"].dtype)}

    def forward(self, params: Any, x: jax.Array, segments: jax.Array | None = None) -> tuple[jax.Array, Any]:
        _check_input(self, x, params)
        y, gates, q = _states(partial(self._next, params), self.cache(x.shape[0], 0, x.dtype), x, params, segments)
        return y, (x, y, gates, q) if segments is None else (x, y, gates, q, segments)

    def _next(self, params: Any, h: jax.Array, sums: jax.Array) -> tuple[jax.Array, Any]:
        """The state after a position, from x w + b; and the tape."""
        of_r, of_z, of_n = jnp.split(wide(sums), 3, 1)
        more_r, more_z, product = jnp.split(sum_of_products(h, params["u"], (1,), (0,)), 3, 1)
        r, z = jax.nn.sigmoid(of_r + more_r), jax.nn.sigmoid(of_z + more_z)
        q = product + wide(params["c"])[None]
        n = jnp.tanh(of_n + r * q)
        h = ((1 - z) * n + z * wide(h)).astype(sums.dtype)
        return h, (h, jnp.concatenate([r, z, n], 1).astype(sums.dtype), q.astype(sums.dtype))

    def cache(self, m: int, length: int, dtype: Any) -> jax.Array:
        """The state before the first position."""
        return jnp.zeros((m, self.n_out), dtype)

    def step(self, params: Any, x: jax.Array, cache: jax.Array, place: jax.Array) -> tuple[jax.Array, jax.Array]:
        h, _ = self._next(params, cache.astype(x.dtype), _sums_of_gates(x[:, None], params)[0])
        return h, h.astype(cache.dtype)

    def backward(self, params: Any, tape: Any, delta: jax.Array) -> tuple[jax.Array, Any]:
        _, y, gates, q, *segments = tape
        u = params["u"]

        def step(carried: jax.Array, at: Any) -> tuple[jax.Array, Any]:
            delta, h, gates, q = map(wide, at)
            r, z, n = jnp.split(gates, 3, 1)
            delta = delta + carried
            of_n = delta * (1 - z) * (1 - n * n)
            of_z = delta * (h - n) * z * (1 - z)
            of_q, of_r = of_n * r, of_n * q * r * (1 - r)
            back = jnp.concatenate([of_r, of_z, of_q], 1).astype(u.dtype)
            carried = delta * z + sum_of_products(back, u, (1,), (1,))
            return carried, (jnp.concatenate([of_r, of_z, of_n], 1).astype(u.dtype), of_q.astype(u.dtype))

        start = jnp.zeros((delta.shape[0], self.n_out), accumulation_type(delta.dtype))
        sums, of_q = _signals(step, start, delta, (_before(y, *segments), gates, q), *segments)
        return _through(params, sums).astype(delta.dtype), (sums, of_q)

    def gradient(self, tape: Any, deltas: Any) -> dict[str, jax.Array]:
        (x, y, _, _, *segments), (sums, of_q) = tape, deltas
        of_product = jnp.concatenate([sums[..., : 2 * self.n_out], of_q], -1)
        grads = {"w": _product(x, sums), "u": _product(_before(y, *segments), of_product)}
        return grads | {"b": total(sums, (0, 1)), "c": total(of_q, (0, 1))}


@spec
class LSTM:
    """h_t = o ⊙ tanh(c_t) with c_t = f ⊙ c_{t-1} + i ⊙ g: a memory c beside the state, to which gates add.

    i, f, o = σ(x w + h u + b) and g = tanh(x w_g + h u_g + b_g), with h = h_{t-1} and h_0 = c_0 = 0. x is (m, T, n_in),
    and y (m, T, n_out) holds every h_t. Where positions have segments, each starts anew from 0, and in segment 0
    (padding) y is 0.

    Parameters: `{"w": (n_in, 4 n_out), "u": (n_out, 4 n_out), "b": (4 n_out,)}`, gates in the order i, f, g, o. They
    start as in Keras, each gate by itself: w by Glorot, u orthogonal, b 0, that of f 1 (Jozefowicz et al., 2015). The
    tape is x, y, c and the gates; the deltas are those of the gates' sums, so that each gradient is one product over
    all positions.

    Source: Hochreiter and Schmidhuber, 1997; Gers et al., 2000 (f).

    Args:
        n_in: number of features that come in.
        n_out: number of features of the state.

    Raises:
        ValueError: a size below 1; at `forward`, inputs without positions or of another size.

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp
        >>> net = fn.Chain(fn.LSTM(2, 3), fn.Last(), fn.Dense(3, 1))
        >>> fn.predict(net, fn.init(net, jax.random.key(0)), jnp.ones((5, 7, 2))).shape
        (5, 1)
    """

    n_in: int
    n_out: int
    takes: ClassVar[tuple[str, ...]] = ("segments",)

    def __post_init__(self) -> None:
        _check_sizes(self)

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        n, params = self.n_out, _weights(key, self.n_in, self.n_out, 4)
        return params | {"b": jnp.zeros(4 * n, params["w"].dtype).at[n : 2 * n].set(1)}

    def forward(self, params: Any, x: jax.Array, segments: jax.Array | None = None) -> tuple[jax.Array, Any]:
        _check_input(self, x, params)
        y, c, gates = _states(partial(self._next, params), self.cache(x.shape[0], 0, x.dtype), x, params, segments)
        return y, (x, y, c, gates) if segments is None else (x, y, c, gates, segments)

    def _next(self, params: Any, state: tuple[jax.Array, jax.Array], sums: jax.Array) -> tuple[Any, Any]:
        """The state and the memory after a position, from x w + b; and the tape."""
        h, c = state
        of_i, of_f, of_g, of_o = jnp.split(wide(sums) + sum_of_products(h, params["u"], (1,), (0,)), 4, 1)
        i, f, g, o = jax.nn.sigmoid(of_i), jax.nn.sigmoid(of_f), jnp.tanh(of_g), jax.nn.sigmoid(of_o)
        c = f * c + i * g
        h = (o * jnp.tanh(c)).astype(sums.dtype)
        return (h, c), (h, c.astype(sums.dtype), jnp.concatenate([i, f, g, o], 1).astype(sums.dtype))

    def cache(self, m: int, length: int, dtype: Any) -> tuple[jax.Array, jax.Array]:
        """The state and the memory before the first position."""
        start = jnp.zeros((m, self.n_out), dtype)
        return start, wide(start)

    def step(self, params: Any, x: jax.Array, cache: Any, place: jax.Array) -> tuple[jax.Array, Any]:
        h, c = cache
        (new, c), _ = self._next(params, (h.astype(x.dtype), c), _sums_of_gates(x[:, None], params)[0])
        return new, (new.astype(h.dtype), c)

    def backward(self, params: Any, tape: Any, delta: jax.Array) -> tuple[jax.Array, jax.Array]:
        _, _, c, gates, *segments = tape
        u = params["u"]

        def step(carried: tuple[jax.Array, jax.Array], at: Any) -> tuple[Any, jax.Array]:
            of_h, of_c = carried
            delta, before, c, gates = map(wide, at)
            i, f, g, o = jnp.split(gates, 4, 1)
            size = jnp.tanh(c)
            of_h = of_h + delta
            of_c = of_c + of_h * o * (1 - size * size)
            sums = [
                of_c * g * i * (1 - i),
                of_c * before * f * (1 - f),
                of_c * i * (1 - g * g),
                of_h * size * o * (1 - o),
            ]
            back = jnp.concatenate(sums, 1).astype(u.dtype)
            return (sum_of_products(back, u, (1,), (1,)), of_c * f), back

        start = jnp.zeros((delta.shape[0], self.n_out), accumulation_type(delta.dtype))
        sums = _signals(step, (start, start), delta, (_before(c, *segments), c, gates), *segments)
        return _through(params, sums).astype(delta.dtype), sums

    def gradient(self, tape: Any, deltas: jax.Array) -> dict[str, jax.Array]:
        x, y, _, _, *segments = tape
        return {"w": _product(x, deltas), "u": _product(_before(y, *segments), deltas), "b": total(deltas, (0, 1))}


Recurrent = GRU | LSTM


def _check_sizes(layer: Recurrent) -> None:
    if layer.n_in < 1 or layer.n_out < 1:
        raise ValueError(f"{layer}: sizes must be 1 or more.")


def _check_input(layer: Recurrent, x: jax.Array, params: Any) -> None:
    check_features(layer, x, params["w"], layer.n_in)
    check_sequence(layer, x)
    if x.ndim > 3:
        raise ValueError(
            f"{layer}: expected inputs (m, T, {layer.n_in}) with one axis of positions, got shape {x.shape}."
        )


def _weights(key: jax.Array, n_in: int, n_out: int, gates: int) -> dict[str, jax.Array]:
    """w and u at their starting values, each gate drawn by itself."""
    dtype = jnp.zeros(()).dtype
    draws: Any = (GlorotUniform(), (n_in, n_out)), (jax.nn.initializers.orthogonal(), (n_out, n_out))
    own = jax.random.split(key, (2, gates))
    w, u = (jnp.concatenate([draw(one, shape, dtype) for one in keys], 1) for keys, (draw, shape) in zip(own, draws))
    return {"w": w, "u": u}


def _sums_of_gates(x: jax.Array, params: Any) -> jax.Array:
    """x w + b, for all positions at once: (T, m, gates)."""
    sums = sum_of_products(x, params["w"], (2,), (0,)).astype(x.dtype)
    return _time_first(sums + lax.broadcast(params["b"], sums.shape[:2]))


def _through(params: Any, sums: jax.Array) -> jax.Array:
    return sum_of_products(sums, params["w"], (2,), (1,))


def _product(a: jax.Array, delta: jax.Array) -> jax.Array:
    """Σ a δᵀ over examples and positions."""
    rows: Sequence[jax.Array] = [values.reshape(-1, values.shape[-1]) for values in (a, delta)]
    return sum_of_outer_products(*rows)


def _states(next_of: Any, start: Any, x: jax.Array, params: Any, segments: jax.Array | None) -> Any:
    """What `next_of` keeps of each position, from the first on: (m, T, …), the states y first."""
    sums, turns = _sums_of_gates(x, params), turns_at_once(x.shape[1])
    if segments is None:
        return tuple(map(_examples_first, lax.scan(next_of, start, sums, unroll=turns)[1]))

    def step(state: Any, at: Any) -> Any:
        sums, goes_on, there = at
        state, kept = next_of(_where(goes_on, state), sums)
        return _where(there, state), _where(there, kept)

    xs = sums, *map(_time_first, (goes_on(segments), segments > 0))
    return tuple(map(_examples_first, lax.scan(step, start, xs, unroll=turns)[1]))


def _signals(step: Any, start: Any, delta: jax.Array, kept: Any, segments: jax.Array | None = None) -> Any:
    """What `step` gives at each position, from the last back: (m, T, …)."""
    turns = turns_at_once(delta.shape[1])
    if segments is None:
        parts = tuple(map(_time_first, (delta, *kept)))
        return jax.tree.map(_examples_first, lax.scan(step, start, parts, reverse=True, unroll=turns)[1])

    def back(carried: Any, at: Any) -> Any:
        goes_on, *at = at
        carried, signals = step(carried, tuple(at))
        return _where(goes_on, carried), signals

    parts = tuple(map(_time_first, (goes_on(segments), _where(segments > 0, delta), *kept)))
    return jax.tree.map(_examples_first, lax.scan(back, start, parts, reverse=True, unroll=turns)[1])


def _where(counts: jax.Array, tree: Any) -> Any:
    """The rows of arrays that count; 0 in the others."""
    return jax.tree.map(lambda a: jnp.where(jnp.expand_dims(counts, range(counts.ndim, a.ndim)), a, 0), tree)


def _before(states: jax.Array, segments: jax.Array | None = None) -> jax.Array:
    """The state that every position starts from: that of the one before, and 0 at the first."""
    before = jnp.pad(states[:, :-1], ((0, 0), (1, 0), (0, 0))) if states.shape[1] else states
    return before if segments is None else _where(goes_on(segments), before)


def _time_first(values: jax.Array) -> jax.Array:
    return jnp.moveaxis(values, 1, 0)


def _examples_first(values: jax.Array) -> jax.Array:
    return jnp.moveaxis(values, 0, 1)
