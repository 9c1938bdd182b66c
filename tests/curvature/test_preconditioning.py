"""K-FAC as an optax transformation: where its step is known, what it averages, and when it inverts."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from table import Scale, backprop, cost, disagreement, params_of, random, target, tokens, value_and_grad

import funcnet as fn

SE, CE = fn.SquaredError(), fn.CrossEntropy()
NET = fn.Chain(fn.Dense(3, 4), fn.LayerNorm(4), fn.Tanh(), fn.Residual(Scale(4)), fn.Dense(4, 2, bias=False))
kronecker_factors = jax.jit(fn.kronecker_factors, static_argnames="kind")
PARAMS, X, Y = params_of(NET), random(1, 6, 3), target(CE, (6, 2))


def stepped(optimizer, net=NET, loss=CE):
    """One update of the parameters, jitted."""

    @jax.jit
    def step(params, state, x, y):
        bp = fn.backprop(net, loss, params, x, y)
        value, grads = fn.value_and_grad(net, loss, params, x, y)
        updates, state = optimizer.update(grads, state, params, value=value, grad=grads, backprop=bp)
        return optax.apply_updates(params, updates), state, value

    return step


@pytest.mark.fast
@pytest.mark.parametrize("bias", [True, False])
def test_one_step_solves_least_squares(bias):
    net = fn.Dense(3, 2, bias=bias)
    params, x, y = params_of(net), random(1, 20, 3), random(2, 20, 2)
    optimizer = optax.chain(fn.scale_by_kfac(net, SE, kind="ggn", damping=0.0), optax.scale(-1.0))
    params, _, _ = stepped(optimizer, net, SE)(params, optimizer.init(params), x, y)
    design = np.concatenate([x, np.ones((20, 1))], 1) if bias else np.asarray(x)
    solution = np.linalg.lstsq(design, y, rcond=None)[0]
    found = np.concatenate([params["w"], params["b"][None]]) if bias else params["w"]
    assert disagreement(found, solution) <= 1e-10


@pytest.mark.fast
@pytest.mark.parametrize("kind", ["ggn", "sampled", "empirical"])
def test_an_update_is_the_gradient_over_the_damped_curvature(kind):
    transformation = fn.scale_by_kfac(NET, CE, kind=kind, damping=0.1, seed=5)
    bp = backprop(NET, CE, PARAMS, X, Y)
    _, grads = value_and_grad(NET, CE, PARAMS, X, Y)
    updates, _ = jax.jit(transformation.update)(grads, transformation.init(PARAMS), PARAMS, backprop=bp)
    key = jax.random.fold_in(jax.random.key(5), 0) if kind == "sampled" else None
    factors = kronecker_factors(NET, CE, PARAMS, X, Y, kind=kind, key=key)
    for number in (0, 4):
        (a, g), own = factors[number], grads[number]
        rows = np.concatenate([own["w"], own["b"][None]]) if "b" in own else np.asarray(own["w"])
        pi = np.sqrt((np.trace(a) / len(a)) / (np.trace(g) / len(g)))
        damped = np.kron(a + pi * 0.1**0.5 * np.eye(len(a)), g + 0.1**0.5 / pi * np.eye(len(g)))
        update = jax.tree.map(np.asarray, updates[number])
        update = np.concatenate([update["w"], update["b"][None]]) if "b" in own else update["w"]
        assert disagreement(update.ravel(), np.linalg.solve(damped, rows.ravel())) <= 1e-10
    for number in (1, 3):
        expected = jax.tree.map(lambda g, d: np.asarray(g) / (np.asarray(d) + 0.1), grads[number], factors[number])
        assert disagreement(updates[number], expected) <= 1e-10


@pytest.mark.fast
def test_factors_are_plain_means_at_first_and_then_forget():
    transformation = fn.scale_by_kfac(NET, CE, kind="empirical", decay=0.6)
    state, average = transformation.init(PARAMS), None
    update = jax.jit(transformation.update)
    for step in range(4):
        x, y = random(step, 5, 3), target(CE, (5, 2), seed=step)
        bp = backprop(NET, CE, PARAMS, x, y)
        _, state = update(PARAMS, state, PARAMS, backprop=bp)
        fresh = jax.tree.map(np.asarray, kronecker_factors(NET, CE, PARAMS, x, y, kind="empirical"))
        share = [1, 1 / 2, 0.4, 0.4][step]
        average = fresh if step == 0 else jax.tree.map(lambda o, n, s=share: (1 - s) * o + s * n, average, fresh)
        assert disagreement(state.factors, average) <= 1e-12
    assert int(state.step) == 4


@pytest.mark.fast
def test_inverses_are_refreshed_every_so_often():
    transformation = fn.scale_by_kfac(NET, CE, every=3)
    state, refreshed, drawn = transformation.init(PARAMS), [], []
    update, bp = jax.jit(transformation.update), backprop(NET, CE, PARAMS, X, Y)
    for _ in range(7):
        before = state
        _, state = update(PARAMS, state, PARAMS, backprop=bp)
        refreshed.append(bool((before.inverses[0].a != state.inverses[0].a).any()))
        drawn.append(bool((before.factors[0].g != state.factors[0].g).any()))
    assert sum(drawn) >= 5  # targets are drawn anew at every step, though a few may be drawn alike
    assert refreshed == [True, False, False, True, False, False, True]


def test_it_runs_in_a_scan_as_outside():
    optimizer = optax.chain(fn.scale_by_kfac(NET, CE, every=2), optax.trace(0.9), optax.scale(-0.01))
    step, state = stepped(optimizer), optimizer.init(PARAMS)

    def body(carry, _):
        params, state, value = step(*carry, X, Y)
        return (params, state), value

    (scanned, _), _ = jax.jit(lambda carry: jax.lax.scan(body, carry, None, 5))((PARAMS, state))
    params = PARAMS
    for _ in range(5):
        params, state, _ = step(params, state, X, Y)
    assert disagreement(scanned, params) <= 1e-10


@pytest.mark.parametrize("kind", ["ggn", "sampled", "empirical"])
def test_a_deep_network_learns_in_fewer_steps_than_by_plain_descent(kind):
    net = fn.mlp((6, 8, 8, 8, 2))
    x = np.asarray(random(0, 64, 6)) * [[5.0, 2.0, 1.0, 0.5, 0.2, 0.1]]  # badly scaled on purpose
    y = (x[:, 2] + 5 * x[:, 4] > 0).astype(int)
    start = fn.init(net, jax.random.key(0))

    def cost_after(optimizer, steps=40):
        params, state, step = start, optimizer.init(start), stepped(optimizer, net, CE)
        for _ in range(steps):
            params, state, _ = step(params, state, x, y)
        return float(cost(net, CE, params, x, y))

    @jax.jit
    @jax.vmap
    def descended(rate):
        def step(params, _):
            grads = fn.value_and_grad(net, CE, params, x, y)[1]
            return jax.tree.map(lambda w, g: w - rate * g, params, grads), None

        return fn.cost(net, CE, jax.lax.scan(step, start, length=40)[0], x, y)

    kfac = optax.chain(fn.scale_by_kfac(net, CE, kind=kind, damping=1e-2, every=5), optax.scale(-0.1))
    assert cost_after(kfac) < 0.5 * np.min(descended(np.array([0.03, 0.1, 0.3, 1.0])))


def test_the_state_and_updates_have_types_of_their_own():
    narrow = jax.tree.map(lambda p: np.asarray(p).astype(jnp.bfloat16), PARAMS)
    transformation = fn.scale_by_kfac(NET, CE)
    state = transformation.init(narrow)
    bp = jax.eval_shape(lambda x: fn.backprop(NET, CE, narrow, x, Y), np.asarray(X).astype(jnp.bfloat16))
    update = lambda bp: transformation.update(narrow, state, narrow, backprop=bp)  # noqa: E731
    updates, after = jax.eval_shape(update, bp)
    assert jax.tree.map(jnp.result_type, state) == jax.tree.map(jnp.result_type, after)
    assert {leaf.dtype for leaf in jax.tree.leaves(after.factors)} == {jnp.dtype(jnp.float32)}
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype(jnp.bfloat16)}


def test_convolutions_of_few_groups_have_factors_and_of_many_a_diagonal():
    net = fn.Chain(
        fn.Conv(9, 9, (3,), groups=9), fn.Tanh(), fn.Conv(9, 6, (2,), groups=3), fn.Flatten(), fn.Dense(24, 2)
    )
    params, x = params_of(net), random(1, 6, 4, 9)
    optimizer = optax.chain(fn.scale_by_kfac(net, CE, kind="empirical", damping=0.1), optax.scale(-0.1))
    state, step = optimizer.init(params), stepped(optimizer, net)
    assert [type(part) for part in state[0].factors] == [dict, tuple, fn.KroneckerPair, tuple, fn.KroneckerPair]
    costs = []
    for _ in range(3):
        params, state, value = step(params, state, x, Y)
        costs.append(float(value))
    assert costs[0] > costs[1] > costs[2]


def test_a_layer_without_signal_gives_no_step_and_no_nan():
    params = jax.tree.map(np.zeros_like, PARAMS)
    transformation = fn.scale_by_kfac(NET, CE)
    bp = backprop(NET, CE, params, X, Y)
    _, grads = value_and_grad(NET, CE, params, X, Y)
    updates, _ = jax.jit(transformation.update)(grads, transformation.init(params), params, backprop=bp)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(updates))
    assert not updates[0]["w"].any()


def updated(params=PARAMS, **extra):
    transformation = fn.scale_by_kfac(NET, CE, kind="empirical")
    return lambda: transformation.update(PARAMS, transformation.init(PARAMS), params, **extra)


@fn.spec
class BatchNorm:
    """Owns up to mixing examples; what it computes does not matter."""

    mixes_examples = True
    init, forward, backward, gradient = fn.Tanh.init, fn.Tanh.forward, fn.Tanh.backward, fn.Tanh.gradient


BAD = {
    "no backprop": (updated(), ValueError, ["backprop=fn.backprop("]),
    "no params": (updated(None, backprop=backprop(NET, CE, PARAMS, X, Y)), ValueError, ["update needs params"]),
    "damping": (lambda: fn.scale_by_kfac(NET, CE, damping=-1.0), ValueError, ["damping", "0 or more", "-1.0"]),
    "decay": (lambda: fn.scale_by_kfac(NET, CE, decay=1.0), ValueError, ["decay", "below 1"]),
    "every": (lambda: fn.scale_by_kfac(NET, CE, every=0), ValueError, ["every", "from 1", "0"]),
    "kind": (lambda: fn.scale_by_kfac(NET, CE, kind="exact"), ValueError, ["'ggn' or 'sampled' or 'empirical'"]),
    "no GGN": (lambda: fn.scale_by_kfac(NET, fn.AbsoluteError()), TypeError, ["AbsoluteError()", "sample"]),
    "no layer": (lambda: fn.scale_by_kfac("net", CE), TypeError, ["'net'"]),
    "examples mix": (lambda: fn.scale_by_kfac(BatchNorm(), SE), ValueError, ["mixes examples"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_with_what_to_change(name):
    call, error, words = BAD[name]
    with pytest.raises(error) as refusal:
        call()
    assert all(word in str(refusal.value) for word in words), refusal.value


def test_backprop_of_another_network_is_refused():
    net = fn.mlp((3, 5, 2))
    bp = backprop(net, CE, params_of(net), X, Y)
    transformation = fn.scale_by_kfac(fn.mlp((3, 4, 2)), CE, kind="empirical")
    params = params_of(fn.mlp((3, 4, 2)))
    with pytest.raises(ValueError, match="of another network"):
        transformation.update(params, transformation.init(params), params, backprop=bp)
    bp = backprop(NET, CE, PARAMS, X, Y)
    with pytest.raises(ValueError, match="of another network"):
        transformation.update(params, transformation.init(params), params, backprop=bp)


@pytest.mark.fast
@pytest.mark.parametrize("kind", ["ggn", "empirical"])
def test_a_step_of_an_embedding_is_that_of_a_dense_on_unit_vectors(kind):
    """Two steps, so that factors are averaged; tokens that do not come have a frequency of 0."""
    rest = fn.Tanh(), fn.Dense(2, 4)
    net, other = fn.Chain(fn.Embedding(6, 2), *rest), fn.Chain(fn.Dense(6, 2, bias=False), *rest)
    table, *own = params_of(net)
    x, y = tokens(1, 4, 5, 3), target(CE, (5, 3, 4))

    @jax.jit
    def run(first, x):
        params, layers = (first, *own), net if "e" in first else other
        optimizer = fn.scale_by_kfac(layers, CE, kind=kind, damping=0.1)
        state, updates = optimizer.init(params), []
        for share in (1.0, 2.0):
            params = jax.tree.map(lambda a, s=share: s * a, params)
            bp = fn.backprop(layers, CE, params, x, y)
            _, grads = fn.value_and_grad(layers, CE, params, x, y)
            step, state = optimizer.update(grads, state, params, backprop=bp)
            updates.append((next(iter(step[0].values())), *step[1:]))
        return updates

    assert disagreement(run(table, x), run({"w": table["e"]}, np.eye(6)[x])) <= 1e-11


@pytest.mark.fast
def test_a_table_in_float32_has_factors_in_float32_where_float64_is_the_default():
    """How often a token comes was counted in the default type, which no inverse of the other factor fits."""
    net, x = fn.Chain(fn.Embedding(4, 2), fn.Dense(2, 4)), tokens(1, 4, 5, 3)
    params = params_of(net, dtype=np.float32)
    transformation = fn.scale_by_kfac(net, CE, kind="empirical", damping=0.1)

    @jax.jit
    def run(params):
        bp, (_, grads) = fn.backprop(net, CE, params, x, x), fn.value_and_grad(net, CE, params, x, x)
        updates, state = transformation.update(grads, transformation.init(params), params, backprop=bp)
        return updates, state.factors

    assert {leaf.dtype for leaf in jax.tree.leaves(run(params))} == {np.dtype(np.float32)}


def test_a_step_of_a_table_that_is_read_at_both_ends_is_of_its_diagonal():
    net = fn.Tied(fn.Embedding(4, 2), fn.Dense(2, 2))
    params, x, y = params_of(net), tokens(1, 4, 5, 3), target(CE, (5, 3, 4))
    transformation = fn.scale_by_kfac(net, CE, kind="empirical", damping=0.1)
    bp, (_, grads) = backprop(net, CE, params, x, y), value_and_grad(net, CE, params, x, y)
    updates, _ = jax.jit(transformation.update)(grads, transformation.init(params), params, backprop=bp)
    diagonal = jax.jit(fn.empirical_fisher_diagonal)(net, CE, params, x, y)[0]["e"]
    assert disagreement(updates[0]["e"], np.asarray(grads[0]["e"]) / (np.asarray(diagonal) + 0.1)) <= 1e-12
