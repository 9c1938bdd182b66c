"""`value_and_grad` and `backprop` against `jax.grad` of `cost`, over networks, losses and options."""

import functools
import itertools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from table import (
    ACTIVATIONS,
    KEY,
    LOSSES,
    backprop,
    cost,
    disagreement,
    params_of,
    predict,
    random,
    target,
    value_and_grad,
)

import funcnet as fn

AXES = {
    "reduction": ["mean", "sum"],
    "weights": [None, "examples", "positions", "some zero"],
    "penalty": [None, fn.L1(0.1), fn.L2(0.1), fn.ElasticNet(0.1, 0.2)],
    "positions": [(), (3,), (2, 1, 2)],
}


def pairwise(axes):
    """Few cases in which every pair of values of two axes meets (greedy)."""
    names = list(axes)
    missing = {
        ((a, i), (b, j))
        for a, b in itertools.combinations(names, 2)
        for i in range(len(axes[a]))
        for j in range(len(axes[b]))
    }
    draw, cases = np.random.default_rng(0), []
    while missing:
        seeded = dict(min(missing))
        tries = [{n: seeded.get(n, int(draw.integers(len(axes[n])))) for n in names} for _ in range(60)]
        covered = [set(itertools.combinations(case.items(), 2)) & missing for case in tries]
        best = max(range(len(tries)), key=lambda k: len(covered[k]))
        missing -= covered[best]
        cases.append({name: axes[name][i] for name, i in tries[best].items()})
    return cases


def weights_of(kind, m, positions):
    if kind is None:
        return None
    shape = (m,) if kind == "examples" else (m, *positions)
    weights = 0.5 + abs(np.random.default_rng(9).normal(size=shape))
    weights[1] *= kind != "some zero"
    return weights


automatic = jax.jit(jax.value_and_grad(fn.cost, argnums=2), static_argnames="reduction")
BOTH_WAYS = (value_and_grad, automatic)


@functools.partial(jax.jit, static_argnames="reduction")
def both(net, loss, params, x, y, **options):
    """Cost and gradient by the hand-written pass and by JAX, in one program."""
    by_jax = jax.value_and_grad(fn.cost, argnums=2)
    return fn.value_and_grad(net, loss, params, x, y, **options), by_jax(net, loss, params, x, y, **options)


# Every pair of options meets; activations and losses, whose derivatives stand alone, take turns until each had one.
PAIRS = pairwise(AXES)
TURNS = range(max(map(len, (PAIRS, ACTIVATIONS, LOSSES))))
CASES = [
    {"activation": activation, "loss": loss, **case}
    for _, case, activation, loss in zip(TURNS, *map(itertools.cycle, (PAIRS, ACTIVATIONS, LOSSES)))
]
FAST = [pytest.param(case, marks=pytest.mark.fast if i % 4 == 0 else ()) for i, case in enumerate(CASES)]


@pytest.mark.parametrize("case", FAST, ids=lambda case: "-".join(map(str, case.values())))
def test_every_pair_of_options_agrees_with_automatic_differentiation(case):
    net = fn.Chain(fn.Dense(3, 4), case["activation"], fn.Dense(4, 2))
    x = random(1, 5, *case["positions"], 3)
    y = target(case["loss"], (*x.shape[:-1], 2))
    options = {
        "weights": weights_of(case["weights"], 5, case["positions"]),
        "penalty": case["penalty"],
        "reduction": case["reduction"],
        "key": KEY if isinstance(case["activation"], fn.Dropout) else None,
    }
    assert disagreement(*both(net, case["loss"], params_of(net), x, y, **options)) <= 1e-12


def test_every_activation_and_every_loss_has_its_case():
    assert {case["activation"] for case in CASES} == set(ACTIVATIONS)
    assert {case["loss"] for case in CASES} == set(LOSSES)


def layers_of_width(width, depth):
    """Layers that keep a width: elementwise ones, a `Dense`, nested chains and residuals."""
    leaf = st.sampled_from([fn.Tanh(), fn.GELU(), fn.SiLU(), fn.Softplus(), fn.ELU(0.5), fn.Dense(width, width)])
    if width > 2:  # with two features a norm's derivative is rounding and little else
        leaf = leaf | st.just(fn.LayerNorm(width))
    if depth == 0:
        return leaf
    inner = layers_of_width(width, depth - 1)
    chains = st.lists(inner, max_size=3).map(lambda layers: fn.Chain(*layers))
    return leaf | chains | inner.map(fn.Residual)


@st.composite
def architectures(draw):
    sizes = draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    layers = []
    for n_in, n_out in itertools.pairwise(sizes):
        layers += [fn.Dense(n_in, n_out, bias=draw(st.booleans())), draw(layers_of_width(n_out, 2))]
    return fn.Chain(*layers)


@settings(max_examples=12)
@given(
    net=architectures(),
    loss=st.sampled_from([fn.SquaredError(), fn.LogCosh(), fn.BinaryCrossEntropy()]),
    m=st.integers(1, 4),
    positions=st.lists(st.integers(1, 3), max_size=3),
    reduction=st.sampled_from(["mean", "sum"]),
    weighted=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_drawn_architectures_agree_with_automatic_differentiation(net, loss, m, positions, reduction, weighted, seed):
    x = random(seed, m, *positions, net.n_in)
    params = params_of(net, seed)
    y = target(loss, (m, *positions, net.layers[-2].n_out), seed)
    weights = abs(np.random.default_rng(seed + 1).normal(size=(m, *positions))) if weighted else None
    assert disagreement(*both(net, loss, params, x, y, weights=weights, reduction=reduction)) <= 1e-12


NET = fn.Chain(
    fn.Dense(3, 4), fn.Tanh(), fn.Residual(fn.Chain(fn.Dense(4, 4), fn.GELU(), fn.Dropout(0.2))), fn.Dense(4, 2)
)
PARAMS, X, Y = params_of(NET), random(1, 6, 3), random(2, 6, 2)
LOSS = fn.SquaredError()


@pytest.mark.fast
def test_backprop_is_of_the_summed_cost_whatever_the_batch():
    weights = np.arange(6.0)
    whole = backprop(NET, LOSS, PARAMS, X, Y, weights=weights)
    part = backprop(NET, LOSS, PARAMS, X[2:5], Y[2:5], weights=weights[2:5])
    assert disagreement(jax.tree.map(lambda leaf: np.asarray(leaf)[2:5], whole), part) <= 1e-14
    summed = value_and_grad(NET, LOSS, PARAMS, X, Y, weights=weights, reduction="sum")
    total = np.sum(whole.costs), jax.jit(fn.gradient)(NET, whole.tape, whole.deltas)
    assert disagreement(total, summed) <= 1e-14


@pytest.mark.fast
def test_input_delta_is_the_derivative_with_respect_to_x():
    x, y = random(1, 6, 2, 3), random(2, 6, 2, 2)
    bp = backprop(NET, LOSS, PARAMS, x, y)
    slope = jax.jit(jax.grad(lambda x: fn.cost(NET, LOSS, PARAMS, x, y, reduction="sum")))(x)
    assert disagreement(bp.input_delta, slope) <= 1e-12
    assert bp.costs.shape == (6,)
    assert disagreement(bp.costs, np.square(np.asarray(bp.output) - np.asarray(y)).sum((1, 2)) / 2) <= 1e-15


@pytest.mark.fast
@pytest.mark.parametrize("key", [jax.random.key(4), jax.random.split(jax.random.key(4), 6)], ids=["one", "many"])
def test_dropout_draws_the_same_forward_and_backward(key):
    hand, by_jax = both(NET, LOSS, PARAMS, X, Y, key=key)
    assert disagreement(hand, by_jax) <= 1e-12
    assert hand[0] != cost(NET, LOSS, PARAMS, X, Y)


@pytest.mark.fast
@pytest.mark.parametrize(("reduction", "bad"), [("mean", np.inf), ("sum", np.nan), ("mean", 1e308)])
def test_an_example_of_weight_zero_contributes_exactly_nothing(reduction, bad):
    weights = np.array([1.0, 0.0, 2.0, 0.0, 1.0, 3.0])
    kept = np.flatnonzero(weights)
    x, y = np.array(X), np.array(Y)
    x[[1, 3]] = y[[1, 3]] = bad
    for function in BOTH_WAYS:
        result = function(NET, LOSS, PARAMS, x, y, weights=weights, reduction=reduction)
        alone = function(NET, LOSS, PARAMS, X[kept], Y[kept], weights=weights[kept], reduction=reduction)
        assert disagreement(result, alone) <= 1e-14
        without = function(NET, LOSS, PARAMS, X, Y, weights=weights, reduction=reduction)
        assert disagreement(result, without) == 0
    bp = backprop(NET, LOSS, PARAMS, x, y, weights=weights)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(bp))
    assert not bp.costs[1]
    assert not np.asarray(bp.input_delta)[[1, 3]].any()


@pytest.mark.fast
@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_position_of_weight_zero_contributes_nothing(bad):
    x, y, weights = np.array(random(1, 4, 3, 3)), np.random.default_rng(0).integers(0, 2, (4, 3)), np.ones((4, 3))
    weights[0, 2] = weights[2] = 0
    expected = value_and_grad(NET, fn.CrossEntropy(), PARAMS, x, y, weights=weights)
    padded, labels = np.array(x), np.array(y)
    padded[0, 2] = padded[2] = bad
    labels[0, 2], labels[2] = -1, 99
    for function in BOTH_WAYS:
        result = function(NET, fn.CrossEntropy(), PARAMS, padded, labels, weights=weights)
        assert disagreement(result, expected) <= 1e-14


@pytest.mark.fast
def test_the_mean_divides_by_the_weights_of_examples_or_of_positions():
    x, y = random(1, 4, 3, 3), random(2, 4, 3, 2)
    costs = np.square(np.asarray(predict(NET, PARAMS, x)) - np.asarray(y)).sum(-1) / 2
    by_example, by_position = (abs(np.random.default_rng(seed).normal(size=(4, 3)[:seed])) for seed in (1, 2))
    for ones in (None, np.ones(4), np.ones((4, 3))):
        assert np.isclose(cost(NET, LOSS, PARAMS, x, y, weights=ones), costs.sum() / 12, rtol=1e-14)
    J = cost(NET, LOSS, PARAMS, x, y, weights=by_example)
    assert np.isclose(J, (costs * by_example[:, None]).sum() / (3 * by_example.sum()), rtol=1e-14)
    J = cost(NET, LOSS, PARAMS, x, y, weights=by_position)
    assert np.isclose(J, (costs * by_position).sum() / by_position.sum(), rtol=1e-14)
    J = cost(NET, LOSS, PARAMS, x, y, weights=by_position, reduction="sum")
    assert np.isclose(J, (costs * by_position).sum(), rtol=1e-14)
    assert fn.cost(NET, LOSS, PARAMS, x, y, weights=np.array([True, False, True, True])).shape == ()


@pytest.mark.fast
@pytest.mark.parametrize("x", [X, np.full(X.shape, np.inf)], ids=["finite", "infinite"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_weights_all_zero_give_cost_and_gradient_zero(x, reduction):
    for function in BOTH_WAYS:
        J, grads = function(NET, LOSS, PARAMS, x, Y, weights=np.zeros(6), reduction=reduction)
        assert J == 0
        assert not any(leaf.any() for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize("weights", [None, np.zeros(0)], ids=["unweighted", "weighted"])
def test_an_empty_batch_costs_nothing(weights):
    J, grads = value_and_grad(NET, LOSS, PARAMS, X[:0], Y[:0], weights=weights)
    assert J == 0
    assert not any(leaf.any() for leaf in jax.tree.leaves(grads))


@pytest.mark.fast
def test_a_penalty_is_added_once_and_not_divided():
    plain, penalised = (value_and_grad(NET, LOSS, PARAMS, X, Y, penalty=p) for p in (None, fn.L2(0.3)))
    extra = jax.jit(lambda params: (fn.L2(0.3).value(params), fn.L2(0.3).gradient(params)))(PARAMS)
    assert disagreement(penalised, jax.tree.map(np.add, plain, extra)) <= 1e-14
    without, summed = (cost(NET, LOSS, PARAMS, X, Y, penalty=p, reduction="sum") for p in (None, fn.L2(0.3)))
    assert np.isclose(float(summed) - float(without), extra[0], rtol=1e-12)


def test_a_network_may_be_a_single_layer():
    net = fn.Dense(3, 2)
    assert disagreement(*both(net, LOSS, params_of(net), X, Y)) <= 1e-12


def test_specs_are_plain_arguments_of_jit_and_equal_networks_trace_once():
    traces = []

    @fn.spec
    class Counted:
        def init(self, key):
            return ()

        def forward(self, params, x, key=None):
            traces.append(1)
            return x, ()

        def backward(self, params, tape, delta):
            return delta, delta

        def gradient(self, tape, deltas):
            return ()

    compiled = jax.jit(fn.value_and_grad)
    results = []
    for _ in range(3):
        net = fn.Chain(fn.Dense(3, 2), Counted())
        results.append(compiled(net, fn.SquaredError(), params_of(net), X, Y))
        if len(results) == 1:
            first = len(traces)
    assert len(traces) == first
    assert disagreement(results[0], results[2]) == 0


def test_every_public_function_works_under_jit_and_vmap():
    output, tape = jax.jit(fn.forward)(NET, PARAMS, X)
    input_delta, deltas = jax.jit(fn.backward)(NET, PARAMS, tape, np.asarray(output) - np.asarray(Y))
    grads = jax.jit(fn.gradient)(NET, tape, deltas)
    bp = backprop(NET, LOSS, PARAMS, X, Y)
    assert disagreement((output, input_delta), (bp.output, bp.input_delta)) <= 1e-14
    assert disagreement(grads, value_and_grad(NET, LOSS, PARAMS, X, Y, reduction="sum")[1]) <= 1e-14
    assert disagreement(predict(NET, PARAMS, X), output) <= 1e-14

    @jax.jit
    def lanes_and_one(keys):
        def train_cost(key):
            params = fn.init(NET, key)
            return params, fn.value_and_grad(NET, LOSS, params, X, Y, key=key)

        together, one = jax.vmap(train_cost)(keys), train_cost(keys[2])
        return jax.tree.map(lambda leaf: leaf[2], together), one

    assert disagreement(*lanes_and_one(jax.random.split(jax.random.key(0), 3))) <= 1e-13
    over_x = jax.jit(jax.vmap(fn.value_and_grad, in_axes=(None, None, None, 0, 0)))
    assert (
        disagreement(np.mean(over_x(NET, LOSS, PARAMS, X[:, None], Y[:, None])[0]), cost(NET, LOSS, PARAMS, X, Y))
        <= 1e-14
    )


def test_a_spec_sits_in_the_carry_of_a_scan():
    def step(carry, x):
        net, params = carry
        return (net, params), fn.predict(net, params, x[None])

    _, outputs = jax.jit(lambda carry: jax.lax.scan(step, carry, X))((NET, PARAMS))
    assert disagreement(np.asarray(outputs)[:, 0], predict(NET, PARAMS, X)) <= 1e-14


def test_grad_of_cost_is_plain_jax_and_may_be_differentiated_again():
    net, w, y = fn.Dense(3, 1), np.ones((3, 1)), Y[:, :1]
    hessian = jax.jit(jax.hessian(lambda b: fn.cost(net, LOSS, {"w": w, "b": b}, X, y)))(np.zeros(1))
    assert np.allclose(hessian, 1)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_types_of_parameters_are_kept_and_the_cost_is_held_wider(dtype):
    params, x, y = jax.tree.map(lambda leaf: np.asarray(leaf).astype(dtype), (PARAMS, X, Y))
    J, grads = value_and_grad(NET, LOSS, params, x, y, penalty=fn.L2(0.1), weights=np.ones(6))
    assert J.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype(dtype)}
    exact = value_and_grad(NET, LOSS, PARAMS, X, Y, penalty=fn.L2(0.1))
    assert disagreement((J, grads), exact) < (0.1 if dtype == jnp.bfloat16 else 1e-5)


def test_float32_is_the_default_and_mean_agrees_to_its_precision():
    enable = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
    with enable(False):
        params = fn.init(NET, jax.random.key(0))
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}
        x, y = np.asarray(X), np.asarray(Y)  # float64 arrays of NumPy are JAX's default type to it
        found, expected = both(NET, LOSS, params, x, y)
        assert found[0].dtype == jnp.float32
        assert disagreement(found, expected) <= 1e-5


def test_another_rule_is_backward_with_other_parameters():
    net = fn.mlp((3, 4, 2))
    params, feedback = params_of(net), params_of(net, seed=8)
    output, tape = jax.jit(fn.forward)(net, params, X)
    delta = np.asarray(output) - np.asarray(Y)
    _, deltas = jax.jit(fn.backward)(net, feedback, tape, delta)
    by_hand = (delta @ np.asarray(feedback[2]["w"]).T) * (1 - np.square(tape[1]))
    assert disagreement(deltas[0], by_hand) <= 1e-14


def test_from_weights_puts_each_where_it_belongs():
    net = fn.Chain(fn.Dense(2, 3), fn.LayerNorm(3), fn.Residual(fn.Dense(3, 3, bias=False)), fn.Dense(3, 1))
    ws = [random(0, 2, 3), random(1, 3, 3), random(2, 3, 1)]
    first, norm, branch, last = fn.from_weights(net, ws, [np.ones(3), np.zeros(3), 5])
    assert (first["w"] == ws[0]).all()
    assert (branch["w"] == ws[1]).all()
    assert (last["w"] == ws[2]).all()
    assert first["b"].tolist() == [1, 1, 1]
    assert last["b"].tolist() == [5]
    assert norm["g"].tolist() == [1, 1, 1]
    assert not fn.from_weights(net, ws)[0]["b"].any()


def test_from_weights_takes_matrices_and_kernels_of_other_libraries():
    """Square ones, too, of which no shape tells the order; kernels as PyTorch and Equinox have them."""
    net = fn.Chain(fn.Conv(2, 4, (3, 5), groups=2), fn.Flatten(), fn.Dense(4 * 6 * 4, 4), fn.Dense(4, 4))
    kernel, w, square, x = random(0, 4, 1, 3, 5), random(1, 4, 96), random(2, 4, 4), random(3, 2, 6, 4, 2)
    params = fn.from_weights(net, [kernel, w, square], order="to,from")
    y = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "OIHW", "NHWC"), feature_group_count=2
    )
    expected = np.asarray(y).reshape(2, -1) @ w.T @ square.T
    assert disagreement(fn.predict(net, params, x), expected) <= 1e-14


@pytest.mark.fast
@pytest.mark.parametrize("size", [1e38, 5e37, 1e-38, 1e-44], ids=str)
def test_a_mean_does_not_see_how_large_all_weights_are(size):
    """Sums of weights that overflow, and of weights that are below the smallest normal float32."""
    x, y = X.astype(np.float32), Y.astype(np.float32)
    params = jax.tree.map(lambda leaf: leaf.astype(np.float32), PARAMS)
    weights, expected = np.full(6, size, np.float32), value_and_grad(NET, LOSS, params, x, y)
    assert disagreement(value_and_grad(NET, LOSS, params, x, y, weights=weights), expected) <= 1e-6
    assert disagreement(fn.cost(NET, LOSS, params, x, y, weights=weights), expected[0]) <= 1e-6


def test_negative_weights_that_cannot_be_seen_make_the_cost_nan():
    J, _ = value_and_grad(NET, LOSS, PARAMS, X, Y, weights=np.array([1.0, -1] * 3))
    assert np.isnan(J)


@pytest.mark.fast
@pytest.mark.parametrize("padding", [0.0, 1e20])
@pytest.mark.parametrize("first", [fn.GELU(), fn.LayerNorm(3, epsilon=0.0)], ids=repr)
def test_padding_of_weight_zero_contributes_nothing_whatever_a_layer_makes_of_it(first, padding):
    net = fn.Chain(first, fn.Dense(3, 2))
    x, y, weights = np.array(random(1, 4, 3, 3)), random(2, 4, 3, 2), np.ones((4, 3))
    weights[0, 2] = weights[2] = 0
    params = params_of(net)
    expected = value_and_grad(net, LOSS, params, x, y, weights=weights)
    padded = np.array(x)
    padded[0, 2] = padded[2] = padding
    assert disagreement(value_and_grad(net, LOSS, params, padded, y, weights=weights), expected) <= 1e-14


@pytest.mark.fast
@pytest.mark.parametrize("weights", [None, np.full(300, 1 / 3)], ids=["unweighted", "weighted"])
def test_a_mean_in_bfloat16_is_divided_once_at_the_end(weights):
    x, y = jnp.ones((300, 1), jnp.bfloat16), jnp.zeros((300, 1), jnp.bfloat16)
    params = {"w": jnp.ones((1, 1), jnp.bfloat16), "b": jnp.zeros(1, jnp.bfloat16)}
    _, grads = value_and_grad(fn.Dense(1, 1), LOSS, params, x, y, weights=weights)
    assert grads["w"].tolist() == [[1.0]]


def test_numpy_parameters_are_taken_as_jax_takes_them():
    enable = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
    with enable(False):
        net = fn.mlp((3, 2))
        params = ({"w": np.ones((3, 2)), "b": np.zeros(2)},)
        J, _ = fn.value_and_grad(net, LOSS, params, np.asarray(X), np.asarray(Y))
        assert J.dtype == jnp.float32
        with pytest.raises(ValueError, match="y: holds integers beyond int32"):
            fn.cost(net, fn.CrossEntropy(), params, np.asarray(X), np.array([0, 1, 0, 1, 0, 2**32]))
        labels = np.array([0, 1, 0, 1, 0, 1])  # int64, which JAX narrows, in a jit that does not see it as an argument
        jax.jit(lambda params: fn.cost(net, fn.CrossEntropy(), params, np.asarray(X), labels))(params)


@fn.spec
class Embedding:
    """A user's layer on integers."""

    n: int

    def init(self, key):
        return {"w": jax.random.normal(key, (self.n, 2))}

    def forward(self, params, x, key=None):
        return params["w"][x[..., 0]], (x, jnp.zeros((len(x), self.n), params["w"].dtype))

    def backward(self, params, tape, delta):
        return tape[0], delta

    def gradient(self, tape, deltas):
        hot = jax.nn.one_hot(tape[0][..., 0], self.n, dtype=deltas.dtype)
        return {"w": jnp.einsum("mn,mk->nk", hot, deltas)}


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.bfloat16])
def test_integers_go_into_a_layer_that_takes_them(dtype):
    net = fn.Chain(Embedding(5), fn.Dense(2, 2))
    x, params = jnp.array([[0], [3], [4], [3]]), params_of(net, dtype=dtype)
    hand, automatic = both(net, LOSS, params, x, Y[:4].astype(dtype))
    assert disagreement(hand, automatic) <= (1e-12 if dtype == jnp.float64 else 0.05)
    report = fn.check_gradients(net, LOSS, params, x, Y[:4].astype(dtype))
    assert report.ok, str(report)
    assert [row.name for row in report.rows] == ["layer 1, w", "layer 2, b", "layer 2, w"]
    assert fn.check_layer(Embedding(5), params[0], x).ok


@pytest.mark.fast
def test_a_combinator_of_ones_own():
    @fn.spec
    class Sum:
        branches: tuple[fn.Layer, ...]

        def init(self, key):
            return tuple(branch.init(fn.child_key(key, i)) for i, branch in enumerate(self.branches))

        def forward(self, params, x, key=None):
            keys = [fn.child_key(key, i) for i in range(len(self.branches))]
            outputs, tape = zip(*(b.forward(p, x, k) for b, p, k in zip(self.branches, params, keys)))
            return sum(outputs[1:], outputs[0]), tape

        def backward(self, params, tape, delta):
            found = [b.backward(p, t, delta) for b, p, t in zip(self.branches, params, tape)]
            inputs, deltas = zip(*found)
            return sum(inputs[1:], inputs[0]), deltas

        def contract(self, f, tape, deltas):
            return tuple(fn.contract(b, f, t, d) for b, t, d in zip(self.branches, tape, deltas))

    net = fn.Chain(Sum((fn.Dense(3, 4), fn.Chain(fn.Dense(3, 4), fn.Dropout(0.5)))), fn.Dense(4, 2))
    hand, automatic = both(net, LOSS, params_of(net), X, Y, key=jax.random.key(0))
    assert disagreement(hand, automatic) <= 1e-12
    report = fn.check_layer(net, params_of(net), X, key=jax.random.key(1), entries=20)
    assert report.ok, str(report)


def test_a_gradient_unlike_the_parameters_is_refused():
    class Wrong:
        n: int
        init, forward, backward = Embedding.init, Embedding.forward, Embedding.backward

        def gradient(self, tape, deltas):
            return {"v": deltas}

    net = fn.spec(Wrong)(5)
    with pytest.raises(ValueError, match=r"expected the shapes of params.*fn.check_layer"):
        fn.value_and_grad(net, LOSS, params_of(net), jnp.array([[0], [3]]), Y[:2])
