"""`plot_gradient_flow`: how the error travels through the layers, from a training's telemetry."""

from typing import Any

import numpy as np

from funcnet._core.figures import axes_of, colour_map
from funcnet.per_example.signals import number_of
from funcnet.train.history import History

SHARES = ("dead", "saturated")  # between 0 and 1, on a linear scale
WORDS = {
    "a": "rms of what comes in, a",
    "delta": "rms of the error signal, δ",
    "gradient": "rms of the gradient",
    "weight": "rms of the parameters",
    "gradient_to_weight": "gradient / weight, rms",
    "update_to_weight": "update / weight, rms",
    "dead": "share of dead units",
    "saturated": "share of saturated entries",
}


def plot_gradient_flow(history: History, what: str = "delta", ax: Any = None) -> Any:
    """Draw one quantity of every layer over the epochs, as `fit(…, telemetry=k)` saw it: a map of colours.

    Layers stand as they are passed, the first at the bottom, so the error signal travels down. A network whose
    early layers do not learn gets darker towards the bottom. Sizes are on a logarithmic scale, shares on a
    linear one.

    Args:
        history: of a `fit` with telemetry.
        what: "a", "delta", "gradient", "weight", "gradient_to_weight", "update_to_weight", "dead" or
            "saturated", as `gradient_flow` and telemetry define them.
        ax: matplotlib axes to draw on; None makes a figure of its own, which a notebook shows.

    Returns:
        The axes. Their first collection's array is (layers, looks); what is 0 or not finite cannot stand on a
        logarithmic scale and is grey.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: a history without telemetry, of several trainings, or without an epoch; an unknown quantity,
            with those that there are.
        TypeError: `history` is not a `History`.

    Source: Glorot and Bengio, 2010.

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp, optax
        >>> net, x = fn.mlp((1, 3, 1)), jnp.linspace(-1, 1, 20)[:, None]
        >>> state = fn.train_state(optax.sgd(0.1), fn.init(net, jax.random.key(0)), jax.random.key(1))
        >>> options = {"epochs": 4, "batch_size": 5, "telemetry": 2}
        >>> _, history = fn.fit(net, fn.SquaredError(), optax.sgd(0.1), state, (x, x), **options)
        >>> ax = fn.plot_gradient_flow(history, "gradient")
        >>> ax.get_xlabel(), ax.get_ylabel(), ax.collections[0].get_array().shape
        ('epoch', 'layer', (2, 8))
    """
    ax = axes_of(ax, "plot_gradient_flow")
    values = _values_of(history, what)
    layers, looks = values.shape
    edges = np.arange(looks + 1) / history.looks
    norm, drawn = _norm(what, values)
    mesh = ax.pcolormesh(edges, np.arange(layers + 1) + 0.5, drawn, norm=norm, cmap=colour_map("viridis"))
    ax.set(xlabel="epoch", ylabel="layer")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_yticks(np.unique(np.linspace(1, layers, min(layers, 12)).round().astype(int)))
    grey = " (grey: none)" if what in SHARES else " (grey: 0 or not finite)"
    label = WORDS.get(what, what.replace("_", " ")) + (grey if np.isnan(drawn).any() else "")
    ax.figure.colorbar(mesh, ax=ax, label=label)
    return ax


def _values_of(history: Any, what: str) -> np.ndarray:
    """(layers, looks)."""
    if not isinstance(history, History):
        raise TypeError(f"plot_gradient_flow: expected the History that fit returns, got {type(history).__name__}.")
    if not history.telemetry or not history.looks:
        raise ValueError(
            "plot_gradient_flow: this history has no telemetry. Ask fit for it: fit(…, telemetry=10) looks at every "
            "tenth update, and 10 must not be more than the updates in an epoch."
        )
    if np.ndim(history.epochs):
        raise ValueError("plot_gradient_flow: this is the history of many trainings. Draw that of one: many[0][1].")
    if not int(history.epochs):
        raise ValueError("plot_gradient_flow: no epoch took place, so there is nothing to draw. See history.stopped.")
    names = {tuple(name.split(": ", 1)) for name in history.telemetry if name.startswith("layer ")}
    layers = sorted((layer for layer, name in names if name == what), key=number_of)
    if not layers:
        there = ", ".join(sorted({name for _, name in names}))
        raise ValueError(f"plot_gradient_flow: no telemetry {what!r} of the layers; there is {there}.")
    return np.stack([history.seen(f"{layer}: {what}").astype(np.float64) for layer in layers])


def _norm(what: str, values: np.ndarray) -> tuple[Any, np.ndarray]:
    """The scale, and the values with NaN where it has no place for them."""
    from matplotlib.colors import LogNorm, Normalize

    if what in SHARES:
        return Normalize(0, 1), np.where(np.isfinite(values), values, np.nan)
    drawn = np.where(np.isfinite(values) & (values > 0), values, np.nan)
    if np.isnan(drawn).all():
        return Normalize(0, 1), drawn
    lowest, highest = np.nanmin(drawn), np.nanmax(drawn)
    return LogNorm(lowest, highest if highest > lowest else 2 * lowest), drawn
