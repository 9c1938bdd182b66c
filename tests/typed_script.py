"""A script in the README's style, for type checkers: `mypy --strict tests/typed_script.py` has nothing to say of it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import funcnet as fn

net, loss = fn.mlp((2, 3, 1), fn.Sigmoid()), fn.SquaredError()
params = fn.init(net, jax.random.key(0))
x, y = [[0.3, 1.0], [0.5, 0.2]], np.array([[0.75], [0.82]])

J, grads = jax.jit(fn.value_and_grad)(net, loss, params, x, y)
bp = fn.backprop(net, loss, params, x, y, weights=[1.0, 2.0])
print(bp.deltas, fn.check_gradients(net, loss, params, x, y, penalty=fn.L2(1e-3)).ok)
print(fn.example_square_norms(net, bp), fn.weighted_gradient(net, bp, [1.0, -1.0]))

deep = fn.Chain(fn.Dense(2, 8, init=fn.HeNormal()), fn.Residual(fn.Chain(fn.Dense(8, 8), fn.ReLU())), fn.Dense(8, 2))
adam = optax.adam(1e-3)
state = fn.train_state(adam, fn.init(deep, jax.random.key(0)), jax.random.key(1))
labels = jnp.array([0, 1])
metrics: list[fn.Metric] = [fn.Accuracy(), fn.TopK(1), fn.F1()]
state, history = fn.fit(
    deep,
    fn.CrossEntropy(label_smoothing=0.1),
    adam,
    state,
    (jnp.asarray(x), labels),
    epochs=3,
    batch_size=2,
    validation=(jnp.asarray(x), labels),
    metrics=metrics,
    early_stopping=fn.EarlyStopping(patience=2),
)
print(history["cost"], fn.diagnose(deep, fn.CrossEntropy(), state.params, x, labels))
print(fn.explain(net, loss, params, x, y, weight=(1, 0, 2)).value, fn.summary(net, (32, 2)).parameters)
