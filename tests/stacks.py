"""Small combinators and leaves of a user's own, as the layers to come will need them of the protocol."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from table import disagreement

import funcnet as fn
from funcnet._core.numerics import wide

LOSS = fn.SquaredError()


def deltas_alone(leaf, tape, deltas):
    return deltas


@fn.spec
class Stack:
    """`layer` n times over, its parameters stacked in front: one scan each way."""

    layer: fn.Layer | fn.Combinator
    n: int
    by_position = property(lambda self: getattr(self.layer, "by_position", False))

    def init(self, key):
        return jax.vmap(lambda i: self.layer.init(jax.random.fold_in(key, i)))(jnp.arange(self.n))

    def parts(self):
        for i in range(self.n):
            yield f"block {i + 1}", self.layer, lambda tree, i=i: jax.tree.map(lambda a: a[i], tree)

    def join(self, parts):
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)

    def forward(self, params, x, key=None):
        def one(x, block):
            i, own = block
            return fn.layer_forward(self.layer, own, x, fn.child_key(key, i))

        return lax.scan(one, x, (jnp.arange(self.n), params))

    def backward(self, params, tape, delta):
        return self.pull(deltas_alone, params, tape, delta)

    def pull(self, f, params, tape, delta):
        return lax.scan(lambda delta, own: fn.pull(self.layer, f, *own, delta), delta, (params, tape), reverse=True)

    def contract(self, f, *kept):
        return lax.map(lambda own: fn.contract(self.layer, f, *own), kept)


@fn.spec
class Recomputed:
    """`layer`, whose tape is made again when it is needed. Tape: x, the context and the forward pass's parameters."""

    layer: fn.Layer | fn.Combinator
    by_position = property(lambda self: getattr(self.layer, "by_position", False))

    def init(self, key):
        return self.layer.init(key)

    def parts(self):
        yield "", self.layer, lambda tree: tree

    def forward(self, params, x, key=None):
        return fn.layer_forward(self.layer, params, x, key)[0], (params, x, key)

    def backward(self, params, tape, delta):
        return self.pull(deltas_alone, params, tape, delta)

    def pull(self, f, params, tape, delta):
        return fn.pull(self.layer, f, params, fn.layer_forward(self.layer, *tape)[1], delta)

    def contract(self, f, *kept):
        passes = [fn.layer_forward(self.layer, *part)[1] if i % 2 == 0 else part for i, part in enumerate(kept)]
        return fn.contract(self.layer, f, *passes)


@fn.spec
class SideBySide:
    """Layers on the same x, their outputs joined. Its own mark in the tape, where they meet, goes to no leaf."""

    layers: tuple[fn.Layer | fn.Combinator, ...]
    by_position = property(lambda self: all(getattr(layer, "by_position", False) for layer in self.layers))

    def init(self, key):
        return tuple(layer.init(jax.random.fold_in(key, i)) for i, layer in enumerate(self.layers))

    def forward(self, params, x, key=None):
        pairs = [
            fn.layer_forward(c, own, x, fn.child_key(key, i)) for i, (c, own) in enumerate(zip(self.layers, params))
        ]
        tape = tuple((kept, jnp.zeros((*y.shape, 0), y.dtype)) for y, kept in pairs)
        return jnp.concatenate([y for y, _ in pairs], -1), tape

    def backward(self, params, tape, delta):
        return self.pull(deltas_alone, params, tape, delta)

    def pull(self, f, params, tape, delta):
        edges = [sum(mark.shape[-2] for _, mark in tape[: i + 1]) for i in range(len(tape) - 1)]
        pairs = [
            fn.pull(layer, f, own, kept, part)
            for layer, own, (kept, _), part in zip(self.layers, params, tape, jnp.split(delta, edges, -1))
        ]
        return sum(delta for delta, _ in pairs), tuple(result for _, result in pairs)

    def contract(self, f, *kept):
        passes = [tuple(own for own, _ in part) if i % 2 == 0 else part for i, part in enumerate(kept)]
        return tuple(fn.contract(layer, f, *own) for layer, *own in zip(self.layers, *passes, strict=True))


@fn.spec
class Window:
    """z_t = Σ_o x_{t-o} w_o + b over time: a layer in which positions see each other. Tape: x."""

    n: int
    width: int = 2

    def init(self, key):
        return {"w": jax.random.normal(key, (self.width, self.n, self.n)) / self.n, "b": jnp.zeros(self.n)}

    def forward(self, params, x):
        return jnp.einsum("mtoi,oik->mtk", self.views(x), params["w"]) + lax.broadcast(params["b"], x.shape[:2]), x

    def backward(self, params, tape, delta):
        later = jnp.pad(delta, ((0, 0), (0, self.width - 1), (0, 0)))
        ahead = jnp.stack([later[:, o : o + delta.shape[1]] for o in range(self.width)], 2)
        return jnp.einsum("mtok,oik->mti", ahead, params["w"]), delta

    def gradient(self, tape, deltas):
        x, delta = wide(self.views(tape)), wide(deltas)
        return {"w": jnp.einsum("mtoi,mtk->oik", x, delta), "b": delta.sum((0, 1))}

    def as_dense(self, tape, deltas):
        views = self.views(tape)
        return views.reshape(*views.shape[:2], -1), deltas, True

    def views(self, x):
        early = jnp.pad(x, ((0, 0), (self.width - 1, 0), (0, 0)))
        return jnp.stack([early[:, self.width - 1 - o :][:, : x.shape[1]] for o in range(self.width)], 2)


@fn.spec
class Attending:
    """Each position is the mean of those of its segment, weighted by softmax of x xᵀ. Tape: x and the weights."""

    takes: ClassVar[tuple[str, ...]] = ("segments",)

    def init(self, key):
        return ()

    def forward(self, params, x, segments=None):
        scores = jnp.einsum("mtd,msd->mts", x, x)
        if segments is not None:
            scores = jnp.where(segments[:, :, None] == segments[:, None, :], scores, -1e30)
        p = jax.nn.softmax(scores)
        return jnp.einsum("mts,msd->mtd", p, x), (x, p)

    def backward(self, params, tape, delta):
        x, p = tape
        dp = jnp.einsum("mtd,msd->mts", delta, x)
        ds = p * (dp - jnp.sum(p * dp, -1, keepdims=True))
        through = jnp.einsum("mts,msd->mtd", ds, x) + jnp.einsum("mts,mtd->msd", ds, x)
        return through + jnp.einsum("mts,mtd->msd", p, delta), delta

    def gradient(self, tape, deltas):
        return ()


def unrolled(layer: Any) -> Any:
    """The same network without stacks, and with nothing made again."""
    if isinstance(layer, (Stack, fn.Repeat)):
        return fn.Chain(*[unrolled(layer.layer)] * layer.n)
    if isinstance(layer, (Recomputed, fn.Remat)):
        return unrolled(layer.layer)
    if isinstance(layer, fn.Chain):
        return fn.Chain(*map(unrolled, layer.layers))
    if isinstance(layer, SideBySide):
        return SideBySide(tuple(map(unrolled, layer.layers)))
    if isinstance(layer, fn.Residual):
        return fn.Residual(unrolled(layer.layer))
    return layer


def unstacked(layer: Any, tree: Any, front: bool = False) -> Any:
    """A tree like the parameters as the unrolled network has it; `front`: the stack's axis stands behind examples."""
    if isinstance(layer, (Stack, fn.Repeat)):
        take = (lambda a, i: a[:, i]) if front else (lambda a, i: a[i])
        parts = (jax.tree.map(lambda a, i=i: take(a, i), tree) for i in range(layer.n))
        return tuple(unstacked(layer.layer, part, front) for part in parts)
    if isinstance(layer, (Recomputed, fn.Remat, fn.Residual)):
        return unstacked(layer.layer, tree, front)
    if isinstance(layer, (fn.Chain, SideBySide)):
        return tuple(unstacked(child, part, front) for child, part in zip(layer.layers, tree))
    return tree


def contractions(net, params, x, y, x2, y2):
    """Everything that one backward pass gives, with whether a result's examples stand before the stack's axis."""
    m, T, _ = x.shape
    weights = jnp.arange(1.0, m * T + 1).reshape(m, T)
    bp = fn.backprop(net, LOSS, params, x, y, weights=weights)
    other = fn.backprop(net, LOSS, params, x2, y2)
    clipped, squares = fn.clipped_gradient(net, bp, 1.3)
    clipped_by_layer, squares_by_layer = fn.clipped_gradient(net, bp, 1.3, per_layer=True)
    mean, variance = fn.gradient_moments(net, bp)
    plain = {
        "value_and_grad": fn.value_and_grad(net, LOSS, params, x, y)[1],
        "gradient": fn.gradient(net, bp.tape, bp.deltas),
        "weighted": fn.weighted_gradient(net, bp, jnp.array([1.0, 0.0, -2.0])),
        "clipped": clipped,
        "clipped by layer": clipped_by_layer,
        "mean": mean,
        "variance": variance,
        "empirical": fn.empirical_fisher_diagonal(net, LOSS, params, x, y),
        "ggn": fn.ggn_diagonal(net, LOSS, params, x),
        "factors": fn.kronecker_factors(net, LOSS, params, x, y, kind="empirical"),
        "ggn factors": fn.kronecker_factors(net, LOSS, params, x, kind="ggn"),
    }
    by_example = {
        "gradients": fn.example_gradients(net, bp),
        "norms by layer": fn.example_square_norms(net, bp, per_layer=True),
        "norms by layer of clipping": squares_by_layer,
    }
    whole = {
        "norms": fn.example_square_norms(net, bp),
        "norms of clipping": squares,
        "gram": fn.example_gram(net, bp),
        "gram of two": fn.example_gram(net, bp, other),
        "cosines": fn.example_cosines(net, bp, other),
        "noise": fn.noise_scale(net, bp),
        "flow": fn.gradient_flow(net, bp, params),
        "input_delta": bp.input_delta,
    }
    return plain, by_example, whole


def assert_contractions_are_those_unrolled(net, params, x, y):
    """Every contraction of stacks and of what is made again is that of the network without them."""
    params = jax.tree.map(np.asarray, params)
    results = jax.tree.map(np.asarray, jax.jit(contractions)(net, params, x, y, -2 * x, y))
    expected = jax.jit(contractions)(unrolled(net), unstacked(net, params), x, y, -2 * x, y)
    for name in results[0]:
        assert disagreement(unstacked(net, results[0][name]), expected[0][name]) <= 1e-12, name
    for name in results[1]:
        assert disagreement(unstacked(net, results[1][name], front=True), expected[1][name]) <= 1e-12, name
    for name in results[2]:
        if name == "flow":
            found, others = (
                {layer.split(",")[0]: sizes for layer, sizes in flow[2][name].items()} for flow in (results, expected)
            )  # the names of layers in a stack say where
            assert found.keys() == others.keys()
            for layer, sizes in others.items():
                np.testing.assert_allclose(*([flow[layer][size] for size in sizes] for flow in (found, others)))
        else:
            assert disagreement(results[2][name], expected[2][name]) <= 1e-12, name
