"""The same values as Opacus and BackPACK, each converted from that library's scaling, in float64.

Theirs are stored, by references/per_example_references.py, as they give them for a mean loss. Two conversions:
PyTorch's `MSELoss` is the mean over an example's entries of (a - y)², so 2/entries times our ½ Σ (a - y)²; and a
gradient of the mean over m examples is 1/m times ours. Opacus undoes the latter itself, BackPACK does not.
BackPACK's `KFAC` draws its targets by PyTorch; `KFLR`, which draws none, stands for both.
"""

import functools
import json
import pathlib

import jax
import numpy as np
import pytest
from table import backprop

import funcnet as fn

STORED = json.loads((pathlib.Path(__file__).parent.parent / "references" / "per_example_references.json").read_text())
NET = fn.Chain(fn.Dense(4, 5), fn.Tanh(), fn.Dense(5, 4), fn.Sigmoid(), fn.Dense(4, 3))
INITIAL = [np.array(leaf) for leaf in STORED["initial"]]
PARAMS, M = fn.from_weights(NET, INITIAL[::2], INITIAL[1::2]), len(STORED["x"])

PROBLEMS = {  # loss, x, y, and what theirs is of ours
    "cross-entropy": (fn.CrossEntropy(), "x", "labels", 1.0),
    "squared error": (fn.SquaredError(), "x", "heights", 2 / 3),
    "squared error, positions": (fn.SquaredError(), "sequences", "sequence_heights", 2 / 6),
}
example_square_norms = jax.jit(fn.example_square_norms, static_argnames="per_layer")
of_opacus = pytest.mark.parametrize("name", PROBLEMS)
of_backpack = pytest.mark.parametrize("name", list(PROBLEMS)[:2])


@functools.cache
def problem(name):
    loss, x, y, ratio = PROBLEMS[name]
    x, y = np.array(STORED[x]), np.array(STORED[y])
    return loss, x, y, backprop(NET, loss, PARAMS, x, y), ratio


def leaves(tree):
    """w and b of each layer in turn, or what stands in their place."""
    return [np.asarray(layer[name]) for layer in tree if layer for name in ("w", "b")]


def assert_same(found, expected, tolerance=1e-10):
    for number, (f, e) in enumerate(zip(found, expected, strict=True)):
        scale = np.abs(e).max()
        assert scale > 0
        np.testing.assert_allclose(f, e, rtol=0, atol=tolerance * scale, err_msg=f"parameter {number}")


def test_every_stored_case_is_compared():
    cases = [f"Opacus, {name}" for name in PROBLEMS] + [f"BackPACK, {name}" for name in list(PROBLEMS)[:2]]
    assert set(cases) == {name for name in STORED if name.startswith(("Opacus", "BackPACK"))}


@of_opacus
def test_norms_of_opacus(name):
    *_, bp, ratio = problem(name)
    norms = ratio * np.sqrt(example_square_norms(NET, bp))
    np.testing.assert_allclose(norms, STORED[f"Opacus, {name}"]["norms"], rtol=1e-10)


@of_opacus
def test_clipped_sum_of_opacus(name):
    """Opacus clips by max_norm / (‖g‖ + 10⁻⁶), which keeps it from dividing by 0."""
    *_, bp, ratio = problem(name)
    opacus = STORED[f"Opacus, {name}"]
    max_norm, norms = opacus["max_norm"], np.array(opacus["norms"])
    assert 2 <= np.sum(norms > max_norm) <= M - 2
    expected = [np.array(leaf) for leaf in opacus["clipped_sum"]]
    grads, squares = jax.jit(fn.clipped_gradient)(NET, bp, max_norm / ratio)
    assert_same([ratio * leaf for leaf in leaves(grads)], expected, 1e-6 / norms.min())
    norms = ratio * np.sqrt(squares)
    theirs = jax.jit(fn.weighted_gradient)(NET, bp, ratio * np.minimum(1, max_norm / (norms + 1e-6)))
    assert_same(leaves(theirs), expected)


@of_opacus
def test_private_mean_of_opacus_without_noise(name):
    """`DPOptimizer` divides its sum by the expected size of a batch."""
    *_, bp, ratio = problem(name)
    opacus = STORED[f"Opacus, {name}"]
    options = {"max_norm": opacus["max_norm"] / ratio, "noise_multiplier": 0.0, "expected_batch_size": 5}
    grads = jax.jit(fn.private_gradient)(NET, bp, jax.random.key(0, impl="rbg"), **options)
    expected = [np.array(leaf) / 5 for leaf in opacus["clipped_sum"]]
    assert_same([ratio * leaf for leaf in leaves(grads)], expected, 1e-6 / min(opacus["norms"]))


@of_backpack
def test_norms_and_squares_of_backpack(name):
    loss, x, y, bp, ratio = problem(name)
    backpack, scale = STORED[f"BackPACK, {name}"], (ratio / M) ** 2
    grads = jax.jit(fn.example_gradients)(NET, bp)
    each = [scale * np.square(leaf).reshape(M, -1).sum(1) for leaf in leaves(grads)]
    assert_same(each, np.array(backpack["batch_l2"]))  # of every parameter array by itself
    by_layer = [np.sum(backpack["batch_l2"][at : at + 2], axis=0) for at in (0, 2, 4)]
    ours = [layer for layer in example_square_norms(NET, bp, per_layer=True) if not isinstance(layer, tuple)]
    assert_same([scale * norms for norms in ours], by_layer)
    fisher = jax.jit(fn.empirical_fisher_diagonal)(NET, loss, PARAMS, x, y)
    theirs = [np.array(leaf) for leaf in backpack["sum_grad_squared"]]
    assert_same([M * scale * leaf for leaf in leaves(fisher)], theirs)


@of_backpack
def test_variance_of_backpack(name):
    *_, bp, ratio = problem(name)
    _, variance = jax.jit(fn.gradient_moments)(NET, bp)
    theirs = [np.array(leaf) for leaf in STORED[f"BackPACK, {name}"]["variance"]]
    assert_same([(ratio / M) ** 2 * leaf for leaf in leaves(variance)], theirs)


@of_backpack
def test_exact_ggn_diagonal_of_backpack(name):
    loss, x, _, _, ratio = problem(name)
    theirs = [np.array(leaf) for leaf in STORED[f"BackPACK, {name}"]["diag_ggn_exact"]]
    assert_same([ratio * leaf for leaf in leaves(jax.jit(fn.ggn_diagonal)(NET, loss, PARAMS, x))], theirs)


@of_backpack
def test_kronecker_factors_of_backpack(name):
    """Theirs are G and A of the matrix, and G again of the bias; ours has the bias as a last row and column of A."""
    loss, x, _, _, ratio = problem(name)
    factors = jax.jit(fn.kronecker_factors, static_argnames="kind")(NET, loss, PARAMS, x, kind="ggn")
    pairs = [pair for pair in jax.tree.map(np.asarray, factors) if isinstance(pair, fn.KroneckerPair)]
    kflr = STORED[f"BackPACK, {name}"]["kflr"]
    for pair, (g, a), (g_of_bias,) in zip(pairs, kflr[::2], kflr[1::2], strict=True):
        theirs = [np.array(factor) for factor in (g, g_of_bias, a)]
        assert_same([ratio * pair.g, ratio * pair.g, pair.a[:-1, :-1]], theirs)
        assert pair.a[-1, -1] == 1  # E[1·1], by which G stands for the bias alone
