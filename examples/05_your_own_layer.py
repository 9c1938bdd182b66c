"""A layer of your own in four functions, checked before it is trusted.

The swish y = x σ(βx) with a learned β for every feature (Ramachandran et al., 2017); funcnet has only
β = 1, `fn.SiLU`. `fn.check_layer` compares its derivatives with automatic and numerical ones and tests
what every layer promises. A planted mistake shows that a falling cost is no sign of a right gradient.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

import funcnet as fn

jax.config.update("jax_enable_x64", True)

Pass = tuple[jax.Array, Any]


@fn.spec
class Swish:
    """y = x σ(βx). The tape is ∂y/∂x and ∂y/∂β, all that the error signal is multiplied with."""

    features: int

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        return {"β": jnp.ones(self.features)}

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> Pass:
        s = jax.nn.sigmoid(params["β"] * x)
        slope = s * (1 - s)
        return x * s, (s + params["β"] * x * slope, x * x * slope)

    def backward(self, params: Any, tape: Any, delta: jax.Array) -> Pass:
        by_x, _ = tape
        return delta * by_x, delta  # ∂J_i/∂x, and what `gradient` needs: delta itself

    def gradient(self, tape: Any, deltas: jax.Array) -> dict[str, jax.Array]:
        _, by_β = tape
        examples_and_positions = tuple(range(deltas.ndim - 1))
        return {"β": jnp.sum(deltas * by_β, axis=examples_and_positions)}


@fn.spec
class WrongSwish:
    """The same with a mistake: in ∂y/∂x the β that the chain rule brings along is forgotten."""

    features: int
    init, backward, gradient = Swish.init, Swish.backward, Swish.gradient

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> Pass:
        s = jax.nn.sigmoid(params["β"] * x)
        slope = s * (1 - s)
        return x * s, (s + x * slope, x * x * slope)


# Where it is checked matters. In a test one would write `fn.check_layer(...).raise_if_wrong()`; here the tables are the
# point.
normal = jax.random.normal(jax.random.key(1), (6, 3))
for heading, layer, β in (
    ("The right layer", Swish(3), [0.5, 1.0, 2.0]),
    (
        "The wrong layer passes where every β is 1, as at the start: there β x slope and x slope are equal",
        WrongSwish(3),
        [1.0] * 3,
    ),
    ("The wrong layer is found where β is not 1", WrongSwish(3), [0.5, 1.0, 2.0]),
):
    print(f"{heading}\n{'─' * len(heading)}")
    print(f"β = {β}: {fn.check_layer(layer, {'β': jnp.array(β)}, normal)}\n")

# In a network it is a layer like any other. The task: sin 3x on 64 points.
x = jnp.linspace(-2, 2, 64)[:, None]
y = jnp.sin(3 * x)
loss, optimizer = fn.SquaredError(), optax.adam(optax.cosine_decay_schedule(0.01, 3000))


@jax.jit
def train(net: fn.Chain, params: tuple, x: jax.Array, y: jax.Array) -> tuple[tuple, jax.Array]:
    def step(carry: tuple, _: None) -> tuple:
        params, state = carry
        J, grads = fn.value_and_grad(net, loss, params, x, y)
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), J

    (params, _), costs = jax.lax.scan(step, (params, optimizer.init(params)), length=3000)
    return params, costs


# Both are checked where training ended, against other targets: at a minimum there is no gradient left
# to check. The table points at the culprit: its backward step is wrong, so all that lies below it is.
print("The wrong layer learns too: a falling cost does not tell the two apart, the check does.")
for layer in Swish(8), WrongSwish(8):
    net = fn.Chain(fn.Dense(1, 8), layer, fn.Dense(8, 8), layer, fn.Dense(8, 1))
    params, costs = train(net, fn.init(net, jax.random.key(0)), x, y)
    print("\ncost before step", *(f"  {i + 1}: {costs[i]:.1e}" for i in (0, 9, 99, 999, 2999)))
    print("β of the first layer at the end:", *(f"{β:.2f}" for β in params[1]["β"]))
    print(fn.check_gradients(net, loss, params, x[::8], y[::8] + 1))
