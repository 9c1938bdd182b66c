"""The worked cases of the texts, to their printed digits."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from table import TWO_NET, TWO_PARAMS, TWO_X, TWO_Y, backprop, cost, predict, value_and_grad

import funcnet as fn

pytestmark = pytest.mark.fast
HOURS = jnp.array([[3.0, 5.0], [5.0, 1.0], [10.0, 2.0]]) / jnp.array([[10.0, 5.0]])
SCORES = jnp.array([[0.75], [0.82], [0.93]])
SCORE_NET = fn.Chain(fn.Dense(2, 3, bias=False), fn.Sigmoid(), fn.Dense(3, 1, bias=False), fn.Sigmoid())
SCORE_PARAMS = fn.from_weights(SCORE_NET, [[[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], [[0.7], [0.8], [0.9]]])


def close(found, digits, tolerance):
    return np.abs(np.asarray(found) - np.asarray(digits)).max() <= tolerance


def test_scores_from_hours_slept_and_studied():
    loss = fn.SquaredError()
    J, grads = value_and_grad(SCORE_NET, loss, SCORE_PARAMS, HOURS, SCORES, reduction="sum")
    bp = backprop(SCORE_NET, loss, SCORE_PARAMS, HOURS, SCORES)
    assert close(bp.output[:, 0], (0.8223928094476721, 0.7896752178773235, 0.8088920017905075), 2e-16)
    assert close(J, 0.01041372925041261, 1e-16)
    assert close(np.sum(bp.costs), J, 1e-17)
    assert close(bp.deltas[2][:, 0], (0.010573901979794005, -0.005036590544712422, -0.018721568460998157), 1e-16)
    first = [
        [-0.0031301287516155582, -0.003509918999001434, -0.0038409179816094774],
        [0.0003033177959936668, 0.00031843660868035824, 0.0003265887863843615],
    ]
    assert close(grads[0]["w"], first, 1e-16)
    assert close(grads[2]["w"][:, 0], (-0.006846182535460674, -0.007247873951847349, -0.0076428651910193), 1e-16)


def fitted(params, steps=400):
    """L-BFGS on the hand-written gradient, in one compiled scan."""
    J, optimizer = fn.as_cost(SCORE_NET, fn.SquaredError(), HOURS, SCORES, reduction="sum"), optax.lbfgs()

    @jax.jit
    def run(params):
        def step(carry, _):
            params, state = carry
            value, grads = jax.value_and_grad(J)(params)
            updates, state = optimizer.update(grads, state, params, value=value, grad=grads, value_fn=J)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, optimizer.init(params)), length=steps)[0][0]

    with jax.numpy_dtype_promotion("standard"):  # optax's line search mixes integers
        return run(params)


def test_scores_fitted_from_these_weights_end_in_a_poor_minimum():
    params = fitted(SCORE_PARAMS)
    J = cost(SCORE_NET, fn.SquaredError(), params, HOURS, SCORES, reduction="sum")
    assert close(J, 0.0012261835, 5e-11)
    assert close(predict(SCORE_NET, params, HOURS)[:, 0], (0.7500, 0.8535, 0.8935), 5e-5)


def test_scores_fitted_from_random_weights_are_fitted():
    draw = np.random.default_rng(1)
    params = fitted(fn.from_weights(SCORE_NET, [draw.normal(size=(2, 3)), draw.normal(size=(3, 1))]))
    assert close(predict(SCORE_NET, params, HOURS), SCORES, 5e-5)


def descended(params, grads):
    """One step with η = 0.5 on the weights; the biases stay."""
    return tuple({**p, "w": p["w"] - 0.5 * g["w"]} if p else () for p, g in zip(params, grads))


def test_two_by_two():
    loss = fn.SquaredError()
    J, grads = value_and_grad(TWO_NET, loss, TWO_PARAMS, TWO_X, TWO_Y)
    bp = backprop(TWO_NET, loss, TWO_PARAMS, TWO_X, TWO_Y)
    assert close(bp.tape[1], [[0.593269992107, 0.596884378260]], 5e-13)
    assert close(bp.output, [[0.751365069552, 0.772928465321]], 5e-13)
    assert close(J, 0.29837110876000, 5e-15)
    assert close(bp.deltas[2], [[0.138498561629, -0.038098236517]], 5e-13)
    assert close(bp.deltas[0], [[0.008771354689, 0.009954254705]], 5e-13)
    assert close(grads[2]["w"], [[0.082167040564, -0.022602540477], [0.082667627848, -0.022740242216]], 5e-13)
    assert close(grads[0]["w"], [[0.000438567734, 0.000497712735], [0.000877135469, 0.000995425471]], 5e-13)


def test_two_by_two_after_one_step_and_after_ten_thousand():
    def step(params, _):
        J, grads = fn.value_and_grad(TWO_NET, fn.SquaredError(), params, TWO_X, TWO_Y)
        return descended(params, grads), J

    params, costs = jax.jit(lambda params: jax.lax.scan(step, params, length=10_000))(TWO_PARAMS)
    assert close(costs[1], 0.29102777369360, 5e-15)
    assert close(predict(TWO_NET, params, TWO_X), [[0.0159136204, 0.9840642735]], 5e-11)


def test_the_trap_of_updating_the_last_layer_first_gives_the_wrong_number_in_print():
    loss = fn.SquaredError()
    output, tape = fn.forward(TWO_NET, TWO_PARAMS, TWO_X)
    _, right = value_and_grad(TWO_NET, loss, TWO_PARAMS, TWO_X, TWO_Y)
    updated = (*TWO_PARAMS[:2], *descended(TWO_PARAMS, right)[2:])
    _, deltas = fn.backward(TWO_NET, updated, tape, np.asarray(output) - np.asarray(TWO_Y))
    wrong = descended(TWO_PARAMS, fn.gradient(TWO_NET, tape, deltas))
    J = cost(TWO_NET, loss, wrong, TWO_X, TWO_Y)
    assert close(J, 0.291027924, 5e-10)
    assert not close(J, 0.29102777369360, 1e-7)


def test_toy_classifier():
    old = np.random.RandomState(0)
    ws = 0.1 * old.randn(4, 10), 0.1 * old.randn(10, 3)
    x, y = 10 * np.random.RandomState(1).randn(5, 4), np.array([0, 1, 2, 2, 1])
    net = fn.mlp((4, 10, 3), fn.ReLU())
    params = fn.from_weights(net, ws)
    assert close(predict(net, params, x)[0], (-0.81233741, -1.27654624, -0.70335995), 5e-9)
    assert close(cost(net, fn.CrossEntropy(), params, x, y), 1.2658570521, 5e-11)
    assert close(cost(net, fn.CrossEntropy(), params, x, y, penalty=fn.L2(0.05)), 1.30378789133, 5e-12)


def test_one_neuron():
    net = fn.Chain(fn.Dense(2, 1), fn.Sigmoid())
    params = fn.from_weights(net, [[[2.0], [-3.0]]], [-3.0])
    a, tape = fn.forward(net, params, jnp.array([[-1.0, -2.0]]))
    input_delta, deltas = fn.backward(net, params, tape, jnp.ones_like(a))
    grads = fn.gradient(net, tape, deltas)[0]
    assert close(a, 0.731058578630, 5e-13)
    assert close(grads["w"][:, 0], (-0.196611933, -0.393223866), 5e-10)
    assert close(grads["b"], 0.196611933, 5e-10)
    assert close(input_delta[0], (0.393223866, -0.589835800), 5e-10)
