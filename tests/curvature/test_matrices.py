"""Curvature against explicit Jacobians and Hessians, example by example, and where it is known exactly."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from table import KEY, LOSSES, Scale, disagreement, params_of, predict, random, target, tokens

import funcnet as fn


@fn.spec
class Meet:
    """A layer whose positions meet: y_t = x_t + ½ x_{t-1}, round in a circle."""

    def init(self, key):
        return ()

    def forward(self, params, x, key=None):
        return x + 0.5 * jnp.roll(x, 1, 1), ()

    def backward(self, params, tape, delta):
        return delta + 0.5 * jnp.roll(delta, -1, 1), delta

    def gradient(self, tape, deltas):
        return ()


@fn.spec
class Pool:
    """The mean over positions, which leaves none."""

    def init(self, key):
        return ()

    def forward(self, params, x, key=None):
        return x.mean(1), jnp.zeros((len(x), 0, x.shape[1]))

    def backward(self, params, tape, delta):
        n = tape.shape[-1]
        return jnp.broadcast_to(delta[:, None] / n, (len(delta), n, delta.shape[-1])), delta

    def gradient(self, tape, deltas):
        return ()


@fn.spec
class BatchNorm:
    """Owns up to mixing examples; what it computes does not matter."""

    mixes_examples = True
    init, forward, backward, gradient = Meet.init, Meet.forward, Meet.backward, Meet.gradient


PLAIN = fn.mlp((3, 4, 2))
DEEP = fn.Chain(
    fn.Dense(3, 4, bias=False),
    fn.LayerNorm(4),
    fn.Residual(fn.Chain(fn.Dense(4, 4), fn.Tanh(), fn.Dropout(0.5))),
    fn.Tanh(),
    fn.Dense(4, 2),
)
OWN = fn.Chain(fn.Dense(3, 3), Scale(3), fn.Tanh(), fn.Dense(3, 2))
MEETING = fn.Chain(fn.Dense(3, 3), fn.Tanh(), Meet(), fn.LayerNorm(3), fn.Dense(3, 2))
POOLED = fn.Chain(fn.Dense(3, 3), fn.Tanh(), Pool(), fn.Dense(3, 2))
CASES = [  # net, positions, examples
    (PLAIN, (), 1),
    (fn.mlp((3, 4, 11)), (), 3),
    (PLAIN, (1,), 3),
    (PLAIN, (2, 2), 3),
    (DEEP, (), 4),
    (DEEP, (3,), 2),
    (OWN, (2,), 3),
    (MEETING, (1,), 2),
    (MEETING, (3,), 2),
    (POOLED, (3,), 2),
]
GGN_LOSSES = [loss for loss in LOSSES if loss != fn.AbsoluteError()]
SAMPLED_LOSSES = [fn.SquaredError(), fn.CrossEntropy(), fn.BinaryCrossEntropy()]
each_case = pytest.mark.parametrize(("net", "positions", "m"), CASES, ids=lambda part: str(part)[:30])
each_loss = pytest.mark.parametrize("loss", GGN_LOSSES, ids=repr)


# Each is one program where eagerly every operation is its own.
ggn_diagonal = jax.jit(fn.ggn_diagonal, static_argnames="kind")
kronecker_factors = jax.jit(fn.kronecker_factors, static_argnames="kind")
empirical_fisher_diagonal = jax.jit(fn.empirical_fisher_diagonal)
forward, backward = jax.jit(fn.forward), jax.jit(fn.backward)
hessian_columns = jax.jit(lambda loss, output, y=None: loss.hessian_columns(output, y))
gradient_of_cost = jax.jit(partial(jax.grad(fn.cost, argnums=2), reduction="sum"))


@jax.jit
def drawn_targets(net, loss, params, x, key):
    return loss.sample(key, fn.predict(net, params, x))


def batch(net, loss, positions, m):
    params, x = params_of(net), random(1, m, *positions, 3)
    return params, x, target(loss, jax.eval_shape(lambda x: net.forward(params, x)[0], x).shape)


@jax.jit
def ggn_of_one(net, loss, params, x, y):
    flat, unravel = ravel_pytree(params)

    def output(flat):
        return net.forward(unravel(flat), x)[0]

    z = output(flat)
    jacobian = jax.jacrev(output)(flat).reshape(z.size, flat.size)
    hessian = jax.hessian(lambda a: loss.value(a.reshape(z.shape), y).sum())(z.ravel())
    return jacobian.T @ hessian @ jacobian


def full_ggn(net, loss, params, x, y):
    """(1/m) Σ_i J_iᵀ H_i J_i, by automatic differentiation of single examples, over the ravelled parameters."""
    return sum(np.asarray(ggn_of_one(net, loss, params, x[i : i + 1], y[i : i + 1])) for i in range(len(x))) / len(x)


def unravelled(params, flat):
    """A vector over the ravelled parameters as a tree of NumPy arrays like them."""
    leaves, treedef = jax.tree.flatten(params)
    parts = np.split(np.asarray(flat), np.cumsum([leaf.size for leaf in leaves])[:-1])
    return treedef.unflatten([part.reshape(leaf.shape) for part, leaf in zip(parts, leaves)])


def squared_gradients(net, loss, params, x, y):
    """The gradient of every example squared, and their mean."""
    x, y = np.asarray(x), np.asarray(y)
    grads = [gradient_of_cost(net, loss, params, x[i : i + 1], y[i : i + 1]) for i in range(len(x))]
    return jax.tree.map(lambda *parts: np.mean(np.square(parts), 0), *grads)


@pytest.mark.fast
@each_loss
@pytest.mark.parametrize("positions", [(), (3,)], ids=str)
def test_hessian_columns_are_a_root_of_the_second_derivative(loss, positions):
    output = 2 * random(0, 5, *positions, 4)
    y = target(loss, output.shape)
    columns = np.asarray(hessian_columns(loss, output, y)).reshape(-1, output.size // 4, 4)
    rows, targets = output.reshape(-1, 4), y.reshape(-1, *y.shape[len(positions) + 1 :])
    hessians = jax.jit(jax.vmap(jax.hessian(lambda a, q: loss.value(a[None], q[None])[0])))(rows, targets)
    assert disagreement(np.einsum("cnj,cnk->njk", columns, columns), hessians) <= 1e-12


def test_hessian_columns_of_probabilities_that_sum_to_almost_1():
    loss, output = fn.CrossEntropy(0.2), random(0, 1, 4)
    q = jnp.array([[0.25, 0.25, 0.25, 0.255]])
    columns = np.asarray(hessian_columns(loss, output, q))[:, 0]
    hessian = jax.jit(jax.hessian(lambda a: loss.value(a[None], q)[0]))(output[0])
    assert disagreement(columns.T @ columns, hessian) <= 1e-12


@pytest.mark.parametrize("loss", [fn.SquaredError(), fn.CrossEntropy(0.1), fn.BinaryCrossEntropy()], ids=repr)
def test_no_target_is_needed_where_the_second_derivative_has_none(loss):
    output = random(0, 5, 3, 4)
    columns = (hessian_columns(loss, output, y) for y in (None, target(loss, output.shape)))
    assert np.array_equal(*columns)


def test_hessian_columns_at_extreme_outputs():
    far = jnp.array([[1e4, -1e4, 0.0]], jnp.float32)
    for loss in GGN_LOSSES:
        columns = hessian_columns(loss, far, target(loss, far.shape, dtype=jnp.float32))
        assert (columns.dtype, columns.shape) == (jnp.float32, (3, 1, 3))
        assert np.isfinite(columns).all()


@pytest.mark.fast
@each_case
def test_exact_diagonal_is_that_of_explicit_jacobians(net, positions, m):
    for loss in GGN_LOSSES if m == 1 else [fn.CrossEntropy()]:
        params, x, y = batch(net, loss, positions, m)
        expected = unravelled(params, np.diag(full_ggn(net, loss, params, x, y)))
        assert disagreement(ggn_diagonal(net, loss, params, x, y), expected) <= 1e-10


@pytest.mark.fast
@each_case
def test_empirical_diagonal_is_that_of_single_gradients(net, positions, m):
    loss = fn.CrossEntropy() if m % 2 else fn.AbsoluteError()
    params, x, y = batch(net, loss, positions, m)
    fisher = empirical_fisher_diagonal(net, loss, params, x, y)
    assert disagreement(fisher, squared_gradients(net, loss, params, x, y)) <= 1e-10


@pytest.mark.fast
@pytest.mark.parametrize(("n_in", "n_out", "length", "m"), [(40, 30, 3, 7), (4, 3, 2, 5), (4, 3, 2, 4), (4, 3, 9, 5)])
def test_blocks_of_examples_cover_them_all(n_in, n_out, length, m):
    net, loss = fn.Dense(n_in, n_out), fn.SquaredError()
    params, x, y = params_of(net), random(1, m, length, n_in), random(2, m, length, n_out)
    fisher = empirical_fisher_diagonal(net, loss, params, x, y)
    assert disagreement(fisher, squared_gradients(net, loss, params, x, y)) <= 1e-10


@pytest.mark.parametrize("between", [fn.Tanh(), Meet()], ids=repr)
def test_nothing_of_examples_times_parameters_is_held(between):
    wide = fn.Chain(fn.Dense(64, 64), between, fn.Dense(64, 3))
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), fn.init(wide, jax.random.key(0)))
    x, y = random(1, 256, 2, 64, dtype=jnp.float32), target(fn.CrossEntropy(), (256, 2, 3))

    def memory(f):
        return (
            jax.jit(lambda p, x, y: f(wide, fn.CrossEntropy(), p, x, y)).lower(params, x, y).compile().memory_analysis()
        )

    held = 256 * 64 * 64 * 4
    for f in (fn.ggn_diagonal, fn.empirical_fisher_diagonal):
        assert memory(f).temp_size_in_bytes < held / 2


@pytest.mark.fast
def test_a_linear_model_with_squared_error_has_the_hessian_itself():
    net, loss = fn.Dense(3, 4), fn.SquaredError()
    params, x, y = params_of(net), random(1, 6, 3), random(2, 6, 4)
    rows = np.concatenate([params["w"], params["b"][None]])
    block = jax.jit(jax.hessian(lambda rows: fn.cost(net, loss, {"w": rows[:-1], "b": rows[-1]}, x, y)))(rows)
    block = np.asarray(block).reshape(16, 16)
    diagonal = np.diag(block).reshape(4, 4)
    assert disagreement(ggn_diagonal(net, loss, params, x), {"w": diagonal[:-1], "b": diagonal[-1]}) <= 1e-12
    pair = kronecker_factors(net, loss, params, x, kind="ggn")
    assert disagreement(np.kron(pair.a, pair.g), block) <= 1e-12


@pytest.mark.fast
@pytest.mark.parametrize(("net", "length"), [(PLAIN, None), (PLAIN, 2), (MEETING, 2)], ids=["none", "apart", "meeting"])
@pytest.mark.parametrize("loss", [fn.CrossEntropy(), fn.BinaryCrossEntropy()], ids=repr)
def test_squared_gradients_at_every_possible_target_average_to_the_ggn(net, length, loss):
    params, x = params_of(net), random(1, 1, *(() if length is None else (length,)), 3)
    output = predict(net, params, x)
    binary = loss == fn.BinaryCrossEntropy()
    outcomes = output.shape if binary else output.shape[:-1]
    expected = 0.0
    for values in itertools.product([0, 1], repeat=int(np.prod(outcomes))):
        y = np.array(values).reshape(outcomes)
        chance = np.exp(-np.sum(loss.value(output, y)))
        expected += chance * np.asarray(kronecker_factors(net, loss, params, x, y, kind="empirical")[-1].g)
    factor = kronecker_factors(net, loss, params, x, kind="ggn")[-1].g
    assert disagreement(factor, expected) <= 1e-10


@pytest.mark.fast
@pytest.mark.parametrize("loss", SAMPLED_LOSSES, ids=repr)
def test_samples_have_the_second_derivative_as_the_moment_of_their_delta(loss):
    output = random(0, 1, 3)
    keys = jax.random.split(jax.random.key(0), 20_000)
    draw = jax.jit(jax.vmap(lambda key: loss.delta(output, loss.sample(key, output))[0]))
    deltas, columns = np.asarray(draw(keys)), np.asarray(hessian_columns(loss, output))[:, 0]
    products = deltas[:, :, None] * deltas[:, None]
    errors = np.abs(products.mean(0) - columns.T @ columns) / (products.std(0) / len(keys) ** 0.5 + 1e-12)
    assert (np.abs(deltas.mean(0)) < 5 * deltas.std(0) / len(keys) ** 0.5).all()
    assert (errors < 5).all()


@pytest.mark.fast
@pytest.mark.parametrize(
    ("net", "positions", "m"), [CASES[i] for i in (1, 3, 5, 8, 9)], ids=lambda part: str(part)[:30]
)
def test_sampled_diagonal_is_that_of_the_gradients_at_drawn_targets(net, positions, m):
    loss = fn.CrossEntropy() if m % 2 else fn.SquaredError()
    params, x, _ = batch(net, loss, positions, m)
    drawn = drawn_targets(net, loss, params, x, KEY)
    diagonal = ggn_diagonal(net, loss, params, x, kind="sampled", key=KEY)
    length = 1
    if net in (PLAIN, DEEP):  # positions apart: each counts as an example
        length = int(np.prod(positions))
        x, drawn = x.reshape(-1, 3), drawn.reshape(-1, *drawn.shape[len(positions) + 1 :])
    expected = jax.tree.map(lambda s: s * length, squared_gradients(net, loss, params, x, drawn))
    assert disagreement(diagonal, expected) <= 1e-10


def test_sampled_diagonal_is_unbiased_where_positions_meet():
    loss = fn.CrossEntropy()
    params, x, _ = batch(MEETING, loss, (3,), 2)
    draw = jax.jit(jax.vmap(lambda key: fn.ggn_diagonal(MEETING, loss, params, x, kind="sampled", key=key)))
    draws = jax.tree.map(np.asarray, draw(jax.random.split(jax.random.key(0), 4000)))
    exact = ggn_diagonal(MEETING, loss, params, x)
    for sample, value in zip(jax.tree.leaves(draws), jax.tree.leaves(exact), strict=True):
        assert (abs(sample.mean(0) - value) <= 5 * sample.std(0) / 4000**0.5 + 1e-12).all()


@pytest.mark.fast
@pytest.mark.parametrize(
    ("net", "loss"),
    [(PLAIN, fn.CrossEntropy()), (PLAIN, fn.LogCosh()), (DEEP, fn.CrossEntropy()), (OWN, fn.CrossEntropy())],
    ids=["plain", "plain, log-cosh", "deep", "own"],
)
def test_kronecker_factors_of_one_example_are_its_ggn(net, loss):
    params, x, y = batch(net, loss, (), 1)
    ggn = full_ggn(net, loss, params, x, y)
    places = unravelled(params, np.arange(len(ggn)))
    factors = kronecker_factors(net, loss, params, x, y, kind="ggn")
    diagonals = 0
    for part, place in zip(
        jax.tree.leaves(factors, is_leaf=is_part), jax.tree.leaves(places, is_leaf=is_part), strict=True
    ):
        if isinstance(part, fn.KroneckerPair):
            rows = [place["w"], place["b"][None]] if "b" in place else [place["w"]]
            at = np.concatenate(rows).ravel()
            assert disagreement(np.kron(part.a, part.g), ggn[at][:, at]) <= 1e-10
        else:
            diagonals += 1
            assert disagreement(part, jax.tree.map(lambda p: np.diag(ggn)[p], place)) <= 1e-10
    assert diagonals == (net != PLAIN)


def is_part(part):
    return isinstance(part, (fn.KroneckerPair, dict))


@pytest.mark.fast
@pytest.mark.parametrize("kind", ["ggn", "sampled", "empirical"])
@pytest.mark.parametrize(
    ("net", "positions", "m"),
    [(PLAIN, (), 5), (PLAIN, (3,), 4), (MEETING, (3,), 2), (POOLED, (3,), 2)],
    ids=["none", "apart", "meeting", "pooled"],
)
def test_kronecker_factors_are_sums_over_examples_positions_and_columns(net, positions, m, kind):
    loss, key = fn.CrossEntropy(), KEY if kind == "sampled" else None
    params, x, y = batch(net, loss, positions, m)
    factors = kronecker_factors(net, loss, params, x, y, kind=kind, key=key)
    output, tape = forward(net, params, x)
    if kind == "ggn":  # every column of every position on its own
        columns = np.asarray(hessian_columns(loss, output)).reshape(2, m, -1, 2)
        length = columns.shape[2]
        signals = [columns[c] * (np.arange(length) == t)[None, :, None] for c in range(2) for t in range(length)]
    else:
        signals = [loss.delta(output, y if kind == "empirical" else loss.sample(key, output))]
    for number in (0, len(net.layers) - 1):
        pair, a = factors[number], np.asarray(tape[number]).reshape(-1, tape[number].shape[-1])
        a = np.concatenate([a, np.ones((len(a), 1))], 1)
        g = 0.0
        for signal in signals:
            delta = np.asarray(backward(net, params, tape, signal.reshape(output.shape))[1][number])
            g += sum(np.outer(d, d) for d in delta.reshape(-1, delta.shape[-1])) / m
        assert disagreement(pair.a, sum(np.outer(row, row) for row in a) / len(a)) <= 1e-10
        assert disagreement(pair.g, g) <= 1e-10


@pytest.mark.parametrize("groups", [1, 2])
def test_factors_of_a_convolution_are_those_of_its_patches_and_error_signals(groups):
    """Groups share the factor of the inputs, and each has a block in that of the error signals."""
    net = fn.Chain(fn.Conv(2 * groups, 3 * groups, (3, 3), 2, groups=groups), fn.Tanh(), fn.Flatten())
    net = fn.Chain(*net.layers, fn.Dense(12 * groups, 4))
    params, x = params_of(net), random(1, 6, 4, 4, 2 * groups)

    @jax.jit
    def run(params, x):
        logits, tape = fn.forward(net, params, x)
        p, units = jax.nn.softmax(logits), jnp.eye(4)
        columns = [jnp.sqrt(p[:, c : c + 1]) * (units[c][None] - p) for c in range(4)]  # a root of diag p - p pᵀ
        signals = [fn.backward(net, params, tape, column)[1][0] for column in columns]
        return fn.kronecker_factors(net, fn.CrossEntropy(), params, x, kind="ggn")[0], signals

    pair, signals = run(params, x)
    padded = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0))).reshape(6, 5, 5, groups, 2)
    places = [padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] for i in range(2) for j in range(2)]
    patches = np.concatenate([np.moveaxis(place, 3, 1).reshape(6 * groups, 18) for place in places])
    inputs = np.concatenate([patches, np.ones((24 * groups, 1))], 1)
    assert disagreement(pair.a, inputs.T @ inputs / (24 * groups)) <= 1e-12
    blocks = np.kron(np.eye(groups), np.ones((3, 3)))
    products = (s.reshape(24, 3 * groups).T @ s.reshape(24, 3 * groups) for s in map(np.asarray, signals))
    assert disagreement(pair.g, blocks * sum(products) / 6) <= 1e-12


@pytest.mark.parametrize("n", [255, 256, 301])
def test_large_factors_are_symmetric_and_the_same(n):
    net, x = fn.Dense(n, 1, bias=False), random(1, 5, n)
    pair = kronecker_factors(net, fn.SquaredError(), params_of(net), x, kind="ggn")
    a, rows = np.asarray(pair.a), np.asarray(x)
    assert np.allclose(a, a.T, rtol=0, atol=1e-14)
    assert disagreement(a, rows.T @ rows / 5) <= 1e-12


def test_narrow_parameters_are_summed_in_float32():
    loss = fn.CrossEntropy()
    net = fn.Chain(fn.Dense(3, 4), fn.LayerNorm(4), fn.Dense(4, 2))
    params, x, y = batch(net, loss, (3,), 8)
    narrow = jax.tree.map(lambda p: np.asarray(p).astype(jnp.bfloat16), (params, x))
    for f, options in ((ggn_diagonal, {}), (kronecker_factors, {"kind": "empirical"})):
        result, exact = (f(net, loss, *data, y, **options) for data in (narrow, (params, x)))
        assert {leaf.dtype for leaf in jax.tree.leaves(result)} == {jnp.dtype(jnp.float32)}
        assert disagreement(result, exact) <= 0.1


def test_under_jit_and_vmap():
    loss = fn.CrossEntropy()
    params, x, y = batch(DEEP, loss, (), 4)
    many = jax.tree.map(lambda p: np.stack([p, 2 * p]), params)
    lanes = jax.jit(jax.vmap(lambda p: fn.ggn_diagonal(DEEP, loss, p, x, y)))(many)
    twice = ggn_diagonal(DEEP, loss, jax.tree.map(lambda p: p[1], many), x, y)
    assert disagreement(jax.tree.map(lambda leaf: np.asarray(leaf)[1], lanes), twice) <= 1e-12


SE, CE, X, Y = fn.SquaredError(), fn.CrossEntropy(), random(1, 6, 3), random(2, 6, 2)
PARAMS = params_of(PLAIN)
MIXED = fn.Chain(fn.Dense(3, 2), BatchNorm())
BAD = {
    "no GGN": (lambda: fn.ggn_diagonal(PLAIN, fn.AbsoluteError(), PARAMS, X), TypeError, ["AbsoluteError()", "second derivative is 0"]),
    "no samples": (lambda: fn.ggn_diagonal(PLAIN, fn.Huber(), PARAMS, X, Y, kind="sampled", key=KEY), TypeError, ["Huber()", "sample"]),
    "no GGN for factors": (lambda: fn.kronecker_factors(PLAIN, fn.AbsoluteError(), PARAMS, X, Y, kind="ggn"), TypeError, ["hessian_columns"]),
    "smoothed samples": (lambda: fn.ggn_diagonal(PLAIN, fn.CrossEntropy(0.1), PARAMS, X, kind="sampled", key=KEY), ValueError, ["CrossEntropy(0.1)", "Use CrossEntropy()"]),
    "kind": (lambda: fn.ggn_diagonal(PLAIN, SE, PARAMS, X, kind="ggn"), ValueError, ["'exact' or 'sampled'", "'ggn'"]),
    "kind of factors": (lambda: fn.kronecker_factors(PLAIN, SE, PARAMS, X, kind="exact"), ValueError, ["'ggn' or 'sampled' or 'empirical'"]),
    "key missing": (lambda: fn.ggn_diagonal(PLAIN, SE, PARAMS, X, kind="sampled"), TypeError, ["jax.random.key(seed)", "None"]),
    "a seed as a key": (lambda: fn.kronecker_factors(PLAIN, SE, PARAMS, X, kind="sampled", key=0), TypeError, ["got 0"]),
    "key without use": (lambda: fn.ggn_diagonal(PLAIN, SE, PARAMS, X, key=KEY), ValueError, ["Leave key out"]),
    "y missing": (lambda: fn.ggn_diagonal(PLAIN, fn.LogCosh(), PARAMS, X), ValueError, ["LogCosh()", "Give y"]),
    "y missing for empirical": (lambda: fn.kronecker_factors(PLAIN, SE, PARAMS, X, kind="empirical"), ValueError, ["true targets", "Give y"]),
    "y of a wrong shape": (lambda: fn.ggn_diagonal(PLAIN, SE, PARAMS, X, Y[:, :1]), ValueError, ["SquaredError()", "(6, 1)"]),
    "params of another network": (lambda: fn.ggn_diagonal(PLAIN, SE, params_of(DEEP), X), ValueError, ["layer", "fn.init"]),
    "x not finite": (lambda: fn.ggn_diagonal(PLAIN, SE, PARAMS, X.at[1, 2].set(jnp.nan)), ValueError, ["x[1, 2] is nan"]),
    "no loss": (lambda: fn.ggn_diagonal(PLAIN, "squares", PARAMS, X), TypeError, ["'squares'", "value"]),
    "examples mix": (lambda: fn.ggn_diagonal(MIXED, SE, params_of(MIXED), X), ValueError, ["BatchNorm()", "mixes examples"]),
    "examples mix in factors": (lambda: fn.kronecker_factors(MIXED, SE, params_of(MIXED), X, kind="ggn"), ValueError, ["BatchNorm()"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_with_what_to_change(name):
    call, error, words = BAD[name]
    with pytest.raises(error) as refusal:
        call()
    assert all(word in str(refusal.value) for word in words), refusal.value


def test_columns_of_a_wrong_shape_are_refused():
    @fn.spec
    class Odd:
        def value(self, output, y):
            return (output**2).sum(-1)

        def delta(self, output, y):
            return 2 * output

        def hessian_columns(self, output, y=None):
            return output

    with pytest.raises(ValueError, match="hessian_columns gives shape"):
        fn.ggn_diagonal(PLAIN, Odd(), PARAMS, X)


@pytest.mark.fast
@pytest.mark.parametrize("kind", ["ggn", "empirical"])
@pytest.mark.parametrize("positions", [(), (3,)], ids=repr)
def test_factors_of_an_embedding_are_those_of_a_dense_on_unit_vectors(kind, positions):
    rest = fn.Tanh(), fn.Dense(3, 4)
    net, other = fn.Chain(fn.Embedding(5, 3), *rest), fn.Chain(fn.Dense(5, 3, bias=False), *rest)
    (table, *own), loss = params_of(net), fn.CrossEntropy()
    x = tokens(1, 5, 6, *positions)
    y = target(loss, (*x.shape, 4)) if kind == "empirical" else None
    first, *factors = kronecker_factors(net, loss, (table, *own), x, y, kind=kind)
    same, *others = kronecker_factors(other, loss, ({"w": table["e"]}, *own), np.eye(5)[x], y, kind=kind)
    assert disagreement(first.a, np.bincount(np.ravel(x), minlength=5) / x.size) <= 1e-14
    assert disagreement(np.diag(first.a), same.a) <= 1e-14
    assert disagreement(first.g, same.g) <= 1e-12
    assert disagreement(factors, others) <= 1e-12


@pytest.mark.fast
@pytest.mark.parametrize("layer", ["attention", "gru"])
def test_exact_diagonal_where_positions_meet_on_the_way(layer):
    """One column for each output of each position: attention and a recurrent layer send it to earlier ones."""
    middle = fn.Chain(fn.Dense(3, 6), fn.Attention(2, 1)) if layer == "attention" else fn.GRU(3, 2)
    net, loss = fn.Chain(fn.Embedding(4, 3), middle, fn.Dense(2, 3)), fn.CrossEntropy()
    params, x = params_of(net), tokens(1, 4, 2, 3)

    @jax.jit
    def run(params):
        flat, unravel = ravel_pytree(params)
        outputs = fn.predict(net, params, x).reshape(-1, 3)
        p = jax.nn.softmax(outputs)
        hessian = jax.vmap(jnp.diag)(p) - p[:, :, None] * p[:, None, :]
        jacobian = jax.jacobian(lambda f: fn.predict(net, unravel(f), x).reshape(-1, 3))(flat)
        exact = jnp.einsum("ncp,ncd,ndp->p", jacobian, hessian, jacobian) / len(x)
        return ravel_pytree(fn.ggn_diagonal(net, loss, params, x))[0], exact

    found, expected = run(params)
    assert disagreement(found, expected) <= 1e-12


@pytest.mark.fast
def test_curvature_of_a_table_that_is_read_at_both_ends_is_the_diagonal():
    net, loss = fn.Tied(fn.Embedding(4, 2), fn.Chain(fn.Dense(2, 2), fn.Tanh())), fn.CrossEntropy()
    params, x = params_of(net), tokens(1, 4, 3, 3)
    y = target(loss, (3, 3, 4))
    diagonal = unravelled(params, np.diag(full_ggn(net, loss, params, x, y)))
    assert disagreement(ggn_diagonal(net, loss, params, x), diagonal) <= 1e-10
    factors = kronecker_factors(net, loss, params, x, kind="ggn")
    assert disagreement(factors[0], diagonal[0]) <= 1e-10
    assert isinstance(factors[1][0], fn.KroneckerPair)
    assert (
        disagreement(
            kronecker_factors(net, loss, params, x, y, kind="empirical")[0],
            squared_gradients(net, loss, params, x, y)[0],
        )
        <= 1e-10
    )
