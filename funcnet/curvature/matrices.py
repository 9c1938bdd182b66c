"""Curvature from the same forward pass: diagonals and Kronecker factors, each a contraction of tape and deltas.

With J_i an example's cost, z its output and H_i = ∂²J_i/∂z² = Σ_c s_c s_cᵀ, the generalised Gauss-Newton
matrix is GGN = (1/m) Σ_i (∂z_i/∂θ)ᵀ H_i (∂z_i/∂θ). The columns s_c are pushed back like error signals, and
arrive as rows of a square root of the GGN (Schraudolph, 2002; Dangel et al., 2020).
Three matrices go under similar names; here each has its own:

- "exact", "ggn": the GGN. Where the cost is a log-likelihood, it is the Fisher matrix (Martens, 2014).
- "sampled": one target per output drawn from the model stands in for the columns; in expectation the same.
- "empirical": E[g gᵀ] of the gradients at the true targets. It is neither, and shrinks as the fit gets
  good, whatever the curvature (Kunstner et al., 2019).
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from funcnet._core.contractions import dense_form, gradient_shapes, product_form, square_sum
from funcnet._core.products import from_squares, rows, second_moment, symmetric_product
from funcnet._core.protocols import AnyLayer, ArrayLike, Layer, Loss, Params, Tree
from funcnet.curvature.square_roots import Kind, Pushed, check_key, check_kind, propagated, summed


class KroneckerPair(NamedTuple):
    """A ⊗ G, which stands for the block of the curvature that belongs to one `Dense`, `Conv` or `Embedding`.

    Attributes:
        a: A = E[a aᵀ], (n_in + 1, n_in + 1): the layer's inputs, with a last 1 for the bias; (n_in, n_in) without bias.
            An `Embedding`'s inputs are unit vectors, so that A is diagonal: (vocabulary,), how often each token comes.
        g: G = E[δ δᵀ], (n_out, n_out): its error signals.
    """

    a: jax.Array
    g: jax.Array


def ggn_diagonal(
    net: AnyLayer,
    loss: Loss,
    params: Params,
    x: ArrayLike,
    y: ArrayLike | None = None,
    *,
    kind: Literal["exact", "sampled"] = "exact",
    key: jax.Array | None = None,
) -> Tree:
    """The diagonal of the generalised Gauss-Newton matrix, mean over examples.

    (1/m) Σ_i Σ_c (∂z_i/∂θ · s_c)², evaluated without dropout. For a `Dense` without positions the columns
    are squared and summed first: (x²)ᵀ Σ_c δ_c², one product for all of them.

    Cost: "exact" is one forward pass, C backward ones (C outputs) and for `Dense` and `LayerNorm` one
    contraction, in about twice the memory of a gradient and up to 8 MB, for deltas of several columns; "sampled"
    is one gradient. Where a layer may mix positions (one without `by_position`), "exact" takes C passes for every
    position of the output. Other layers make the gradients of some examples at a time, in the memory of the deltas
    or of one gradient.

    Others: BackPACK's `DiagGGNExact` and `DiagGGNMC` of a mean loss are this; of a summed loss, m times this.

    Args:
        net: a layer.
        loss: one with `hessian_columns` ("exact") or `sample` ("sampled").
        params: the network's parameters.
        x: (m, *positions, features), of the parameters' type.
        y: targets, where the loss's second derivative depends on them (`Huber`, `LogCosh`).
        kind: "exact", or "sampled": unbiased, from one drawn target per output.
        key: for "sampled", `jax.random.key(seed)`.

    Returns:
        A tree like params, in float32 or better.

    Raises:
        TypeError: a loss without a GGN or samples; a key missing or without use.
        ValueError: an unknown kind; y missing where it is needed; what `forward` refuses.

    Source: Schraudolph, 2002; Dangel et al., 2020 (BackPACK).

    Example:
        >>> import funcnet as fn
        >>> net = fn.Dense(1, 1)
        >>> diagonal = fn.ggn_diagonal(net, fn.SquaredError(), fn.from_weights(net, [[[2.0]]]), [[1.0], [3.0]])
        >>> diagonal["w"].tolist(), diagonal["b"].tolist()
        ([[5.0]], [1.0])
    """
    check_kind(kind, ("exact", "sampled"))
    check_key(kind, key)
    return _diagonal(net, propagated(net, loss, params, x, y, "ggn" if kind == "exact" else kind, key))


def empirical_fisher_diagonal(net: AnyLayer, loss: Loss, params: Params, x: ArrayLike, y: ArrayLike) -> Tree:
    """The mean over examples of the squared gradients, (1/m) Σ_i (∂J_i/∂θ)², evaluated without dropout.

    It is no curvature: at a perfect fit it is 0 whatever the GGN (Kunstner et al., 2019).

    Cost: one gradient, with the product of a `Dense` taken of squares. With positions, the gradients
    of some examples at a time are made, in no more memory than the deltas take.

    Others: BackPACK's `SumGradSquared` of a mean loss is this divided by m.

    Args:
        net: a layer.
        loss: any.
        params: the network's parameters.
        x: (m, *positions, features), of the parameters' type.
        y: targets, as the loss wants them.

    Returns:
        A tree like params, in float32 or better.

    Raises:
        What `cost` raises.

    Example:
        >>> import funcnet as fn
        >>> net = fn.Dense(1, 1)
        >>> params = fn.from_weights(net, [[[2.0]]])
        >>> fn.empirical_fisher_diagonal(net, fn.SquaredError(), params, [[1.0], [3.0]], [[0.0], [5.0]])["w"].tolist()
        [[6.5]]
    """
    return _diagonal(net, propagated(net, loss, params, x, y, "empirical", None))


def kronecker_factors(
    net: AnyLayer,
    loss: Loss,
    params: Params,
    x: ArrayLike,
    y: ArrayLike | None = None,
    *,
    kind: Kind,
    key: jax.Array | None = None,
) -> Tree:
    """The factors of A ⊗ G, the block of the curvature of each `Dense`, `Conv`, `Embedding`: K-FAC, mean over examples.

    A = E[a aᵀ] over the layer's inputs, where a ends in a 1 for the bias (the homogeneous coordinate of
    Martens & Grosse), and G = E[δ δᵀ] over its error signals. Rows and columns of A ⊗ G belong to `w` with `b`
    as its last row, in C order. For one example without positions it is exact.

    Positions count as in "K-FAC expand" (Eschenhagen et al., 2023): A is the mean over all m T positions,
    G the mean over examples of the sum over positions. A `Conv` is a `Dense` over patches, whose rows of `w` are
    flattened (KFC; Grosse & Martens, 2016). Up to 8 groups share A, and G has a block for each; with more it is the
    diagonal.

    A layer without this structure (`LayerNorm`, a recurrent one, a table that is read at both ends (`Tied`), one of
    your own) has its diagonal in that place: of the
    GGN, or for "empirical" of the squared gradients.

    Cost: the forward and backward pass of a gradient (C backward ones for "ggn"), and for each `Dense` the
    products n_in × n_in and n_out × n_out (this one times C for "ggn") instead of n_in × n_out. Memory: that of a
    gradient, and the factors.

    Others: BackPACK's `KFLR` ("ggn"), `KFAC` ("sampled") give G and A like this for a mean loss, the bias apart with
    G alone.

    Args:
        net, loss, params, x, y, key: as for `ggn_diagonal`; "empirical" needs y.
        kind: "ggn" (exact columns; "KFLR" in Botev et al., 2017), "sampled" (Martens & Grosse, 2015) or
            "empirical" (true targets).

    Returns:
        A tree like params, with a `KroneckerPair` in the place of each of them, in float32 or better; an
        `Embedding`'s A is diagonal and given as (vocabulary,).

    Raises:
        What `ggn_diagonal` raises.

    Source: Martens & Grosse, 2015; Grosse & Martens, 2016; Botev et al., 2017; Eschenhagen et al., 2023.

    Example:
        >>> import funcnet as fn
        >>> net = fn.Dense(1, 2)
        >>> params = fn.from_weights(net, [[[2.0, 1.0]]])
        >>> pair = fn.kronecker_factors(net, fn.SquaredError(), params, [[1.0], [3.0]], kind="ggn")
        >>> pair.a.tolist(), pair.g.tolist()
        ([[5.0, 2.0], [2.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]])
    """
    check_kind(kind, ("ggn", "sampled", "empirical"))
    check_key(kind, key)
    return factors_of(net, propagated(net, loss, params, x, y, kind, key))


def _diagonal(net: AnyLayer, pushed: Pushed) -> Tree:
    sums = summed(net, pushed, _squares_of_column, _from_squares, several=True)
    return jax.tree.map(lambda s: s / max(pushed.m, 1), sums)


def factors_of(net: AnyLayer, pushed: Pushed) -> Tree:
    """`kronecker_factors` of what was pushed back."""
    m = max(pushed.m, 1)

    def each(leaf: Layer, tape: Tree, deltas: Tree) -> Tree:
        if form := dense_form(leaf, tape, deltas):
            return symmetric_product(rows(form.signals)) / m
        return jax.tree.map(lambda s: s / m, square_sum(leaf, tape, deltas))

    def last(leaf: Layer, tape: Tree, sums: Tree, deltas: Tree) -> Tree:
        form = dense_form(leaf, tape, deltas)
        if not form:
            return sums
        first = next(iter(gradient_shapes(leaf, tape, deltas).values()))
        return KroneckerPair(second_moment(form, first.shape[0]), sums)

    return summed(net, pushed, each, last)


def _squares_of_column(leaf: Layer, tape: Tree, deltas: Tree) -> Tree:
    """Σ_i g_i² of one column; where gradients are products of one input and one signal, δ² alone."""
    form = product_form(leaf, tape, deltas)
    return jnp.square(rows(form.signals)) if form and form.positions == 1 else square_sum(leaf, tape, deltas)


def _from_squares(leaf: Layer, tape: Tree, sums: Tree, deltas: Tree) -> Tree:
    """Σ_i Σ_c g_ic²: where gradients are such products, (x²)ᵀ Σ_c δ_c², one product for all columns."""
    form = product_form(leaf, tape, deltas)
    if not form or form.positions > 1:
        return sums
    return from_squares(form, sums, gradient_shapes(leaf, tape, deltas))
