"""K-FAC: gradients preconditioned by Kronecker factors of the curvature, as an optax transformation."""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from funcnet._core import arguments, scalars
from funcnet._core.numerics import accumulation_type
from funcnet._core.protocols import AnyLayer, Layer, Loss, Params, Tree
from funcnet._core.walkers import contract, map_leaves
from funcnet.curvature.matrices import KroneckerPair, factors_of
from funcnet.curvature.square_roots import Kind, Pushed, check_kind, columns, function_of, pushed
from funcnet.per_example.gradients import check_backprop
from funcnet.propagation import Backprop


class KfacState(NamedTuple):
    """What `scale_by_kfac` remembers.

    Attributes:
        step: updates so far.
        factors: running averages of `kronecker_factors`.
        inverses: the damped factors' inverses, as they were at the last refresh.
    """

    step: jax.Array
    factors: Tree
    inverses: Tree

    @property
    def needs_backprop(self) -> bool:
        """A training sees by this that `update` takes `backprop`."""
        return True


def scale_by_kfac(
    net: AnyLayer,
    loss: Loss,
    *,
    kind: Kind = "sampled",
    damping: float = 1e-3,
    decay: float = 0.95,
    every: int = 10,
    seed: int = 0,
) -> optax.GradientTransformationExtraArgs:
    """K-FAC as a transformation of optax: ∇ ← (A + π √λ I)⁻¹ ∇ (G + √λ/π I)⁻¹ at every `Dense`, `Conv`, `Embedding`.

    ∇ is the gradient of `w` with that of `b` as its last row, A and G are running averages of
    `kronecker_factors`, λ is the damping, and π² = (tr A / dim A) / (tr G / dim G) shares it between the two. Where
    a layer has its diagonal d instead, ∇ / (d + λ). Chain it with momentum and a learning rate.

    `update` takes the extra argument `backprop`, the `Backprop` of the batch that the gradient is of, and
    uses its tape and output: no second forward pass. Its weights are not known there: the factors are means
    over all m rows, "sampled" and "ggn" unweighted (rows of weight 0 count as the row put in their place),
    "empirical" from the weighted deltas as they are.

    The inverses are refreshed at the first update and every `every`-th after. A transformation sees one
    update at a time, so this is a `lax.cond`: in a scan it costs nothing between refreshes, but under
    `vmap` every lane computes inverses at every update.

    Cost: one more backward pass ("empirical" none; C for "ggn") and the products of `kronecker_factors`; at a refresh
    n³ for each factor. Memory: factors and inverses, 2 (n_in² + n_out²) for each `Dense`, 2 (vocabulary + n²)
    for an `Embedding`.

    Args:
        net, loss: those of the gradient.
        kind: "sampled", "ggn" or "empirical", as for `kronecker_factors`. "ggn" is for losses whose
            second derivative does not depend on the target.
        damping: λ ≥ 0.
        decay: of the running averages, 0 ≤ decay < 1; until they are 1/(1 - decay) updates old, plain means.
        every: updates from one refresh of the inverses to the next.
        seed: of the drawn targets.

    Returns:
        A gradient transformation. Its `update` raises `ValueError` without params or `backprop`, or with
        those of another network.

    Raises:
        TypeError, ValueError: an argument that is not a layer or loss; a number out of its range.

    Source: Martens & Grosse, 2015 (π in section 6.3); without its rescaling by the exact Fisher and without
    tridiagonal blocks.

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp, optax
        >>> net, loss = fn.Dense(1, 1), fn.SquaredError()
        >>> x, params = jnp.array([[1.0], [2.0], [4.0]]), fn.from_weights(net, [[[0.0]]])
        >>> optimizer = optax.chain(fn.scale_by_kfac(net, loss, kind="ggn", damping=0.0), optax.scale(-1.0))
        >>> bp = fn.backprop(net, loss, params, x, 3 * x + 1)
        >>> _, grads = fn.value_and_grad(net, loss, params, x, 3 * x + 1)
        >>> updates, _ = optimizer.update(grads, optimizer.init(params), params, backprop=bp)
        >>> print(f"{updates['w'][0, 0]:.3f} {updates['b'][0]:.3f}")  # least squares in one step
        3.000 1.000
    """
    arguments.check_layer_functions(net)
    arguments.check_loss(loss)
    arguments.refuse_mixing(net)
    check_kind(kind, ("ggn", "sampled", "empirical"))
    function_of(loss, kind)
    damping = scalars.number("scale_by_kfac: damping", damping, "0 or more", lambda value: 0 <= value < math.inf)
    decay = scalars.number("scale_by_kfac: decay", decay, "at least 0 and below 1", lambda value: 0 <= value < 1)
    every = scalars.integer("scale_by_kfac: every", every, "a whole number from 1", 1)
    seed = scalars.seed("scale_by_kfac: seed", seed)

    def init(params: Params) -> KfacState:
        try:
            arguments.check_params(net, params, None)
        except ValueError as error:
            raise ValueError(f"scale_by_kfac: the parameters are of another network. {error}") from error
        return KfacState(jnp.zeros((), jnp.int32), _zeros(net, params), _zeros(net, params))  # buffers of their own

    def update(
        grads: Tree, state: KfacState, params: Params | None = None, *, backprop: Backprop | None = None, **extra: Any
    ) -> tuple[Tree, KfacState]:
        if params is None or backprop is None:
            raise ValueError(
                "scale_by_kfac: update needs params and backprop: optimizer.update(grads, state, params, "
                "backprop=fn.backprop(net, loss, params, x, y))."
            )
        check_backprop(net, backprop, "backprop")
        arguments.check_like("grads", grads, params)
        fresh = factors_of(net, _pushed(params, backprop, state.step))

        def average(old: jax.Array, new: jax.Array) -> jax.Array:
            return old + jnp.maximum(1 - decay, 1 / (state.step + 1).astype(old.dtype)) * (new - old)

        factors = jax.tree.map(average, state.factors, fresh)
        # A cond in the scan, since a transformation has no place between inner scans.
        inverses = jax.lax.cond(
            state.step % every == 0,
            lambda: _each_factor(partial(_inverse, damping=damping), factors),
            lambda: state.inverses,
        )
        return _each_factor(_scaled, inverses, grads), KfacState(state.step + 1, factors, inverses)

    def _pushed(params: Params, bp: Backprop, step: jax.Array) -> Pushed:
        if kind == "empirical":
            return Pushed(bp.tape, lambda f, _: contract(net, f, bp.tape, bp.deltas), 1, len(bp.costs), 0)
        key = jax.random.fold_in(jax.random.key(seed), step) if kind == "sampled" else None
        return pushed(net, params, bp.tape, columns(loss, bp.output, None, kind, key), kind)

    return optax.GradientTransformationExtraArgs(init, update)


def _zeros(net: AnyLayer, params: Params) -> Tree:
    """Factors of 0, in the structure of `kronecker_factors`."""

    def zeros(layer: Layer, weights: Any) -> Tree:
        if getattr(layer, "as_dense", None) is None or not weights:
            return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, accumulation_type(leaf.dtype)), weights)
        w = weights[_matrix(weights)]
        a, g = math.prod(w.shape[:-1]) + ("b" in weights), w.shape[-1]
        dtype = accumulation_type(w.dtype)
        return KroneckerPair(jnp.zeros((a, a) if "w" in weights else (a,), dtype), jnp.zeros((g, g), dtype))

    return map_leaves(net, zeros, params)


def _matrix(weights: Any) -> str:
    """The name of the parameter that a Kronecker pair belongs to: "w", or the one that there is."""
    return "w" if "w" in weights else next(iter(weights))


def _each_factor(f: Any, factors: Tree, *rest: Tree) -> Tree:
    return jax.tree.map(f, factors, *rest, is_leaf=lambda part: isinstance(part, KroneckerPair))


def _inverse(factor: KroneckerPair | jax.Array, damping: float) -> KroneckerPair | jax.Array:
    if not isinstance(factor, KroneckerPair):
        return 1 / (factor + damping)
    if factor.g.ndim > 2:  # a stack of layers
        return jax.vmap(partial(_inverse, damping=damping))(factor)
    of_a, of_g = (jnp.sum(side if side.ndim == 1 else jnp.diag(side)) / max(len(side), 1) for side in factor)
    both = (of_a > 0) & (of_g > 0)
    pi = jnp.where(both, jnp.sqrt(jnp.where(both, of_a, 1) / jnp.where(both, of_g, 1)), 1)
    root = jnp.sqrt(jnp.asarray(damping, pi.dtype))
    return KroneckerPair(_inverse_of(factor.a, pi * root), _inverse_of(factor.g, root / pi))


def _inverse_of(matrix: jax.Array, damping: jax.Array) -> jax.Array:
    """(M + damping I)⁻¹ by Cholesky: of a matrix that is not positive definite NaN, never a plausible number."""
    if matrix.ndim == 1:  # a diagonal
        return 1 / (matrix + damping)
    eye = jnp.eye(len(matrix), dtype=matrix.dtype)
    lower = jnp.linalg.cholesky(matrix + damping * eye)
    half = jax.lax.linalg.triangular_solve(lower, eye, left_side=True, lower=True)
    return half.T @ half


def _scaled(inverse: KroneckerPair | jax.Array, grads: Any) -> Any:
    if not isinstance(inverse, KroneckerPair):
        return (inverse * grads.astype(inverse.dtype)).astype(grads.dtype)
    if inverse.g.ndim > 2:  # a stack of layers
        return jax.vmap(_scaled)(inverse, grads)
    name = _matrix(grads)
    w = grads[name]
    rows = w.reshape(-1, w.shape[-1])
    rows = jnp.concatenate([rows, grads["b"][None]]) if "b" in grads else rows
    rows = rows.astype(inverse.g.dtype)
    moved = inverse.a[:, None] * rows if inverse.a.ndim == 1 else inverse.a @ rows
    moved = (moved @ inverse.g).astype(w.dtype)
    if "b" not in grads:
        return {name: moved.reshape(w.shape)}
    return {name: moved[:-1].reshape(w.shape), "b": moved[-1]}
