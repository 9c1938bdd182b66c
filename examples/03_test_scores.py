"""Predicting test scores from hours of sleep and study: a batch at once, and two lessons on fitting.

Three students, a 2-3-1 network of sigmoids without biases, and the summed squared error. The
gradients of the whole batch are two matrix products. Then the same hand-written gradients drive
L-BFGS: from one start it ends in a poor minimum, from most random ones it fits every score.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import funcnet as fn

jax.config.update("jax_enable_x64", True)
np.set_printoptions(precision=10, floatmode="fixed", suppress=True, linewidth=120)

hours = jnp.array([[3.0, 5.0], [5.0, 1.0], [10.0, 2.0]])
x, y = hours / hours.max(axis=0), jnp.array([[75.0], [82.0], [93.0]]) / 100
net = fn.Chain(fn.Dense(2, 3, bias=False), fn.Sigmoid(), fn.Dense(3, 1, bias=False), fn.Sigmoid())
loss = fn.SquaredError()
start = fn.from_weights(net, [[[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], [[0.7], [0.8], [0.9]]])

# The gradients of the batch are the two products aᵀδ: a product of matrices runs over the rows, and
# the rows are the students. The tape of each Dense is its input a, and its delta is δ.
bp = fn.backprop(net, loss, start, x, y)
grads = fn.gradient(net, bp.tape, bp.deltas)
_, a1, _, a2 = bp.tape
δ1, _, δ2, _ = bp.deltas
print("All three students in one pass, from the given weights")
for name, values in {
    "ŷ": {"funcnet": a2, "worked": [0.8223928094476721, 0.7896752178773235, 0.8088920017905075]},
    "J": {"funcnet": bp.costs.sum(), "worked": 0.01041372925041261},
    "δ2": {"funcnet": δ2, "worked": [0.010573901979794005, -0.005036590544712422, -0.018721568460998157]},
    "∂J/∂w1": {"funcnet": grads[0]["w"], "xᵀδ1": x.T @ δ1, "worked": [
        [-0.0031301287516155582, -0.003509918999001434, -0.0038409179816094774],
        [0.0003033177959936668, 0.00031843660868035824, 0.0003265887863843615]]},
    "∂J/∂w2": {"funcnet": grads[2]["w"], "a1ᵀδ2": a1.T @ δ2, "worked": [
        -0.006846182535460674, -0.007247873951847349, -0.0076428651910193]},
}.items():  # fmt: skip
    for label, value in values.items():
        print(f"{name:7} {label:7} {np.ravel(value)}")


# L-BFGS asks for the cost along a line as well as for gradients, and differentiates what it is
# given. `fn.as_cost` gives it a function of the parameters that carries the hand-written gradient.
# With the default slope condition of 0.9 a long first step may end where every sigmoid is saturated
# and no gradient is left; 0.5 searches the line more closely.
optimizer = optax.lbfgs(linesearch=optax.scale_by_zoom_linesearch(max_linesearch_steps=30, curv_rtol=0.5))


def fit(params: tuple, x: jax.Array, y: jax.Array) -> tuple[tuple, jax.Array, jax.Array]:
    """The parameters after 500 iterations, their cost and the outputs."""
    J = fn.as_cost(net, loss, x, y, reduction="sum")
    value_and_grad = optax.value_and_grad_from_state(J)

    def iteration(carry: tuple, _: None) -> tuple:
        params, state = carry
        value, grads = value_and_grad(params, state=state)
        updates, state = optimizer.update(grads, state, params, value=value, grad=grads, value_fn=J)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(iteration, (params, optimizer.init(params)), length=500)
    return params, J(params), fn.predict(net, params, x)[:, 0]


_, J, scores = jax.jit(fit)(start, x, y)
print("\nL-BFGS from the given weights ends in a poor minimum")
print(f"funcnet  J = {J:.10f}  ŷ = {scores}")
print("worked   J = 0.0012261835  ŷ = [0.75         0.8535       0.8935      ]")
print(f"wanted   J = 0             ŷ = {y[:, 0]}")

# The same from standard normal weights, all seeds at once: `fit` is a pure function, so vmap applies.
keys = jax.vmap(jax.random.key)(jnp.arange(100))
random_starts = jax.vmap(lambda key: optax.tree_utils.tree_random_like(key, start))(keys)
_, costs, scores = jax.jit(jax.vmap(fit, in_axes=(0, None, None)))(random_starts, x, y)
fits = (abs(scores - y[:, 0]) < 5e-5).all(axis=1)
print("\nL-BFGS from standard normal weights")
print(f"seeds 0 … 19: {fits[:20].sum()} of 20 fit all three scores to 4 digits, to J = {costs[:20].max():.0e} or less")
print(f"seeds 0 … 99: {fits.sum()} of 100; where the others end:")
for seed in np.flatnonzero(~fits):
    print(f"seed {seed}  J = {costs[seed]:.10f}  ŷ = {scores[seed]}")
