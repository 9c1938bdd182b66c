"""`as_function` and `as_cost` inside other people's programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from table import cost, disagreement, params_of, random, value_and_grad

import funcnet as fn

NET = fn.Chain(fn.Dense(3, 4), fn.Tanh(), fn.Dropout(0.3), fn.Dense(4, 2))
PARAMS, X, Y = params_of(NET), random(1, 6, 3), random(2, 6, 2)
LOSS = fn.SquaredError()


def readout(output):
    return jnp.sum(jnp.sin(output) ** 2)


@pytest.mark.fast
@pytest.mark.parametrize(
    "key", [None, jax.random.key(3), jax.random.split(jax.random.key(3), 6)], ids=["none", "one", "many"]
)
def test_a_function_has_the_derivatives_of_its_network(key):
    f = fn.as_function(NET)

    @jax.jit
    def both(params, x):
        hand = jax.value_and_grad(lambda p, x: readout(f(p, x, key)), argnums=(0, 1))(params, x)
        return hand, jax.value_and_grad(lambda p, x: readout(fn.forward(NET, p, x, key)[0]), argnums=(0, 1))(params, x)

    assert disagreement(*both(PARAMS, X)) <= 1e-12


@pytest.mark.fast
def test_a_function_runs_the_hand_written_backward_pass():
    @fn.spec
    class Tripled:
        def init(self, key):
            return ()

        def forward(self, params, x, key=None):
            return x, x

        def backward(self, params, tape, delta):
            return 3 * delta, delta  # not the derivative, and so seen to be the one in use

        def gradient(self, tape, deltas):
            return ()

    slope = jax.jit(jax.grad(lambda x: fn.as_function(Tripled())((), x).sum()))(X)
    assert (np.asarray(slope) == 3).all()


def test_a_function_is_hashable_and_works_under_vmap():
    assert fn.as_function(NET) == fn.as_function(NET)
    assert hash(fn.as_function(NET)) == hash(fn.as_function(NET))
    f = fn.as_function(NET)

    def gradient(params):
        return jax.grad(lambda p: readout(f(p, X)))(params)

    @jax.jit
    def run(params):
        per_example = jax.vmap(jax.grad(lambda p, x: readout(f(p, x[None]))), in_axes=(None, 0))(params, X)
        lanes = jax.tree.map(lambda leaf: jnp.stack([leaf, -leaf]), params)
        return per_example, jax.vmap(gradient)(lanes), gradient(params)

    per_example, lanes, whole = jax.tree.map(np.asarray, run(PARAMS))
    assert disagreement(jax.tree.map(lambda leaf: leaf.sum(0), per_example), whole) <= 1e-13
    assert disagreement(jax.tree.map(lambda leaf: leaf[0], lanes), whole) <= 1e-13


def test_bfloat16_keeps_its_type():
    params, x = jax.tree.map(lambda leaf: np.asarray(leaf).astype(jnp.bfloat16), (PARAMS, X))
    grads = jax.eval_shape(jax.grad(lambda p: fn.as_function(NET)(p, x).astype(jnp.float32).sum()), params)
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype(jnp.bfloat16)}


def test_inside_an_equinox_model():
    eqx = pytest.importorskip("equinox")

    class Model(eqx.Module):
        params: tuple
        scale: jax.Array
        f: object = eqx.field(static=True)

        def __call__(self, x):
            return self.scale * self.f(self.params, x)

    model = Model(PARAMS, jnp.asarray(2.0), fn.as_function(NET))
    grads = eqx.filter_jit(eqx.filter_grad(lambda model: readout(model(X))))(model)
    plain = jax.jit(jax.grad(lambda p: readout(2.0 * fn.predict(NET, p, X))))(PARAMS)
    assert disagreement(grads.params, plain) <= 1e-12


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Flax's own
def test_inside_a_flax_model():
    linen = pytest.importorskip("flax.linen")

    class Model(linen.Module):
        @linen.compact
        def __call__(self, x):
            params = self.param("net", lambda key: fn.init(NET, key))
            return fn.as_function(NET)(params, x)

    model = Model()
    variables = jax.jit(model.init)(jax.random.key(0), X)
    grads = jax.jit(jax.grad(lambda variables: readout(model.apply(variables, X))))(variables)["params"]["net"]
    plain = jax.jit(jax.grad(lambda p: readout(fn.predict(NET, p, X))))(variables["params"]["net"])
    assert disagreement(grads, plain) <= 1e-12


@pytest.mark.fast
@pytest.mark.parametrize(
    "options",
    [{}, {"reduction": "sum"}, {"weights": np.arange(6.0)}, {"penalty": fn.L2(0.2)}, {"key": jax.random.key(1)}],
    ids=lambda options: next(iter(options), "plain"),
)
def test_a_cost_function_has_value_and_gradient_of_the_cost(options):
    J = fn.as_cost(NET, LOSS, X, Y, **options)
    expected = jax.tree.map(np.asarray, value_and_grad(NET, LOSS, PARAMS, X, Y, **options))
    run = jax.jit(lambda params: (jax.value_and_grad(J)(params), J(params), jax.grad(lambda p: 3 * J(p))(params)))
    both, value, tripled = run(PARAMS)
    assert disagreement(both, expected) <= 1e-13
    assert disagreement(value, cost(NET, LOSS, PARAMS, X, Y, **options)) <= 1e-14
    assert disagreement(tripled, jax.tree.map(lambda g: 3 * g, expected[1])) <= 1e-13


def test_a_cost_function_is_a_pytree_whose_data_are_arguments():
    traces = []

    @jax.jit
    def gradient(J, params):
        traces.append(1)
        return jax.grad(J)(params)

    first = gradient(fn.as_cost(NET, LOSS, X, Y), PARAMS)
    second = gradient(fn.as_cost(NET, LOSS, 2 * X, Y), PARAMS)
    assert len(traces) == 1
    assert disagreement(first, value_and_grad(NET, LOSS, PARAMS, X, Y)[1]) <= 1e-13
    assert disagreement(second, value_and_grad(NET, LOSS, PARAMS, 2 * X, Y)[1]) <= 1e-13


@pytest.mark.parametrize("changed", ["x", "y", "weights", "strength"])
def test_a_cost_function_refuses_other_derivatives(changed):
    data = {"x": X, "y": Y, "weights": jnp.ones(6), "strength": jnp.asarray(0.5)}

    def J(value):
        given = {**data, changed: value}
        penalty = fn.L2(given["strength"])
        return fn.as_cost(NET, LOSS, given["x"], given["y"], weights=given["weights"], penalty=penalty)(PARAMS)

    with pytest.raises(TypeError, match="with respect to params alone"):
        jax.grad(J)(data[changed])


def test_functions_and_costs_can_be_checked_by_differences():
    assert fn.check_function(fn.as_function(NET), PARAMS, X).ok
    report = fn.check_function(lambda params, x: fn.as_cost(NET, LOSS, X, Y)(params), PARAMS, np.zeros((1, 1)))
    assert report.ok, str(report)


def test_a_cost_function_may_itself_be_jitted_and_checkpointed():
    J = fn.as_cost(NET, LOSS, X, Y)
    expected = value_and_grad(NET, LOSS, PARAMS, X, Y)

    @jax.jit
    def run(params):
        value, pullback = jax.vjp(J, params)
        return (jax.jit(J)(params), value), (jax.grad(jax.checkpoint(J))(params), pullback(jnp.ones(()))[0])

    values, grads = run(PARAMS)
    assert disagreement(values, (expected[0],) * 2) <= 1e-14
    assert disagreement(grads, (expected[1],) * 2) <= 1e-13
