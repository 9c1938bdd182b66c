"""Per-example quantities against a plain loop of `jax.grad` over single examples."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from table import Scale, backprop, disagreement, params_of, random, value_and_grad

import funcnet as fn

SE = fn.SquaredError()


@fn.spec
class Mix:
    """A user's own layer with a matrix, and no cheap form of anything."""

    n: int

    def init(self, key):
        return {"m": jnp.eye(self.n), "c": jnp.zeros(self.n)}

    def forward(self, params, x, key=None):
        return x @ params["m"] + jax.lax.broadcast(params["c"], x.shape[:-1]), x

    def backward(self, params, tape, delta):
        return delta @ params["m"].T, (delta, {"again": delta})

    def gradient(self, tape, deltas):
        delta, rows = deltas[1]["again"], tuple(range(tape.ndim - 1))
        return {"m": jnp.tensordot(tape, delta, (rows, rows)), "c": jnp.sum(deltas[0], rows)}


NETS = {
    "chain": fn.Chain(fn.Dense(8, 8), fn.Tanh(), fn.Dense(8, 3)),
    "residual": fn.Chain(fn.Dense(8, 6), fn.Residual(fn.Chain(fn.Dense(6, 5), fn.Dense(5, 6)))),
    "dropout": fn.Chain(fn.Dense(8, 8), fn.Chain(fn.Dropout(0.4), fn.Tanh()), fn.Dense(8, 3)),
    "layer norm": fn.Chain(fn.LayerNorm(8), fn.Dense(8, 3)),
    "own layers": fn.Chain(Scale(8), Mix(8), fn.Tanh(), fn.Dense(8, 3, bias=False)),
}
# Of Dense(8, 8), 3 positions take the Gram form and 2 × 3 are instantiated.
CASES = [
    ("chain", (3,), "positions"),
    ("dropout", (2, 3), "examples"),
    ("layer norm", (1,), "positions"),
    ("own layers", (), None),
    ("chain", (), "examples"),
    ("residual", (3,), "positions"),
    ("own layers", (2, 3), "positions"),
]


def case(net, positions=(), weighted=None, m=5, dtype=np.float64, seed=1):
    """Arguments of `backprop`: net, loss, params, x, y and the options."""
    net = NETS.get(net, net)
    params = params_of(net, dtype=dtype)
    x = np.array(random(seed, m, *positions, 8, dtype=dtype))
    outputs = jax.eval_shape(lambda x: net.forward(params, x)[0], x)
    y = np.asarray(random(seed + 1, *outputs.shape, dtype=dtype))
    weights = None
    if weighted:
        draw = random(seed + 2, m, *(positions if weighted == "positions" else ()), dtype=dtype)
        weights = (0.5 + abs(np.asarray(draw))).astype(dtype)
        weights[1 % m] = 0
        weights.flat[0] = 0.25 if m == 1 else 0
    key = jax.random.split(jax.random.key(4), m) if "Dropout" in repr(net) else None
    return net, SE, params, x, y, {"weights": weights, "key": key}


@jax.jit
def gradient_of_one(net, loss, params, x, y, options):
    return jax.grad(lambda p: fn.cost(net, loss, p, x, y, reduction="sum", **options))(params)


def loop(net, loss, params, x, y, options):
    """The gradient of every example, one call each, stacked."""
    parts = [jax.tree.map(lambda a, i=i: a[i : i + 1], (x, y, options)) for i in range(len(x))]
    rows = [gradient_of_one(net, loss, params, *part) for part in parts]
    return jax.tree.map(lambda *grads: np.stack(grads).astype(np.float64), *rows)


def flat(grads):
    return np.concatenate([g.reshape(len(g), -1) for g in jax.tree.leaves(grads)], axis=1)


def per_layer(grads):
    leaf = lambda part: isinstance(part, dict)  # noqa: E731
    return jax.tree.map(lambda layer: (flat(layer) ** 2).sum(1), grads, is_leaf=leaf)


@functools.partial(jax.jit, static_argnums=(0, 1))
def everything(net, loss, params, x, y, options, other, weightings):
    bp, second = fn.backprop(net, loss, params, x, y, **options), fn.backprop(net, loss, params, *other)
    return {
        "gradients": fn.example_gradients(net, bp),
        "norms": fn.example_square_norms(net, bp),
        "norms per layer": fn.example_square_norms(net, bp, per_layer=True),
        "one weighting": fn.weighted_gradient(net, bp, weightings[0]),
        "weightings": fn.weighted_gradient(net, bp, weightings),
        "gram": fn.example_gram(net, bp),
        "gram of two": fn.example_gram(net, bp, second),
        "moments": fn.gradient_moments(net, bp),
        "noise scale": fn.noise_scale(net, bp),
        "clipped": fn.clipped_gradient(net, bp, 1.5),
        "clipped per layer": fn.clipped_gradient(net, bp, 1.5, per_layer=True),
    }


def expected(net, loss, params, x, y, options, other, weightings):
    grads = loop(net, loss, params, x, y, options)
    second = loop(net, loss, params, *other, {"key": None})
    each = flat(grads)
    norms = (each**2).sum(1)

    def combine(factors):
        return jax.tree.map(lambda g: np.tensordot(factors, g, (-1, 0)), grads)

    def clip(norms, bound):
        return np.minimum(1, bound / np.sqrt(np.maximum(norms, 1e-300)))

    by_layer = per_layer(grads)
    count = len(jax.tree.leaves(by_layer))
    clipped = jax.tree.map(
        lambda n, layer: jax.tree.map(lambda g: np.tensordot(clip(n, 1.5 / np.sqrt(count)), g, (-1, 0)), layer),
        by_layer,
        grads,
    )
    return {
        "gradients": grads,
        "norms": norms,
        "norms per layer": by_layer,
        "one weighting": combine(np.asarray(weightings[0])),
        "weightings": combine(np.asarray(weightings)),
        "gram": each @ each.T,
        "gram of two": each @ flat(second).T,
        "moments": (jax.tree.map(lambda g: g.mean(0), grads), jax.tree.map(lambda g: g.var(0), grads)),
        "noise scale": each.var(0).sum() / (each.mean(0) ** 2).sum(),
        "clipped": (combine(clip(norms, 1.5)), norms),
        "clipped per layer": (clipped, by_layer),
    }


def compare(net, positions, weighted, tolerance, **options):
    arguments = case(net, positions, weighted, **options)
    other = case(net, positions, None, **options | {"m": 3, "seed": 11})[3:5]
    weightings = np.array(random(8, 3, len(arguments[3]), dtype=arguments[3].dtype))
    weightings[1, 0] = 0
    results = everything(*arguments, other, weightings)
    wanted = expected(*arguments, other, weightings)
    if len(arguments[3]) == 1:  # a variance of 0, but for rounding
        assert not any(v.any() for v in jax.tree.leaves(wanted["moments"][1]))
        assert results.pop("noise scale") < 1e-14
        assert max(np.max(v) for v in jax.tree.leaves(results.pop("moments")[1])) < 1e-14
    for name in wanted.keys() & results.keys():
        assert disagreement(results[name], wanted[name]) <= tolerance, name


MARKED = [pytest.param(*row, marks=pytest.mark.fast if i < 4 else ()) for i, row in enumerate(CASES)]


@pytest.mark.parametrize(("net", "positions", "weighted"), MARKED)
def test_all_agree_with_a_loop_over_examples(net, positions, weighted):
    compare(net, positions, weighted, 1e-10)


def test_a_batch_of_one():
    compare("layer norm", (3,), None, 1e-10, m=1)


def test_float32_agrees_to_its_precision():
    compare("layer norm", (3,), "positions", 2e-5, dtype=np.float32)


@jax.jit
def gram_of(net, loss, params, x, y):
    return fn.example_gram(net, fn.backprop(net, loss, params, x, y))


@pytest.mark.fast
@pytest.mark.parametrize("m", [6, 150])
def test_a_gram_matrix_is_symmetric_for_every_size_of_batch(m):
    net, loss, params, x, y, _ = case("own layers", (2,), m=m)
    gram = np.asarray(gram_of(net, loss, params, x, y))
    assert disagreement(gram, gram.T) <= 1e-15
    each = flat(loop(net, loss, params, x, y, {}))
    assert disagreement(gram, each @ each.T) <= 1e-10


def test_positions_between_examples_go_by_blocks():
    """Few parameters and many positions are instantiated, the other way round taken pair by pair."""
    for net, positions in ((fn.Dense(8, 2), (9,)), (fn.Dense(8, 40), (2,))):
        net, loss, params, x, y, _ = case(net, positions, m=33)
        gram = gram_of(net, loss, params, x, y)
        each = flat(loop(net, loss, params, x, y, {}))
        assert disagreement(gram, each @ each.T) <= 1e-10


@pytest.mark.fast
def test_values_do_not_depend_on_the_batch():
    net, loss, params, x, y, _ = case("chain", (3,))
    norms = jax.jit(lambda x, y: fn.example_square_norms(net, fn.backprop(net, loss, params, x, y))[:2])
    assert disagreement(*(norms(x[:k], y[:k]) for k in (2, 5))) <= 1e-14


def infinite(bp, row):
    """A `Backprop` whose tape is infinite in one row, and its error signals no numbers."""

    def fill(tree, value):
        arrays = jax.tree.map(np.array, tree)
        for array in jax.tree.leaves(arrays):
            if array.dtype == np.float64:
                array[row] = value
        return arrays

    return bp._replace(tape=fill(bp.tape, np.inf), deltas=fill(bp.deltas, np.nan))


@pytest.mark.fast
@pytest.mark.parametrize("net", ["chain", "own layers"])
def test_what_has_weight_0_contributes_exactly_nothing(net):
    net, loss, params, x, y, options = case(net, (3,))
    bp = backprop(net, loss, params, x, y, **options)
    weights = np.array([0.0, 2.0, -1.0, 0.5, 1.0])
    spoilt, weighted_gradient = infinite(bp, 0), jax.jit(fn.weighted_gradient)
    assert disagreement(weighted_gradient(net, spoilt, weights), weighted_gradient(net, bp, weights)) == 0
    sums = weighted_gradient(net, spoilt, np.stack([weights, np.zeros(5)]))
    assert all(np.isfinite(g).all() and not np.any(np.asarray(g)[1]) for g in jax.tree.leaves(sums))


def test_masked_rows_have_norm_0():
    net, loss, params, x, y, _ = case("chain")
    x[1] = np.nan
    bp = backprop(net, loss, params, x, y, weights=np.array([1.0, 0, 1, 0, 1]))
    norms = np.asarray(jax.jit(fn.example_square_norms)(net, bp))
    assert (norms[[1, 3]] == 0).all()


def test_examples_that_are_all_alike_have_no_noise():
    net, loss, params, x, y, _ = case("chain")
    noise_scale = jax.jit(fn.noise_scale)
    alike = backprop(net, loss, params, np.stack([x[0]] * 4), np.stack([y[0]] * 4))
    assert noise_scale(net, alike) <= 1e-15
    _, variances = jax.jit(fn.gradient_moments)(net, alike)
    assert all(np.min(v) >= 0 and np.max(v) <= 1e-14 for v in jax.tree.leaves(variances))
    nothing = backprop(net, loss, params, x, y, weights=np.zeros(5))
    assert noise_scale(net, nothing) == 0
    tape, deltas = (
        jax.tree.map(lambda a, sign=sign: np.concatenate([a, sign * np.asarray(a)]), tree)
        for tree, sign in ((alike.tape, 1), (alike.deltas, -1))
    )
    assert noise_scale(net, alike._replace(costs=np.ones(8), tape=tape, deltas=deltas)) > 1e20


def test_a_network_without_parameters_and_an_empty_batch():
    def run(net, x, y):
        bp = backprop(net, SE, params_of(net), x, y)
        functions = (
            fn.example_square_norms,
            fn.example_gram,
            fn.example_gradients,
            fn.gradient_moments,
            fn.noise_scale,
        )
        return jax.jit(lambda bp: [function(net, bp) for function in functions])(bp)

    norms, gram, gradients, *_ = run(fn.Chain(fn.Tanh(), fn.Identity()), random(1, 4, 2), random(2, 4, 2))
    assert norms.tolist() == [0, 0, 0, 0]
    assert gram.shape == (4, 4)
    assert gradients == ((), ())
    norms, gram, _, *moments = run(NETS["own layers"], np.zeros((0, 8)), np.zeros((0, 3)))
    assert norms.shape == (0,)
    assert gram.shape == (0, 0)
    assert not any(g.any() for g in jax.tree.leaves(moments))


def test_sums_of_narrow_types_are_held_in_float32():
    net, loss, params, x, y, _ = case("layer norm", (3,), dtype=jnp.bfloat16)
    bp = backprop(net, loss, params, x, y)
    wide = jax.tree.map(lambda a: np.asarray(a, np.float32) if a.dtype == jnp.bfloat16 else a, bp)

    @jax.jit
    def take(bp):
        weighted = fn.weighted_gradient(net, bp, jnp.arange(5.0))
        return fn.example_gram(net, bp), weighted, fn.clipped_gradient(net, bp, 0.5)

    results = [take(bp), take(wide)]
    assert {a.dtype for a in jax.tree.leaves(results)} <= {np.dtype("float32")}
    assert disagreement(*results) <= 1e-2


def sizes(jaxpr):
    """The size of every array that a program makes, those of its loops' bodies included."""
    for equation in jaxpr.eqns:
        yield from (variable.aval.size for variable in equation.outvars)
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else [value]:
                if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                    yield from sizes(getattr(inner, "jaxpr", inner))


@pytest.mark.fast
@pytest.mark.parametrize("positions", [(), (2,)], ids=str)
def test_nothing_of_the_size_of_all_gradients_is_held(positions):
    net = fn.Chain(Mix(32), fn.Dense(32, 32))
    x = random(1, 16, *positions, 32)
    bp = backprop(net, SE, params_of(net), x, x)
    functions = [
        lambda bp: fn.example_square_norms(net, bp),
        lambda bp: fn.weighted_gradient(net, bp, jnp.ones((2, 16))),
        lambda bp: fn.example_gram(net, bp),
        lambda bp: fn.example_gram(net, bp, bp),
        lambda bp: fn.gradient_moments(net, bp),
        lambda bp: fn.noise_scale(net, bp),
        lambda bp: fn.clipped_gradient(net, bp, 1.0, per_layer=True),
    ]
    for f in functions:
        assert max(sizes(jax.make_jaxpr(f)(bp).jaxpr)) <= 3 * x.size + 2 * 32 * 33
    assert max(sizes(jax.make_jaxpr(lambda bp: fn.example_gradients(net, bp))(bp).jaxpr)) >= 16 * 32 * 32


def test_inside_vmap_and_scan():
    net, loss, params, x, y, _ = case("own layers", (3,))

    def norms(x):
        bp = fn.backprop(net, loss, params, x, y)
        return fn.example_square_norms(net, bp), fn.example_gram(net, bp), fn.clipped_gradient(net, bp, 1.0)[0]

    xs, alone = np.stack([x, 2 * x]), jax.jit(norms)
    expected = jax.tree.map(lambda *rows: np.stack(rows), *map(alone, xs))
    assert disagreement(jax.jit(jax.vmap(norms))(xs), expected) <= 1e-12
    scanned = jax.jit(lambda xs: jax.lax.scan(lambda _, x: (None, norms(x)), None, xs)[1])(xs)
    assert disagreement(scanned, expected) <= 1e-12


@fn.spec
class BatchMean:
    """y = s x - mean over the batch: mixes examples, and says so or not."""

    says: bool

    mixes_examples = property(lambda self: self.says)

    def init(self, key):
        return {"s": jnp.ones(8)}

    def forward(self, params, x, key=None):
        return params["s"][None] * x - x.mean(0, keepdims=True), (x, x.mean(0))

    def backward(self, params, tape, delta):
        return delta, delta

    def gradient(self, tape, deltas):
        return {"s": jnp.sum(tape[0] * deltas, 0)}


FUNCTIONS = {
    "weighted_gradient": lambda net, bp: fn.weighted_gradient(net, bp, jnp.ones(5)),
    "example_gradients": fn.example_gradients,
    "example_square_norms": fn.example_square_norms,
    "example_gram": fn.example_gram,
    "gradient_moments": fn.gradient_moments,
    "noise_scale": fn.noise_scale,
    "clipped_gradient": lambda net, bp: fn.clipped_gradient(net, bp, 1.0),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_bad_input_is_named(function):
    net, loss, params, x, y, _ = case("chain")
    bp = backprop(net, loss, params, x, y)
    for other in (fn.Chain(fn.Dense(8, 7), fn.Tanh(), fn.Dense(7, 3)), fn.Chain(fn.Dense(8, 3)), fn.Dense(8, 3)):
        with pytest.raises(ValueError, match="bp: is of another network"):
            function(other, bp)
    with pytest.raises(TypeError, match="bp: expected a Backprop"):
        function(net, bp.tape)
    for says in (True, False):
        mixing = fn.Chain(BatchMean(says), fn.Dense(8, 3))
        with pytest.raises(ValueError, match=r"BatchMean\(.*mixes the examples"):
            function(mixing, backprop(mixing, loss, params_of(mixing), x, y))


def test_bad_weights_and_a_bad_second_batch_are_named():
    net, loss, params, x, y, _ = case("chain")
    bp = backprop(net, loss, params, x, y)
    for wrong in (jnp.ones(4), jnp.ones((5, 4)), jnp.ones((1, 1, 5)), 1.0):
        with pytest.raises(ValueError, match=r"weights: expected shape \(5,\) or \(K, 5\)"):
            fn.weighted_gradient(net, bp, wrong)
    with pytest.raises(ValueError, match="weights.1. is nan"):
        fn.weighted_gradient(net, bp, jnp.ones(5).at[1].set(jnp.nan))
    with pytest.raises(ValueError, match="other: is of another network"):
        fn.example_gram(net, bp, bp._replace(deltas=bp.deltas[:1]))


@pytest.mark.fast
def test_what_a_weight_of_0_would_change_is_read_where_it_is_1():
    """Learning to reweight: d J_held(θ - Σ w_i g_i) / d w_i at w = 0 is -g_i · v, with v the gradient of J_held."""
    net, loss = fn.mlp((3, 4, 2)), fn.SquaredError()
    params, x, y = params_of(net), random(1, 5, 3), random(2, 5, 2)
    held = random(3, 4, 3), random(4, 4, 2)

    def held_cost(weights):
        grads = jax.vmap(jax.grad(lambda p, x, y: fn.cost(net, loss, p, x[None], y[None])), (None, 0, 0))(params, x, y)
        moved = jax.tree.map(lambda p, g: p - jnp.tensordot(weights, g, 1), params, grads)
        return fn.cost(net, loss, moved, *held)

    expected = jax.jit(jax.grad(held_cost))(jnp.zeros(5))
    _, v = value_and_grad(net, loss, params, *held)
    bp = backprop(net, loss, params, x, y)

    def along(weights):
        parts = jax.tree.map(lambda g, v: (g * v).sum(), fn.weighted_gradient(net, bp, weights), v)
        return -sum(jax.tree.leaves(parts))

    assert disagreement(jax.jit(jax.grad(along))(jnp.ones(5)), expected) <= 1e-12
    whole = backprop(net, loss, params, jnp.concatenate([x, held[0]]), jnp.concatenate([y, held[1]]))
    gram = jax.jit(fn.example_gram)(net, whole)
    assert disagreement(-gram[:5, 5:].mean(1), expected) <= 1e-12
    at_zero = jnp.array([0.0, 1, 1, 1, 1])
    by_weight = jax.jit(jax.grad(lambda w: fn.cost(net, loss, params, x, y, weights=w, reduction="sum")))(at_zero)
    assert disagreement(by_weight, bp.costs.at[0].set(0)) <= 1e-12  # said in the docstring of `cost`
