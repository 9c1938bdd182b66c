"""What the functions that draw draw: a picture of each for the reference, of handwritten digits and of two features."""

import os
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # most of the time is compiling

import jax
import jax.numpy as jnp
import optax
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import funcnet as fn

PAGE = pathlib.Path(__file__).parents[2] / "examples" / "pictures" / "page.png"  # a photograph of a page
Picture = tuple[str, Callable[[Any], Any]]


def of_digits() -> Iterator[Picture]:
    """Digits learned, with telemetry."""
    pictures, digits = load_digits(return_X_y=True)
    x, y = jnp.asarray(pictures / 16, jnp.float32), jnp.asarray(digits)
    net, loss, adam = fn.mlp((64, 16, 16, 10), fn.Sigmoid()), fn.CrossEntropy(), optax.adam(1e-2)
    params = jax.jit(fn.init, static_argnums=0)(net, jax.random.key(0))
    state = fn.train_state(adam, params, jax.random.key(1))
    options = {"batch_size": 64, "validation": (x[1400:], y[1400:]), "metrics": [fn.Accuracy()], "telemetry": 11}
    state, history = fn.fit(net, loss, adam, state, (x[:1400], y[:1400]), epochs=20, **options)
    bp = jax.jit(fn.backprop, static_argnums=(0, 1))(net, loss, state.params, x[:1400], y[:1400])
    yield "History.plot", lambda ax: history.plot(ax=ax)
    yield "plot_weights", lambda ax: fn.plot_weights(net, state.params, ax=ax)
    yield "plot_confusion", lambda ax: fn.plot_confusion(bp.output, y[:1400], ax=ax)
    yield "plot_gradient_flow", lambda ax: fn.plot_gradient_flow(history, "delta", ax=ax)
    yield "plot_gradient_norms", lambda ax: fn.plot_gradient_norms(net, bp, max_norm=1.0, ax=ax)


def of_two_features() -> Iterator[Picture]:
    """Points in and around a circle, learned at several rates; and a cost over two weights."""
    x = jax.random.uniform(jax.random.key(0), (200, 2), minval=-1, maxval=1)
    y = (jnp.sum(x**2, axis=1) > 0.6).astype(int)
    net, loss = fn.mlp((2, 8, 2)), fn.CrossEntropy()
    adam = optax.inject_hyperparams(optax.adam)(learning_rate=1e-2)
    sweep = {"learning_rate": [1e-3, 1e-2, 1e-1], "penalty": [fn.L2(0.0), fn.L2(1e-3), fn.L2(1e-2)]}
    many = fn.fit_many(net, loss, adam, (x, y), epochs=60, batch_size=20, seeds=(0, 1), sweep=sweep)
    state, _ = many[many.best("cost")]
    yield "Trainings.plot", lambda ax: many.plot("cost", ax=ax)
    yield "plot_decision_regions", lambda ax: fn.plot_decision_regions(net, state.params, x, y, ax=ax)

    line, path = fn.Dense(1, 1), [fn.from_weights(fn.Dense(1, 1), [[[-1.0]]], [[1.5]])]
    across, down, error = x[:, :1], 2 * x[:, :1] + 0.5, fn.SquaredError()
    for _ in range(12):
        _, grads = fn.value_and_grad(line, error, path[-1], across, down)
        path.append(jax.tree.map(lambda weight, slope: weight - 0.6 * slope, path[-1], grads))
    along = (1, 0, 0), (1, None, 0)
    yield (
        "plot_cost_surface",
        lambda ax: fn.plot_cost_surface(line, error, path[-1], across, down, along, path=path, ax=ax),
    )


def draw(folder: pathlib.Path) -> list[str]:
    """Files in the folder, and their names: those of the functions."""
    folder.mkdir(parents=True)
    pictures = dict([*of_digits(), *of_two_features()])
    for name, picture in pictures.items():
        figure = Figure((5.6, 3.8), layout="compressed")
        picture(figure.subplots())
        figure.savefig(folder / f"{name}.png", dpi=100)
    shutil.copy(PAGE, folder / "explain_page.png")
    return [*pictures, "explain_page"]
