"""`Repeat`: a layer several times over in one loop. `Remat`: a layer whose tape is made again when it is needed."""

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from funcnet._core.context import Context, context_of
from funcnet._core.keys import child_key
from funcnet._core.protocols import AnyLayer, Params, Tree
from funcnet._core.specs import spec
from funcnet._core.walkers import LeafFunction, Part, contract, layer_forward, layer_step, pull
from funcnet._core.workarounds import apart, not_before, turns_at_once
from funcnet.layers.base import OneLayer


@spec
class Repeat(OneLayer):
    """`layer` n times over, each time with parameters of its own: y = f_n(… f_2(f_1(x))).

    Parameters, tape and deltas are the layer's with an axis (n, …) in front. Both ways are one `lax.scan`, so that
    program and compile time do not grow with n. Values, gradients and contractions are those of
    `Chain(*[layer] * n)`, and so are the starting values.

    Args:
        layer: one that gives as many features as it takes.
        n: how often, 1 or more.

    Raises:
        TypeError: `layer` is not a layer.
        ValueError: n below 1; a layer that changes the number of features, or (at `forward`) the shape.

    Example:
        >>> import funcnet as fn, jax
        >>> net = fn.Repeat(fn.Residual(fn.Chain(fn.Dense(4, 4), fn.Tanh())), 3)
        >>> jax.tree.map(lambda leaf: leaf.shape, fn.init(net, jax.random.key(0)))
        ({'b': (3, 4), 'w': (3, 4, 4)}, ())
    """

    layer: AnyLayer
    n: int

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"{self}: n must be 1 or more.")
        if None not in (self.n_in, self.n_out) and self.n_in != self.n_out:
            raise ValueError(
                f"Repeat: {self.layer} takes {self.n_in} features and gives {self.n_out}, so it cannot follow itself. "
                "Make the two equal."
            )

    def init(self, key: jax.Array) -> Params:
        return jax.vmap(lambda i: self.layer.init(jax.random.fold_in(key, i)))(jnp.arange(self.n))

    def forward(self, params: Params, x: jax.Array, key: Context | jax.Array | None = None) -> tuple[jax.Array, Tree]:
        context = context_of(key)

        def one(x: jax.Array, block: tuple[jax.Array, Params]) -> tuple[jax.Array, Tree]:
            number, own = block
            y, tape = layer_forward(self.layer, own, x, child_key(context, number))
            if y.shape != x.shape or y.dtype != x.dtype:
                raise ValueError(
                    f"Repeat: {self.layer} turns shape {x.shape} of {x.dtype} into {y.shape} of {y.dtype}, so it "
                    "cannot follow itself."
                )
            return y, tape

        return lax.scan(one, x, (jnp.arange(self.n), params), unroll=turns_at_once(self.n))

    def pull(self, f: LeafFunction, params: Params, tape: Tree, delta: jax.Array) -> tuple[jax.Array, Tree]:
        def one(delta: jax.Array, block: tuple[Params, Tree]) -> tuple[jax.Array, Tree]:
            return pull(self.layer, f, *block, delta)

        return lax.scan(one, delta, (params, tape), reverse=True, unroll=turns_at_once(self.n))

    def step(self, params: Params, x: jax.Array, cache: Tree, place: jax.Array) -> tuple[jax.Array, Tree]:
        def one(x: jax.Array, block: tuple[Params, Tree]) -> tuple[jax.Array, Tree]:
            return layer_step(self.layer, block[0], x, block[1], place)

        return lax.scan(one, x, (params, cache))

    def contract(self, f: LeafFunction, *kept: Tree) -> Tree:
        return lax.map(lambda block: contract(self.layer, f, *block), kept)

    def parts(self) -> Iterator[Part]:
        for i in range(self.n):
            yield f"block {i + 1}", self.layer, lambda tree, i=i: jax.tree.map(lambda a: a[i], tree)  # type: ignore[misc]

    def join(self, parts: Sequence[Tree]) -> Tree:
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)


@spec
class Remat(OneLayer):
    """`layer`, whose tape is made again when it is needed: one forward pass more, and only its input in memory.

    Its own tape is x, the context (keys and segments) and, by reference, the parameters of the forward pass: those that
    `backward` is handed may be others, under another learning rule. In a `Repeat` of n layers the memory of tapes
    falls from n of them to n inputs and one of them, as with `jax.checkpoint`. A contraction (per-example norms, say)
    makes the tape once more.

    Source: Chen et al., 2016.

    Args:
        layer: any layer.

    Raises:
        TypeError: `layer` is not a layer.

    Example:
        >>> import funcnet as fn
        >>> fn.Repeat(fn.Remat(fn.Residual(fn.Chain(fn.Dense(4, 4), fn.Tanh()))), 48).n_out
        4
    """

    layer: AnyLayer

    def forward(self, params: Params, x: jax.Array, key: Context | jax.Array | None = None) -> tuple[jax.Array, Tree]:
        context = context_of(key)
        return layer_forward(self.layer, params, x, context)[0], (params, x, context)

    def pull(self, f: LeafFunction, params: Params, tape: Tree, delta: jax.Array) -> tuple[jax.Array, Tree]:
        again, x, context = tape
        return pull(self.layer, f, params, self._made(again, not_before(x, delta), context), delta)

    def contract(self, f: LeafFunction, *kept: Tree) -> Tree:
        passes = [self._made(*part) if number % 2 == 0 else part for number, part in enumerate(apart(kept))]
        return contract(self.layer, f, *passes)

    def _made(self, params: Params, x: jax.Array, context: Context) -> Tree:
        return layer_forward(self.layer, params, x, context)[1]
