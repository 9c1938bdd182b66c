"""Penalties: values, derivatives, which leaves they act on, and sweeps of their strength."""

import jax
import jax.numpy as jnp
import pytest
from table import disagreement, params_of

import funcnet as fn

NET = fn.Chain(fn.Dense(2, 3), fn.LayerNorm(3), fn.Residual(fn.Dense(3, 3)), fn.Dense(3, 1))
PENALTIES = [fn.L1(0.3), fn.L2(0.3), fn.ElasticNet(0.2, 0.4), fn.L2(0.3, on=("w", "b")), fn.L1(0.1, on=("g",))]


@pytest.mark.fast
@pytest.mark.parametrize("penalty", PENALTIES, ids=repr)
def test_gradient_is_the_derivative_of_value(penalty):
    params = params_of(NET)
    both = jax.jit(lambda params: (penalty.gradient(params), jax.grad(penalty.value)(params)))
    assert disagreement(*both(params)) <= 1e-14


@pytest.mark.fast
def test_values_written_out():
    params = ({"w": jnp.array([[1.0, -2.0]]), "b": jnp.array([10.0, 10.0])}, ())
    assert float(fn.L2(0.5).value(params)) == 2.5
    assert float(fn.L1(0.5).value(params)) == 1.5
    assert float(fn.ElasticNet(0.5, 0.5).value(params)) == 4.0
    assert float(fn.L1(0.5, on=("b",)).value(params)) == 10.0


@pytest.mark.fast
def test_biases_are_left_alone():
    grads = fn.L2(1.0).gradient(params_of(NET))
    assert not grads[0]["b"].any()
    assert not grads[1]["g"].any()
    assert grads[2]["w"].all()


@pytest.mark.fast
def test_both_matrices_of_a_recurrent_layer_are_penalised():
    grads = fn.L2(1.0).gradient(params_of(fn.GRU(2, 3)))
    assert grads["w"].all()
    assert grads["u"].all()
    assert not grads["b"].any()
    assert not grads["c"].any()


def test_strength_is_swept_under_vmap_without_a_second_trace():
    params, traces = params_of(NET), []

    @jax.jit
    def value(penalty):
        traces.append(1)
        return penalty.value(params)

    swept = jax.vmap(value)(fn.L2(jnp.array([0.1, 0.2, 0.4])))
    assert disagreement(swept, jnp.stack([fn.L2(s).value(params) for s in (0.1, 0.2, 0.4)])) <= 1e-15
    traces.clear()
    value(fn.L2(0.5)), value(fn.L2(0.7))
    assert len(traces) == 1


def test_a_penalty_is_a_value():
    assert fn.L2(1) == fn.L2(1.0)
    assert repr(fn.L2(0.1)) == "L2(0.1)"
    assert repr(fn.L2(0.1, on=("g",))) == "L2(0.1, on=('g',))"
    for penalty in PENALTIES:
        assert fn.from_json(fn.to_json(penalty)) == penalty
        assert eval(repr(penalty), vars(fn)) == penalty
    assert fn.from_json(fn.to_json(fn.L2(jnp.asarray(0.5)))) == fn.L2(0.5)


def test_bfloat16_parameters_are_summed_in_float32():
    params = {"w": jnp.ones((64, 64), jnp.bfloat16)}
    value = fn.L1(1.0).value(params)
    assert value.dtype == jnp.float32
    assert float(value) == 4096
    assert fn.L2(1.0).gradient(params)["w"].dtype == jnp.float32


def test_penalties_of_arrays_compare_and_print():
    assert fn.L2(jnp.ones(3)) == fn.L2(jnp.ones(3))
    assert fn.L2(jnp.ones(3)) != fn.L2(jnp.zeros(3))
    assert fn.L2(jnp.asarray(0.5)) == fn.L2(0.5)
    assert hash(fn.L2(jnp.asarray(0.5))) == hash(fn.L2(0.5))
    assert repr(fn.L2(jnp.asarray(0.5))) == "L2(0.5)"
    assert fn.L2(0.5) != fn.L1(0.5)
    with pytest.raises(ValueError, match="finite"):
        fn.L2(float("inf"))
