"""`Conv` and `ConvTranspose` against JAX, their definitions and each other, over every pair of choices."""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from table import disagreement, params_of, random

import funcnet as fn
from funcnet._core import contractions

N_IN, N_OUT = 4, 8
EXPLICIT = ((2, 1), (0, 1), (1, 0))
CHOICES = {
    "axes": (1, 2, 3),
    "kernel": (1, 2, 3),
    "stride": (1, 2, 3),
    "dilation": (1, 2),
    "groups": (1, 2, N_IN),
    "padding": ("SAME", "VALID", EXPLICIT),
}


def every_pair():
    """Few rows of choices in which any two of different kinds meet: each row the one with the most new pairs."""
    kinds = range(len(CHOICES))
    rows = {row: {(i, j, row[i], row[j]) for i, j in itertools.combinations(kinds, 2)} for row in product()}
    missing = set.union(*rows.values())
    while missing:
        best = max(rows, key=lambda row: len(rows[row] & missing))
        missing -= rows[best]
        yield dict(zip(CHOICES, best))


def product():
    return itertools.product(*CHOICES.values())


def turned(first, largest, axes):
    """The numbers from the first on, in a circle: axes that differ, so that none can stand for another."""
    return tuple((first - 1 + axis) % largest + 1 for axis in range(axes))


def layer_of(kind, choices, number):
    axes, padding = choices["axes"], choices["padding"]
    return kind(
        N_IN,
        N_OUT,
        turned(choices["kernel"], 3, axes),
        stride=turned(choices["stride"], 3, axes),
        dilation=turned(choices["dilation"], 2, axes),
        groups=choices["groups"],
        padding=padding if isinstance(padding, str) else padding[:axes],
        bias=number % 3 > 0,
    )


CONVS, TRANSPOSES = (
    [layer_of(kind, choices, number) for number, choices in enumerate(every_pair())]
    for kind in (fn.Conv, fn.ConvTranspose)
)
LAYERS = CONVS + TRANSPOSES
each_layer = pytest.mark.parametrize("layer", LAYERS, ids=repr)


def positions_of(layer):
    """Some of them on no window where there are strides."""
    return ((7, 6, 5) if isinstance(layer, fn.Conv) else (4, 3, 2))[: len(layer.kernel_size)]


def by_hand(layer, params, x, delta):
    y, tape = layer.forward(params, x)
    input_delta, deltas = layer.backward(params, tape, delta)
    return y, (layer.gradient(tape, deltas), input_delta)


def by_jax(layer, params, x, delta):
    y, pullback = jax.vjp(lambda params, x: layer.forward(params, x)[0], params, x)
    return y, pullback(delta)


@jax.jit
def both_ways(layer, params, batches):
    """Of each batch the derivatives by hand and by JAX, and of the first the gradients of each example alone."""
    x, delta = batches[0]
    alone = lax.map(lambda one: by_jax(layer, params, *(a[None] for a in one))[1][0], (x, delta))
    own = jax.vmap(lambda one, d: layer.gradient(one[None], d[None]))(x, delta)
    pairs = [(by_hand(layer, params, *batch), by_jax(layer, params, *batch)) for batch in batches]
    return pairs, (own, contractions.gradients(layer, x, delta), alone), layer.as_dense(x, delta)


@functools.cache
def problem(layer, m=3):
    params, x = params_of(layer), random(1, m, *positions_of(layer), N_IN)
    y = jax.eval_shape(lambda x: layer.forward(params, x)[0], x)
    return params, x, random(2, *y.shape)


@functools.cache
def results(layer):
    """3 examples, and 19: two blocks of 8 and a rest."""
    params = problem(layer)[0]
    return both_ways(layer, params, [problem(layer, m)[1:] for m in (3, 19)])


@pytest.mark.fast
@each_layer
def test_backward_and_gradient_are_those_of_jax(layer):
    for hand, automatic in results(layer)[0]:
        assert disagreement(hand, automatic) <= 1e-12


@pytest.mark.fast
@each_layer
def test_gradients_of_examples_under_vmap_and_by_its_own_function_are_those_of_each_alone(layer):
    own, said, alone = results(layer)[1]
    assert disagreement(own, alone) <= 1e-10
    assert disagreement(said, alone) <= 1e-10


@pytest.mark.fast
@each_layer
def test_as_dense_is_the_examples_gradients(layer):
    form, (*_, alone) = results(layer)[2], results(layer)[1]
    inputs, signals, constant = map(np.asarray, form)
    assert constant == layer.bias
    grads = {"w": np.einsum("mta,mtg->mag", inputs, signals).reshape(alone["w"].shape)}
    assert disagreement(grads | ({"b": signals.sum(1)} if constant else {}), alone) <= 1e-12


@pytest.mark.fast
@pytest.mark.parametrize("layer", CONVS, ids=repr)
def test_conv_is_that_of_jax(layer):
    params, x, _ = problem(layer)
    axes = len(layer.kernel_size)
    places, steps = "HWD"[:axes], {"stride": layer.stride, "dilation": layer.dilation}
    stride, dilation = (value if isinstance(value, tuple) else (value,) * axes for value in steps.values())
    expected = lax.conv_general_dilated(
        x, params["w"], stride, layer.padding, rhs_dilation=dilation, feature_group_count=layer.groups,
        dimension_numbers=(f"N{places}C", f"{places}IO", f"N{places}C"),
    )  # fmt: skip
    y = results(layer)[0][0][0][0]
    assert disagreement(y, expected + lax.broadcast(params.get("b", jnp.zeros(N_OUT)), expected.shape[:-1])) <= 1e-12


@pytest.mark.fast
@pytest.mark.parametrize("layer", TRANSPOSES, ids=repr)
def test_conv_transpose_is_the_adjoint_of_conv(layer):
    params, x, delta = problem(layer)
    back = fn.Conv(
        N_OUT, N_IN, layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups, bias=False
    )
    parts = np.split(np.asarray(params["w"]), layer.groups, axis=-1)
    w = np.concatenate([part.swapaxes(-1, -2) for part in parts], axis=-1)
    y = results(layer)[0][0][0][0] - lax.broadcast(params.get("b", jnp.zeros(N_OUT)), delta.shape[:-1])
    there = jnp.vdot(y, delta)
    assert disagreement(there, jnp.vdot(x, back.forward({"w": jnp.asarray(w)}, delta)[0])) <= 1e-12


@pytest.mark.fast
@each_layer
def test_as_many_positions_come_out_as_the_padding_says(layer):
    sizes, axes, transposed = positions_of(layer), len(layer.kernel_size), isinstance(layer, fn.ConvTranspose)
    stride, dilation = ((v,) * axes if isinstance(v, int) else v for v in (layer.stride, layer.dilation))
    extents = [(k - 1) * d + 1 for k, d in zip(layer.kernel_size, dilation)]
    if layer.padding == "SAME":
        expected = [n * s if transposed else -(-n // s) for n, s in zip(sizes, stride)]
    else:
        pads = [0] * axes if layer.padding == "VALID" else map(sum, layer.padding)
        there = zip(sizes, stride, extents, pads)
        expected = [(n - 1) * s + e - p if transposed else (n + p - e) // s + 1 for n, s, e, p in there]
    assert problem(layer)[2].shape == (3, *expected, N_OUT)


@pytest.mark.fast
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_beside_a_cpu_they_are_the_same(groups, monkeypatch):
    layer = fn.Conv(4, 4, (3, 2), stride=(3, 1), dilation=(1, 2), groups=groups)
    params, x, delta = params_of(layer), random(1, 9, 6, 5, 4), random(2, 9, 2, 5, 4)
    here = jax.jit(lambda: by_hand(layer, params, x, delta))()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert disagreement(jax.jit(lambda: by_hand(layer, params, x, delta))(), here) <= 1e-12


@pytest.mark.fast
@pytest.mark.parametrize(
    ("layer", "m"), [(fn.Conv(2, 3, (3, 3), dilation=2), 20), (fn.ConvTranspose(2, 3, (2,), stride=2), 9)], ids=repr
)
def test_square_norms_of_a_network_are_those_of_jax(layer, m):
    """Of more examples than positions, and of fewer."""
    net = fn.Chain(layer, fn.Tanh(), fn.Flatten())
    params, x = params_of(net), random(1, m, *(3, 4)[: len(layer.kernel_size)], 2)
    y = random(2, *jax.eval_shape(lambda x: fn.predict(net, params, x), x).shape)

    @jax.jit
    def norms(x, y):
        bp = fn.backprop(net, fn.SquaredError(), params, x, y)

        def own(example):
            one = tuple(a[None] for a in example)
            return jax.grad(lambda params: fn.cost(net, fn.SquaredError(), params, *one, reduction="sum"))(params)

        squares = [(g * g).reshape(m, -1).sum(1) for g in jax.tree.leaves(lax.map(own, (x, y)))]
        return fn.example_square_norms(net, bp), sum(squares)

    assert disagreement(*norms(x, y)) <= 1e-12


IMAGES = fn.Conv(3, 8, (3, 3))


@pytest.mark.fast
@pytest.mark.parametrize(
    ("layer", "shape", "words"),
    [
        (IMAGES, (5, 28, 28), r"Conv(3, 8, (3, 3)): expected inputs (m, height, width, 3), got shape (5, 28, 28)"),
        (IMAGES, (5, 28, 28), r"x[..., None]"),
        (IMAGES, (28, 28, 3), r"x[None]"),
        (IMAGES, (5, 3, 28, 28), r"x.transpose((0, 2, 3, 1))"),
        (fn.Conv(3, 8, (3,)), (5, 3, 28), "got shape (5, 3, 28). There they stand second: use x.transpose((0, 2, 1))."),
        (fn.Conv(3, 8, (3, 3, 3)), (5, 3, 9, 9, 9), r"x.transpose((0, 2, 3, 4, 1))"),
        (IMAGES, (5, 28, 28, 1), "expected inputs with 3 features on the last axis, got shape (5, 28, 28, 1)"),
        (IMAGES, (5, 3), "x.reshape(-1, height, width, 3); Flatten comes behind"),
        (fn.ConvTranspose(3, 8, (3, 3)), (5, 28, 28), r"x[..., None]"),
        (fn.ConvTranspose(3, 8, (3,)), (5, 28, 1), "expected inputs with 3 features"),
        (fn.Conv(3, 8, (5, 2), padding="VALID", dilation=2), (1, 8, 8, 3), "9 × 3 positions does not fit into 8 × 8"),
        (fn.ConvTranspose(3, 8, (1,), padding=((2, 1),)), (1, 3, 3), "nothing comes of 3 positions. Use less padding"),
    ],
    ids=repr,
)
def test_inputs_that_do_not_fit_are_refused_with_what_to_do(layer, shape, words):
    params = params_of(layer)
    with pytest.raises(ValueError, match=re.escape(words)):
        layer.forward(params, jnp.zeros(shape))


@pytest.mark.fast
@pytest.mark.parametrize("layer", [fn.Conv, fn.ConvTranspose])
@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((3, 4, (3, 3)), {"groups": 2}, "groups must divide n_in and n_out"),
        ((4, 3, (3, 3)), {"groups": 2}, "groups must divide n_in and n_out"),
        ((4, 4, (3, 3)), {"groups": 0}, "sizes must be 1 or more"),
        ((0, 4, (3, 3)), {}, "sizes must be 1 or more"),
        ((4, 4, (3, 3)), {"stride": 0}, "stride must be one number, or 2, of 1 or more"),
        ((4, 4, (3, 3)), {"stride": (2, 2, 2)}, "stride must be one number, or 2, of 1 or more"),
        ((4, 4, (3,)), {"dilation": (1, 2)}, "dilation must be one number, or 1, of 1 or more"),
        ((4, 4, (3, 0)), {}, "kernel_size must be numbers of 1 or more"),
        ((4, 4, (3, 3)), {"padding": "same"}, "padding must be 'SAME', 'VALID' or pairs"),
        ((4, 4, (3, 3)), {"padding": ((1, 1),)}, "padding must be 2 pairs"),
        ((4, 4, (3,)), {"padding": ((1, -1),)}, "of 0 or more"),
        ((4, 4, (3, 3, 3, 3)), {}, "needs a size for each of 1, 2 or 3 axes"),
        ((4, 4, ()), {}, "needs a size for each of 1, 2 or 3 axes"),
    ],
    ids=repr,
)
def test_sizes_that_do_not_fit_together_are_refused(layer, arguments, options, words):
    with pytest.raises(ValueError, match=f"^{layer.__name__}.*{re.escape(words)}"):
        layer(*arguments, **options)


@pytest.mark.fast
@pytest.mark.parametrize("layer", [fn.Conv, fn.ConvTranspose])
def test_one_number_for_all_axes_and_one_for_each_are_the_same_layer(layer):
    short, long = layer(1, 2, (3, 3), stride=2, dilation=3), layer(1, 2, (3, 3), stride=(2, 2), dilation=(3, 3))
    assert short == long
    assert hash(short) == hash(long)
    assert repr(short) == repr(long) == f"{layer.__name__}(1, 2, (3, 3), stride=2, dilation=3)"
    assert fn.from_json(fn.to_json(long)) == short
    assert layer(1, 2, (3, 3), stride=(1, 1)) == layer(1, 2, (3, 3)) != layer(1, 2, (3, 3), stride=(1, 2))


@pytest.mark.fast
def test_who_asks_for_batch_norm_is_told_what_to_take():
    with pytest.raises(AttributeError, match="GroupNorm.*FrozenBatchNorm"):
        _ = fn.BatchNorm
    assert not hasattr(fn, "Conv2d")
