"""`Repeat` is the layer so many times over, `Remat` the layer itself: in values, gradients and every contraction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stacks import LOSS, Window, assert_contractions_are_those_unrolled, unrolled, unstacked
from table import disagreement, params_of, random

import funcnet as fn
from funcnet._core import walkers
from funcnet._core.context import Context

M, T, N = 3, 4, 2
BLOCK = fn.Residual(fn.Chain(fn.LayerNorm(N), fn.Dense(N, 3), fn.Tanh(), fn.Dense(3, N, bias=False)))
DROPS = fn.Chain(fn.Dense(N, N), fn.Dropout(0.5), fn.Tanh())
NETS = {
    "as deep as there are examples": fn.Repeat(BLOCK, M),
    "made again in a stack": fn.Repeat(fn.Remat(fn.Chain(Window(N), BLOCK)), M),
}
DRAWING = {
    "repeated": fn.Repeat(DROPS, 2),
    "made again": fn.Remat(DROPS),
    "both": fn.Repeat(fn.Remat(DROPS), 2),
    "around a stack": fn.Remat(fn.Repeat(fn.Residual(DROPS), 2)),
}
KEYS = {"one key": jax.random.key(3), "a key per example": jax.random.split(jax.random.key(3), M)}
each_drawing = pytest.mark.parametrize("net", DRAWING.values(), ids=DRAWING)
each_key = pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)


def data(net):
    return params_of(net), *(np.array(random(seed, M, T, N)) for seed in (1, 2))


@pytest.mark.fast
@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_every_contraction_is_that_of_the_network_unrolled(net):
    assert_contractions_are_those_unrolled(net, *data(net))


@pytest.mark.fast
@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_starting_values_and_layers_are_those_of_the_network_unrolled(net):
    params, others = (jax.jit(lambda key, n=n: fn.init(n, key))(jax.random.key(1)) for n in (net, unrolled(net)))
    assert disagreement(unstacked(net, params), others) == 0
    layers, plain = (list(walkers.leaves(n, own)) for n, own in ((net, params), (unrolled(net), others)))
    assert [leaf for _, leaf, _ in layers] == [leaf for _, leaf, _ in plain]
    assert disagreement([own for *_, own in layers], [own for *_, own in plain]) == 0
    assert len({name for name, *_ in layers}) == len(layers)


@pytest.mark.fast
@each_drawing
@each_key
def test_what_draws_draws_as_in_the_network_unrolled(net, key):
    params, x, y = data(net)

    @jax.jit
    def both(params):
        other, own = unrolled(net), unstacked(net, params)
        expected = fn.value_and_grad(other, LOSS, own, x, y, key=key)
        automatic = jax.value_and_grad(lambda p: fn.cost(other, LOSS, p, x, y, key=key))(own)
        value, grads = fn.value_and_grad(net, LOSS, params, x, y, key=key)
        bp, plain = (fn.backprop(n, LOSS, p, x, y, key=key) for n, p in ((net, params), (other, own)))
        norms, expected_norms = fn.example_square_norms(net, bp), fn.example_square_norms(other, plain)
        return (value, unstacked(net, grads), norms), (*expected, expected_norms), (*automatic, expected_norms)

    found, expected, automatic = both(params)
    assert disagreement(found, expected) <= 1e-12
    assert disagreement(found, automatic) <= 1e-12


@pytest.mark.fast
@each_key
def test_each_block_draws_for_itself(key):
    net = fn.Repeat(fn.Dropout(0.5), 3)
    _, masks = jax.jit(lambda x: walkers.layer_forward(net, (), x, Context(key)))(jnp.ones((M, 60)))
    first, second, third = np.asarray(masks)
    assert 0.2 < (first == second).mean() < 0.8
    assert 0.2 < (second == third).mean() < 0.8


@pytest.mark.fast
def test_segments_reach_what_is_made_again():
    net = fn.Repeat(fn.Remat(fn.Residual(fn.Chain(fn.Dense(N, 3 * N), fn.Attention(N, 1)))), 2)
    params, x, delta = data(net)
    segments = jnp.array([[1, 1, 2, 2], [1, 2, 2, 0], [3, 3, 3, 3]])

    @jax.jit
    def run(params):
        def forward(layer, params, x):
            return walkers.layer_forward(layer, params, x, Context(None, segments))

        y, tape = forward(net, params, x)
        back, grads = walkers.pull(net, walkers.gradient_of_leaf, params, tape, delta)
        own = unstacked(net, params)
        expected, pullback = jax.vjp(lambda p, x: forward(unrolled(net), p, x)[0], own, x)
        return (y, unstacked(net, grads), back), (expected, *pullback(delta))

    assert disagreement(*run(params)) <= 1e-12


@pytest.mark.fast
@pytest.mark.parametrize("around", [lambda layer: layer, lambda layer: fn.Repeat(layer, 2)], ids=["once", "repeated"])
def test_the_tape_is_made_again_from_the_parameters_of_the_forward_pass(around):
    """Feedback alignment hands `backward` others."""
    plain = fn.Chain(fn.Dense(N, 3), fn.Tanh(), fn.Dense(3, N), fn.Tanh())
    net, other = (fn.FeedbackAlignment(around(layer), seed=4) for layer in (fn.Remat(plain), plain))
    params, x, y = data(net)
    run = jax.jit(lambda net: fn.value_and_grad(net, LOSS, params, x, y))
    assert disagreement(run(net), run(other)) <= 1e-12
    true = jax.jit(lambda: fn.value_and_grad(around(plain), LOSS, params, x, y))()
    assert disagreement(run(net), true) > 1e-2  # the feedback was indeed another


@pytest.mark.fast
@pytest.mark.parametrize("net", [NETS["made again in a stack"], DRAWING["around a stack"]], ids=repr)
def test_inside_other_programs(net):
    params, x, _ = data(net)
    f = fn.as_function(net)

    @jax.jit
    def run(params):
        both = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), params)
        by_hand = jax.vmap(jax.grad(lambda p: jnp.sin(f(p, x)).sum()))(both)
        return by_hand, jax.vmap(jax.grad(lambda p: jnp.sin(fn.predict(net, p, x)).sum()))(both)

    assert disagreement(*run(params)) <= 1e-12


def test_the_tape_of_remat_is_its_input_by_reference():
    net = fn.Remat(fn.Chain(fn.Dense(N, N), fn.Tanh(), fn.Dense(N, 50), fn.Tanh()))
    params, x = params_of(net), random(1, M, N)
    again, kept, context = net.forward(params, x)[1]
    assert kept is x
    assert context == Context()
    assert all(a is b for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(params), strict=True))


def test_a_program_does_not_grow_with_the_depth():
    sizes = []
    for n in (2, 20):
        net = fn.Repeat(fn.Remat(BLOCK), n)
        params, x, y = data(net)
        text = jax.jit(lambda p, net=net: fn.value_and_grad(net, LOSS, p, x, y)).lower(params).as_text()  # noqa: B023
        sizes.append(text.count("\n"))
    assert sizes[0] == sizes[1]


@pytest.mark.fast
def test_what_cannot_follow_itself_is_refused():
    with pytest.raises(ValueError, match=r"Repeat: Dense\(2, 3\) takes 2 features and gives 3"):
        fn.Repeat(fn.Dense(2, 3), 2)
    with pytest.raises(ValueError, match="n must be 1 or more"):
        fn.Repeat(fn.Dense(2, 2), 0)
    with pytest.raises(ValueError, match=r"Last\(\) turns shape \(3, 4, 2\) of float64 into \(3, 2\)"):
        fn.predict(fn.Repeat(fn.Last(), 2), (), random(1, M, T, N))
    for wrap in (fn.Remat, lambda layer: fn.Repeat(layer, 2)):
        with pytest.raises(TypeError):
            wrap("Dense")
