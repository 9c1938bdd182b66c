"""The walks over layers: every contraction of stacks and of recomputed layers is that of the network unrolled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stacks import (
    Attending,
    Recomputed,
    SideBySide,
    Stack,
    Window,
    assert_contractions_are_those_unrolled,
    contractions,
    unrolled,
    unstacked,
)
from table import LAYERS, disagreement, params_of, random

import funcnet as fn
from funcnet._core import walkers
from funcnet._core.context import Context

M, T, N = 3, 4, 2
BLOCK = fn.Chain(fn.Dense(N, 3), fn.Tanh(), fn.Dense(3, N, bias=False))
NETS = {
    "depth equal to the number of examples": Stack(fn.Residual(fn.Chain(fn.LayerNorm(N), BLOCK)), M),
    "a stack in a stack": Stack(fn.Chain(Stack(fn.Residual(fn.Dense(N, N)), M), Window(N)), 2),
    "a stack made again between layers": fn.Chain(
        fn.Dense(N, N), Recomputed(Stack(fn.Chain(fn.Dense(N, N), Window(N)), 2)), fn.ReLU()
    ),
    "side by side in a stack": Stack(
        fn.Chain(SideBySide((fn.Dense(N, 1), Recomputed(fn.Dense(N, 2)))), fn.Dense(3, N)), 2
    ),
}
LOSS = fn.SquaredError()
each_net = pytest.mark.parametrize("net", NETS.values(), ids=NETS.keys())


def data(net, positions=(T,)):
    return params_of(net), *(np.array(random(seed, M, *positions, N)) for seed in (1, 2))


@pytest.mark.fast
@each_net
def test_every_contraction_is_that_of_the_network_unrolled(net):
    assert_contractions_are_those_unrolled(net, *data(net))


@pytest.mark.fast
def test_trees_are_rebuilt_for_every_layer_of_the_table():
    for row in LAYERS:
        params = params_of(row.layer)
        rebuilt = walkers.map_leaves(row.layer, lambda leaf, own: own, params)
        assert disagreement(rebuilt, params) == 0, row.layer
        assert walkers.has_names(row.layer) == ("Repeat" in repr(row.layer) or "name=" in repr(row.layer))


@pytest.mark.fast
@each_net
def test_layers_of_stacks_are_named_one_by_one(net):
    params, _, _ = data(net)
    places = list(walkers.leaves(net, params))
    plain = list(walkers.leaves(unrolled(net), unstacked(net, params)))
    assert [leaf for _, leaf, _ in places] == [leaf for _, leaf, _ in plain]
    assert disagreement([own for *_, own in places], [own for *_, own in plain]) == 0
    assert len({name for name, _, _ in places}) == len(places)
    rebuilt = walkers.map_leaves(net, lambda leaf, own: jax.tree.map(lambda a: 2 * a, own), params)
    assert disagreement(rebuilt, jax.tree.map(lambda a: 2 * a, params)) == 0


def test_names_say_where_a_layer_stands():
    block = fn.Chain(fn.Dense(2, 2), fn.Tanh(), fn.Dense(2, 2), name="branch")
    names = [name for name, _ in walkers.leaves(fn.Chain(Stack(fn.Residual(block), 2), fn.Dense(2, 1)))]
    assert names[:3] == ["branch, block 1, Dense 1", "branch, block 1, Tanh", "branch, block 1, Dense 2"]
    assert names[3].startswith("branch, block 2") and names[-1] == "Dense"  # noqa: PT018


def test_a_preconditioner_of_a_stack_is_that_of_the_network_unrolled():
    net = NETS["depth equal to the number of examples"]
    params, x, y = data(net)

    def step(net, params):
        optimizer = fn.scale_by_kfac(net, LOSS, kind="ggn", damping=0.1)
        bp = fn.backprop(net, LOSS, params, x, y)
        _, grads = fn.value_and_grad(net, LOSS, params, x, y)
        return optimizer.update(grads, optimizer.init(params), params, backprop=bp)[0]

    updates = jax.tree.map(np.asarray, jax.jit(step, static_argnums=0)(net, params))
    expected = jax.jit(step, static_argnums=0)(unrolled(net), unstacked(net, params))
    assert disagreement(unstacked(net, updates), expected) <= 1e-11


@pytest.mark.fast
def test_keys_reach_every_block_of_a_stack_and_segments_the_layers_that_take_them():
    net = Stack(fn.Chain(fn.Dropout(0.5), Attending(), fn.Dense(N, N)), 2)
    params, x, _ = data(net)
    segments = jnp.array([[1, 1, 2, 2]] * M)
    keys = jax.random.split(jax.random.key(3), M)
    run = jax.jit(lambda x, keys: walkers.layer_forward(net, params, x, Context(keys, segments[: len(x)]))[0])
    y = run(x, keys)
    moved = run(x + np.array([0, 0, 1, 1])[:, None], keys)
    assert disagreement(moved[:, :2], y[:, :2]) == 0  # another segment's input changes nothing
    assert disagreement(run(x[1:], keys[1:]), y[1:]) <= 1e-12  # an example's draw does not depend on its batch
    assert not np.allclose(run(x, keys[::-1]), y)
    single = fn.Chain(fn.Dropout(0.5))
    masks = [
        walkers.layer_forward(single, ((),), jnp.ones((1, 64)), fn.child_key(Context(keys[0]), i))[0] for i in (0, 1)
    ]
    assert not np.allclose(*masks)


@fn.spec
class WrapperOfToday:
    """A user's combinator of before `pull`: backward and contract of one pass."""

    layer: fn.Layer | fn.Combinator

    def init(self, key):
        return self.layer.init(key)

    def forward(self, params, x, key=None):
        return self.layer.forward(params, x, fn.child_key(key, 0))

    def backward(self, params, tape, delta):
        return self.layer.backward(params, tape, delta)

    def contract(self, f, tape, deltas):
        return fn.contract(self.layer, f, tape, deltas)


@fn.spec
class DropoutOfToday(fn.Dropout):
    pass


@pytest.mark.fast
def test_a_combinator_without_pull_has_every_contraction():
    inner = fn.Chain(fn.Dense(N, 3), fn.Tanh(), fn.Dense(3, N))
    params, x, y = data(inner)
    results = jax.jit(contractions)(WrapperOfToday(inner), params, x, y, -2 * x, y)
    expected = jax.jit(contractions)(inner, params, x, y, -2 * x, y)
    for group, other in zip(results, expected):
        group.pop("flow", None), other.pop("flow", None)
        group.pop("ggn", None), other.pop("ggn", None)  # it does not say by_position, so columns are of one position
        group.pop("ggn factors", None), other.pop("ggn factors", None)
        assert disagreement(group, other) <= 1e-12


@pytest.mark.parametrize("wrap", [fn.Residual, fn.FeedbackAlignment, fn.SignSymmetric])
def test_what_wraps_a_layer_hands_on_what_the_layer_says(wrap):
    wrapped = wrap(fn.Dense(3, 3))
    assert (wrapped.n_in, wrapped.n_out, getattr(wrapped, "keeps_size", False), wrapped.by_position) == (
        3,
        3,
        False,
        True,
    )
    assert wrap(fn.Tanh()).keeps_size
    with pytest.raises(ValueError, match="gives 3 features, but Dense.5, 2. takes 5"):
        fn.Chain(wrapped, fn.Dense(5, 2))


@pytest.mark.fast
def test_weights_of_positions_where_positions_see_each_other():
    net = fn.Chain(Window(N), fn.Dense(N, N))
    params, x, y = data(net)
    weights = np.ones((M, T))
    weights[0, 0] = weights[2] = 0
    whole = np.asarray(jax.jit(fn.predict)(net, params, x))
    x[2] = np.inf
    bp = jax.jit(fn.backprop)(net, LOSS, params, x, y, weights=weights)
    expected = 0.5 * np.sum(weights[:, :, None] * (whole - y) ** 2, (1, 2))
    np.testing.assert_allclose(bp.costs, expected, rtol=1e-12)  # position 0 of example 0 is context: its input stays
    np.testing.assert_allclose(bp.output[0], whole[0], rtol=1e-12)


@pytest.mark.fast
@pytest.mark.parametrize("net", [fn.Dense(N, N), fn.Chain(Window(N), fn.Tanh())], ids=repr)
def test_a_mean_is_over_positions(net):
    params, x, y = data(net)
    run = jax.jit(fn.value_and_grad, static_argnames="reduction")
    value, grads = run(net, LOSS, params, x, y)
    for ones in (np.ones(M), np.ones((M, T))):
        other, others = run(net, LOSS, params, x, y, weights=ones)
        assert abs(other - value) <= 1e-14
        assert disagreement(others, grads) <= 1e-13
    summed, sums = run(net, LOSS, params, x, y, reduction="sum")
    np.testing.assert_allclose(value, summed / (M * T), rtol=1e-13)
    assert disagreement(grads, jax.tree.map(lambda g: np.asarray(g) / (M * T), sums)) <= 1e-13
    by_example, by_position = (
        run(net, LOSS, params, x, y, weights=w)[0]
        for w in (np.arange(1.0, 4), np.repeat(np.arange(1.0, 4)[:, None], T, 1))
    )
    np.testing.assert_allclose(by_example, by_position, rtol=1e-13)
