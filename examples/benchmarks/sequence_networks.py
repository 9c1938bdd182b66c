"""The networks of sequences.py: as funcnet's, and in plain JAX on the same parameters."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import funcnet as fn

LOSS = fn.CrossEntropy()
RATE = 1e-3


class Shape(NamedTuple):
    """A GPT, the context that it sees, and its batches."""

    vocabulary: int = 96
    n: int = 128
    heads: int = 4
    depth: int = 4
    length: int = 128
    batch_size: int = 16

    def __str__(self) -> str:
        return f"GPT {self.depth} × {self.n}, context {self.length}, batch {self.batch_size}"

    def net(self, **options: Any) -> Any:
        return fn.gpt(self.vocabulary, self.length, self.n, self.heads, self.depth, **options)


def tokens(shape: Shape, batches: int = 1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    text = np.random.default_rng(seed).integers(0, shape.vocabulary, (batches * shape.batch_size, shape.length + 1))
    return text[:, :-1].astype(np.int32), text[:, 1:].astype(np.int32)


# ------------------------------------------------------------------ plain JAX, on the parameters of fn.gpt(…)
def plain_cost(shape: Shape, params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """Nats per position of the tied GPT."""
    return mean_cost(plain_logits(shape, params, x), y)


def plain_logits(shape: Shape, params: Any, x: jax.Array) -> jax.Array:
    """The tied GPT as one writes it with `jax.nn`."""
    (table, (positions, *blocks, last)) = params
    h = table["e"][x] + positions["e"][: x.shape[1]]
    for block in blocks:
        h = plain_block(shape, block, h)
    return plain_norm(last, h) @ table["e"].T


def plain_stacked_cost(shape: Shape, params: Any, x: jax.Array, y: jax.Array, remat: bool) -> jax.Array:
    """The same of blocks whose parameters are stacked: one scan, which `jax.checkpoint` may make again."""
    (table, (positions, blocks, last)) = params
    h = table["e"][x] + positions["e"][: x.shape[1]]
    block = jax.checkpoint(lambda h, own: (plain_block(shape, own, h), None)) if remat else (
        lambda h, own: (plain_block(shape, own, h), None))  # fmt: skip
    h, _ = lax.scan(block, h, blocks)
    return mean_cost(plain_norm(last, h) @ table["e"].T, y)


def plain_block(shape: Shape, params: Any, h: jax.Array) -> jax.Array:
    (norm, project, _, out), (norm2, up, _, down) = params
    m, T, n = h.shape
    q, k, v = jnp.split(plain_norm(norm, h) @ project["w"] + project["b"], 3, -1)
    heads = [a.reshape(m, T, shape.heads, n // shape.heads) for a in (q, k, v)]
    h = h + jax.nn.dot_product_attention(*heads, is_causal=True).reshape(m, T, n) @ out["w"] + out["b"]
    return h + jax.nn.gelu(plain_norm(norm2, h) @ up["w"] + up["b"]) @ down["w"] + down["b"]


def plain_norm(p: Any, x: jax.Array) -> jax.Array:
    mean = x.mean(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(x.var(-1, keepdims=True) + 1e-5) * p["g"] + p["b"]


def mean_cost(logits: jax.Array, y: jax.Array) -> jax.Array:
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits), y[..., None], -1)
    return -picked.mean()


def plain_recurrent(kind: str, params: Any, x: jax.Array) -> jax.Array:
    """A GRU or an LSTM as one writes it: everything in the scan's step."""
    n = len(params["u"])

    def gru(h: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        of_x, of_h = x @ params["w"] + params["b"], h @ params["u"]
        r, z = (jax.nn.sigmoid(of_x[:, i * n :][:, :n] + of_h[:, i * n :][:, :n]) for i in (0, 1))
        new = jnp.tanh(of_x[:, 2 * n :] + r * (of_h[:, 2 * n :] + params["c"]))
        h = (1 - z) * new + z * h
        return h, h

    def lstm(state: tuple[jax.Array, jax.Array], x: jax.Array) -> tuple[Any, jax.Array]:
        h, c = state
        i, f, g, o = jnp.split(x @ params["w"] + params["b"] + h @ params["u"], 4, 1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zero = jnp.zeros((len(x), n), x.dtype)
    start, step = (zero, gru) if kind == "GRU" else ((zero, zero), lstm)
    return lax.scan(step, start, x.transpose(1, 0, 2))[1].transpose(1, 0, 2)
