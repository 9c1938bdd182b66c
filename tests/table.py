"""One table of layers and one of losses. A new one adds a row here and gets every conformance test."""

import dataclasses
import math
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

import funcnet as fn


@fn.spec
class Scale:
    """A user's own layer: y = s x, a factor for each feature."""

    n: int

    def init(self, key):
        return {"s": jnp.ones(self.n)}

    def forward(self, params, x, key=None):
        return x * jax.lax.broadcast(params["s"], x.shape[:-1]), x

    def backward(self, params, tape, delta):
        return delta * jax.lax.broadcast(params["s"], delta.shape[:-1]), delta

    def gradient(self, tape, deltas):
        return {"s": jnp.sum(tape * deltas, axis=tuple(range(tape.ndim - 1)))}


@dataclasses.dataclass(frozen=True)
class Row:
    """A layer, how many features it is tried on, and the positions that it needs; None: any, or none, will do.

    With a `vocabulary` x holds integers below it, and has no axis of features.
    """

    layer: Any
    features: int = 4
    positions: tuple[int, ...] | None = None
    vocabulary: int | None = None

    @property
    def key(self):
        return KEY if any(word in repr(self.layer) for word in ("Dropout", "Random")) else None

    def shape(self, m, positions=()):
        """Of m examples with these positions, or with those that the layer needs."""
        positions = positions if self.positions is None else self.positions
        return (m, *positions) if self.vocabulary else (m, *positions, self.features)

    def inputs(self, m, positions=(), dtype=np.float64):
        if self.vocabulary:
            return tokens(1, self.vocabulary, *self.shape(m, positions))
        return random(1, *self.shape(m, positions), dtype=dtype)


LAYERS = [
    Row(fn.Dense(4, 3)),
    Row(fn.Dense(4, 1, bias=False)),
    Row(fn.Dense(1, 2, init=fn.HeNormal()), features=1),
    Row(fn.Sigmoid()),
    Row(fn.Tanh()),
    Row(fn.ReLU()),
    Row(fn.LeakyReLU()),
    Row(fn.LeakyReLU(0.3)),
    Row(fn.ELU()),
    Row(fn.ELU(0.7)),
    Row(fn.SELU()),
    Row(fn.GELU()),
    Row(fn.GELU(approximate=False)),
    Row(fn.SiLU()),
    Row(fn.Softplus()),
    Row(fn.Softsign()),
    Row(fn.Softmax()),
    Row(fn.LogSoftmax()),
    Row(fn.Identity()),
    Row(fn.Dropout(0.4)),
    Row(fn.LayerNorm(4)),
    Row(fn.LayerNorm(4, epsilon=0.1)),
    Row(fn.Chain()),
    Row(fn.Chain(fn.Dense(4, 3), fn.Tanh(), fn.Dense(3, 2))),
    Row(fn.Chain(fn.Chain(fn.Dense(4, 3), fn.Dropout(0.3)), fn.Chain(fn.LayerNorm(3), fn.SiLU()), fn.Dropout(0.2))),
    Row(fn.Residual(fn.Dense(4, 4))),
    Row(fn.Residual(fn.Chain(fn.Dense(4, 2), fn.GELU(), fn.Residual(fn.Sigmoid()), fn.Dense(2, 4)))),
    Row(Scale(4)),
    Row(fn.Conv(4, 6, (3, 2), stride=(2, 1), padding=((2, 1), (0, 1)), dilation=(1, 2), groups=2), positions=(5, 4)),
    Row(fn.Conv(2, 3, (3,), bias=False, init=fn.GlorotUniform()), features=2, positions=(5,)),
    Row(fn.Conv(3, 6, (2, 2), groups=3), features=3, positions=(3, 3)),  # depthwise
    Row(fn.ConvTranspose(2, 3, (3, 2), stride=2), features=2, positions=(2, 3)),
    Row(fn.MaxPool((2, 3), stride=(1, 2), padding=((1, 0), (2, 1))), features=2, positions=(4, 5)),
    Row(fn.AvgPool((2, 2), stride=(2, 1), padding="SAME"), features=2, positions=(3, 4)),
    Row(fn.GlobalAveragePool(), positions=(2, 3)),
    Row(fn.Flatten(), positions=(2, 3)),
    Row(fn.RMSNorm(4)),
    Row(fn.GroupNorm(4, groups=2)),
    Row(fn.FrozenBatchNorm(4)),
    Row(fn.Parallel(fn.Chain(fn.Dense(4, 2), fn.Dropout(0.3)), fn.Identity(), fn.Parallel(fn.Dense(4, 3)))),
    Row(
        fn.Parallel(fn.Chain(fn.Conv(2, 3, (3,), 2), fn.SiLU()), fn.Conv(2, 3, (1,), 2, bias=False), join="sum"),
        features=2,
        positions=(5,),
    ),
    Row(fn.RandomShift(2), features=2, positions=(3, 4)),
    Row(fn.RandomFlip(), features=2, positions=(2, 3)),
    Row(fn.Embedding(5, 3), vocabulary=5),
    Row(fn.Tied(fn.Embedding(5, 3), fn.Chain(fn.Dense(3, 3), fn.Tanh())), vocabulary=5),
    Row(fn.LearnedPositions(4, 3), features=3, positions=(2, 3)),
    Row(fn.Rotary(3, 2, base=10.0), features=12, positions=(3,)),
    Row(fn.Gated(fn.GELU())),
    Row(fn.Attention(4, 2), features=12, positions=(4,)),
    Row(fn.Attention(4, 2, 1, causal=False, block=2), features=8, positions=(5,)),
    Row(fn.GRU(3, 2), features=3, positions=(3,)),
    Row(fn.LSTM(3, 2), features=3, positions=(3,)),
    Row(fn.Last(), positions=(3,)),
    Row(fn.Repeat(fn.Residual(fn.Chain(fn.Dense(4, 2), fn.Dropout(0.3), fn.Tanh(), fn.Dense(2, 4))), 3)),
    Row(fn.Remat(fn.Chain(fn.Dense(4, 3), fn.Dropout(0.3), fn.Tanh()))),
    Row(
        fn.Repeat(fn.Remat(fn.Residual(fn.Chain(fn.Dense(2, 6), fn.Attention(2, 1), fn.Repeat(fn.Dense(2, 2), 2)))), 2),
        features=2,
        positions=(3,),
    ),
]

LOSSES = [
    fn.SquaredError(),
    fn.AbsoluteError(),
    fn.Huber(0.7),
    fn.LogCosh(),
    fn.CrossEntropy(),
    fn.CrossEntropy(label_smoothing=0.1),
    fn.BinaryCrossEntropy(),
    fn.BinaryCrossEntropy(positive_weight=2.5),
]

ACTIVATIONS = [
    row.layer
    for row in LAYERS
    if getattr(row.layer, "keeps_size", False) and row.layer != fn.Chain() and row.positions is None
]

# The worked case of two units a layer: see tests/propagation/test_worked_cases.py.
TWO_NET = fn.mlp((2, 2, 2), fn.Sigmoid(), fn.Sigmoid())
TWO_PARAMS = fn.from_weights(TWO_NET, [[[0.15, 0.25], [0.20, 0.30]], [[0.40, 0.50], [0.45, 0.55]]], [0.35, 0.60])
TWO_X, TWO_Y = jnp.array([[0.05, 0.10]]), jnp.array([[0.01, 0.99]])
# A key whose draws are quick to compile. Not for keys per example: under vmap they would all draw alike.
KEY = jax.random.key(7, impl="rbg")


# Eagerly each operation is a program of its own. These are one program, and do not look at values.
value_and_grad = jax.jit(fn.value_and_grad, static_argnames="reduction")
cost = jax.jit(fn.cost, static_argnames="reduction")
backprop = jax.jit(fn.backprop)
predict = jax.jit(fn.predict)


def random(seed, *shape, dtype=np.float64):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(dtype))


def tokens(seed, vocabulary, *shape):
    return jnp.asarray(np.random.default_rng(seed).integers(0, vocabulary, shape, np.int32))


def same_bits(found, expected):
    """Whether two programs gave the same bits. Those that the suite compiles quickly may differ in the last of them."""
    found, expected = np.asarray(found), np.asarray(expected)
    if not os.environ["XLA_FLAGS"] or found.dtype.kind != "f":
        return found.dtype == expected.dtype and found.tobytes() == expected.tobytes()
    return found.dtype == expected.dtype and np.allclose(found, expected, rtol=1e-14, atol=1e-15, equal_nan=True)


def params_of(layer, seed=3, dtype=np.float64):
    """Parameters away from their starting values, where a bias of 0 or a gain of 1 would hide an error.

    Made without compiling anything: matrices about as large as `fn.init` makes them, gains around 1, biases around 0,
    variances above 0.
    """
    draw = np.random.default_rng([7, seed])

    def leaf(path, like):
        name = getattr(path[-1], "key", "") if path else ""
        start, noise = float(name in ("g", "s")), 0.3 * np.random.default_rng(seed).normal(size=like.shape)
        if like.ndim > 1:
            fans = math.prod(like.shape[:-2]) * sum(like.shape[-2:])
            start = np.sqrt(6 / fans) * draw.uniform(-1, 1, like.shape)
        return (np.exp(2 * noise) if name == "var" else start + noise).astype(dtype)

    shapes = jax.eval_shape(lambda key: fn.init(layer, key), KEY)
    return jax.tree.map(jnp.asarray, jax.tree_util.tree_map_with_path(leaf, shapes))


def target(loss, shape, seed=5, dtype=np.float64, classes=True):
    """Targets that suit a loss, for an output of this shape."""
    draw = np.random.default_rng(seed)
    if isinstance(loss, fn.CrossEntropy):
        if classes:
            return jnp.asarray(draw.integers(0, shape[-1], shape[:-1]))
        return jnp.asarray(scipy.special.softmax(draw.normal(size=shape), axis=-1).astype(dtype))
    if isinstance(loss, fn.BinaryCrossEntropy):
        return jnp.asarray(draw.uniform(size=shape).astype(dtype))
    return random(seed, *shape, dtype=dtype)


def disagreement(found, expected):
    """max|g - n| / max|n| over each leaf, the worst of them; a leaf of zeros must be met exactly."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    worst = 0.0
    for g, n in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        g, n = np.asarray(g, np.float64), np.asarray(n, np.float64)
        assert g.shape == n.shape
        assert np.isfinite(g).all()
        assert np.isfinite(n).all()
        if n.size:
            gap = np.abs(g - n).max()
            worst = max(worst, gap / np.abs(n).max() if n.any() else (np.inf if gap else 0.0))
    return worst
