"""Per-example quantities of networks with a convolution: those of Opacus and BackPACK.

As references/image_references.py stored them. BackPACK's are of the mean over m examples: squares are m² times ours,
and of its factors of a convolution A is the sum over positions, where ours is their mean.
"""

import functools
import json
import pathlib

import jax
import numpy as np
import pytest
from table import backprop

import funcnet as fn

STORED = json.loads((pathlib.Path(__file__).parent.parent / "references" / "image_references.json").read_text())
LOSS = fn.CrossEntropy()


def net_of(groups):
    padding = ((1, 1), (1, 1))
    conv = fn.Conv(2, 4, (3, 2), stride=2, padding=padding, dilation=(1, 2), groups=groups)
    return fn.Chain(conv, fn.ReLU(), fn.Flatten(), fn.Dense(36, 3))


@functools.cache
def problem(name):
    stored, net = STORED[f"network, {name}"], net_of({"plain": 1, "groups": 2}[name])
    w, b, w2, b2 = map(np.array, stored["params"])
    params, x, labels = (
        ({"w": w, "b": b}, (), (), {"w": w2, "b": b2}),
        np.array(stored["x"]),
        np.array(stored["labels"]),
    )
    return stored, net, params, x, labels, backprop(net, LOSS, params, x, labels)


def leaves(tree):
    return [np.asarray(layer[name]) for layer in tree if layer for name in ("w", "b")]


def assert_same(found, expected):
    for f, e in zip(found, map(np.array, expected), strict=True):
        np.testing.assert_allclose(f, e, rtol=0, atol=1e-10 * np.abs(e).max())


@pytest.mark.fast
@pytest.mark.parametrize("name", ["plain", "groups"])
def test_norms_of_opacus(name):
    stored, net, *_, bp = problem(name)
    assert_same([jax.jit(fn.example_square_norms)(net, bp)], [stored["opacus_squares"]])


def test_norms_and_squares_of_backpack():
    stored, net, params, x, labels, bp = problem("plain")
    m = len(x)
    grads = jax.jit(fn.example_gradients)(net, bp)
    assert_same([np.square(g).reshape(m, -1).sum(1) / m**2 for g in leaves(grads)], stored["batch_l2"])
    fisher = jax.jit(fn.empirical_fisher_diagonal)(net, LOSS, params, x, labels)
    assert_same([leaf / m for leaf in leaves(fisher)], stored["sum_grad_squared"])


def test_kronecker_factors_of_backpack():
    """Their G of a convolution is of signals summed over positions, which is the block of the bias: no KFC."""
    stored, net, params, x, *_ = problem("plain")
    factors = jax.jit(fn.kronecker_factors, static_argnames="kind")(net, LOSS, params, x, kind="ggn")
    conv, dense = (pair for pair in factors if isinstance(pair, fn.KroneckerPair))
    g, a, g_of_bias, g_of_dense = map(np.array, stored["kflr"])
    positions = 3 * 3
    assert_same([positions * np.asarray(conv.a)[:-1, :-1], dense.g], [a, g_of_dense])
    diagonal = jax.jit(fn.ggn_diagonal)(net, LOSS, params, x)[0]
    assert_same([diagonal["b"]], [np.diag(g_of_bias)])
    assert (g == g_of_bias).all()
