"""`plot_gradient_flow`: how the error travels through the layers, before a training or from its telemetry."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from funcnet._core.arrays import shown
from funcnet._core.figures import COLOURS, NOTHING, axes_of, colour_map, plain
from funcnet.per_example.signals import Flow, number_of
from funcnet.train.history import History

MOST = 24  # layers whose names are written
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


def plot_gradient_flow(history: History | Flow, what: str = "delta", ax: Any = None) -> Any:
    """Draw one quantity of every layer: of one `gradient_flow`, or over the epochs as `fit(…, telemetry=k)` saw it.

    Layers stand as they are passed, the first at the bottom, so the error signal travels down. One flow is a dot for
    each layer: where early layers cannot learn, dots run to the left towards the bottom. A history is a map of
    colours, which gets darker there. Sizes are on a logarithmic scale, shares on a linear one.

    Args:
        history: of a `fit` with telemetry; or what `gradient_flow` gives, before any training too.
        what: "a", "delta", "gradient", "weight", "gradient_to_weight", "update_to_weight" (of a history), "dead" or
            "saturated", as `gradient_flow` and telemetry define them.
        ax: matplotlib axes to draw on; None makes a figure of its own, which a notebook shows.

    Returns:
        The axes. Of a flow their first line has the values and the layers' numbers, of a history their first
        collection's array is (layers, looks). What is 0 or not finite cannot stand on a logarithmic scale and is grey.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: a history without telemetry, of several trainings, or without an epoch; a flow without layers or of
            several networks; an unknown quantity, with those that there are.
        TypeError: `history` is neither a `History` nor a flow.

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
        >>> flow = fn.gradient_flow(net, fn.backprop(net, fn.SquaredError(), state.params, x, x), state.params)
        >>> [label.get_text() for label in fn.plot_gradient_flow(flow, "gradient").get_yticklabels()]
        ['layer 1', 'layer 2']
    """
    ax = axes_of(ax, "plot_gradient_flow")
    if not isinstance(what, str):
        raise TypeError(f"plot_gradient_flow: what: expected a quantity's name, such as 'delta', got {shown(what)}.")
    if isinstance(history, Mapping) and not isinstance(history, History):
        return _drawn_dots(history, what, ax)
    return _drawn_map(history, what, ax)


def _drawn_dots(flow: Mapping[str, Any], what: str, ax: Any) -> Any:
    values, numbers = _sizes_of(flow, what), np.arange(1, len(flow) + 1)
    _, drawn = _norm(what, values)
    ax.plot(drawn, numbers, "o-", color=COLOURS[0], linewidth=1)
    for number in numbers[np.isnan(drawn)]:
        ax.axhspan(number - 0.4, number + 0.4, color=NOTHING, linewidth=0)
    if what in SHARES:
        ax.set_xlim(-0.03, 1.03)
    elif not np.isnan(drawn).all():
        ax.set_xscale("log")
    shown = np.unique(np.linspace(1, len(flow), min(len(flow), MOST)).round().astype(int))
    ax.set_yticks(shown, [plain([*flow][number - 1]) for number in shown])
    ax.set(xlabel=_label(what, drawn), ylabel="layer", ylim=(0.5, len(flow) + 0.5))
    ax.grid(axis="x", alpha=0.3)
    return ax


def _drawn_map(history: History, what: str, ax: Any) -> Any:
    values = _values_of(history, what)
    layers, looks = values.shape
    edges = np.arange(looks + 1) / history.looks
    norm, drawn = _norm(what, values)
    mesh = ax.pcolormesh(edges, np.arange(layers + 1) + 0.5, drawn, norm=norm, cmap=colour_map("viridis"))
    ax.set(xlabel="epoch", ylabel="layer")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_yticks(np.unique(np.linspace(1, layers, min(layers, 12)).round().astype(int)))
    ax.figure.colorbar(mesh, ax=ax, label=_label(what, drawn))
    return ax


def _label(what: str, drawn: np.ndarray) -> str:
    grey = " (grey: none)" if what in SHARES else " (grey: 0 or not finite)"
    return WORDS.get(what, what.replace("_", " ")) + (grey if np.isnan(drawn).any() else "")


def _sizes_of(flow: Mapping[str, Any], what: str) -> np.ndarray:
    """(layers,)."""
    sizes = [*flow.values()]
    if not sizes or not all(isinstance(of_layer, Mapping) for of_layer in sizes):
        raise ValueError(
            "plot_gradient_flow: history: expected what fn.gradient_flow gives, {layer: {quantity: scalar}}, of a "
            f"network with parameters, got {'no layer' if not sizes else type(sizes[0]).__name__ + ' for a layer'}."
        )
    if any(what not in of_layer for of_layer in sizes):
        there = ", ".join(sorted(set.intersection(*(set(of_layer) for of_layer in sizes))))
        raise ValueError(f"plot_gradient_flow: {what!r} is no quantity of this flow; there is {there}.")
    values = np.stack([np.asarray(of_layer[what], np.float64) for of_layer in sizes])
    if values.ndim != 1:
        raise ValueError(
            f"plot_gradient_flow: expected one number for each layer, got shape {values.shape[1:]}: flows of several "
            "networks or batches. Draw one: jax.tree.map(lambda a: a[0], flow)."
        )
    return values


def _values_of(history: Any, what: str) -> np.ndarray:
    """(layers, looks)."""
    if not isinstance(history, History):
        raise TypeError(
            "plot_gradient_flow: history: expected the History that fit returns, or what gradient_flow gives, got "
            f"{shown(history)}."
        )
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
