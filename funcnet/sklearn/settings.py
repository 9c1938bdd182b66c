"""What the constructor's arguments may be, checked when a training begins, as scikit-learn wants it."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from funcnet._core import arguments, scalars
from funcnet.layers.activations import Identity, ReLU, Sigmoid, Tanh
from funcnet.layers.combinators import Chain
from funcnet.layers.dense import Dense
from funcnet.layers.dropout import Dropout

ACTIVATIONS = {"identity": Identity(), "logistic": Sigmoid(), "tanh": Tanh(), "relu": ReLU()}
CHOICES = {"solver": ("adam", "sgd", "lbfgs"), "learning_rate": ("constant", "invscaling", "adaptive")}
FLAGS = ("shuffle", "warm_start", "nesterovs_momentum", "early_stopping")
ABOVE_ZERO = ("learning_rate_init", "epsilon")
FROM_ZERO = ("alpha", "power_t", "tol")
BELOW_ONE = ("momentum", "beta_1", "beta_2", "dropout")
COUNTS = ("max_iter", "n_iter_no_change", "max_fun")
FULL_BATCH = 200  # rows that "auto" takes at once, at most


def check_settings(estimator: Any, one_epoch: bool) -> None:
    """Refuse what an estimator was built with and cannot be had, by its name.

    Raises:
        TypeError, ValueError: an argument of the wrong kind, or out of its range.
    """
    values = estimator.get_params(deep=False)
    for name, among in CHOICES.items():
        scalars.choice(name, values[name], among)
    for name in FLAGS:
        scalars.flag(name, values[name])
    for names, expected, fits in (
        (ABOVE_ZERO, "a number above 0", lambda value: 0 < value < np.inf),
        (FROM_ZERO, "a number, 0 or more", lambda value: 0 <= value < np.inf),
        (BELOW_ONE, "a number, 0 or more and below 1", lambda value: 0 <= value < 1),
        (("validation_fraction",), "a number between 0 and 1", lambda value: 0 < value < 1),
    ):
        for name in names:
            scalars.number(name, values[name], expected, fits)
    for name in COUNTS:
        if not (name == "n_iter_no_change" and isinstance(values[name], float) and values[name] == np.inf):
            scalars.integer(name, values[name], "a whole number, 1 or more", 1)
    if not (isinstance(values["batch_size"], str) and values["batch_size"] == "auto"):
        scalars.integer("batch_size", values["batch_size"], '"auto", or a whole number, 1 or more', 1)
    if values["net"] is not None:
        arguments.check_layer_functions(values["net"])
        if values["dropout"]:
            raise ValueError("dropout: is for the network that hidden_layer_sizes build. Put fn.Dropout into net.")
    if values["solver"] == "lbfgs" and values["dropout"]:
        raise ValueError("dropout: L-BFGS needs one cost, not one that is drawn. Use solver='adam', or dropout=0.")
    if one_epoch and values["early_stopping"]:
        raise ValueError("early_stopping: partial_fit is one epoch, which nothing can stop. Use early_stopping=False.")


def network_of(estimator: Any, n_in: int, n_out: int) -> Chain:
    """Dense layers of the hidden sizes, each with its activation and dropout."""
    sizes, activation = estimator.hidden_layer_sizes, estimator.activation
    sizes = tuple(sizes) if isinstance(sizes, Iterable) and not isinstance(sizes, str) else (sizes,)
    for size in sizes:
        scalars.integer("hidden_layer_sizes", size, "whole numbers, 1 or more", 1)
    if isinstance(activation, str):
        if activation not in ACTIVATIONS:
            names = ", ".join(map(repr, ACTIVATIONS))
            raise ValueError(f"activation: expected one of {names}, or a layer such as fn.GELU(), got {activation!r}.")
        activation = ACTIVATIONS[activation]
    arguments.check_layer_functions(activation, "activation")
    if arguments.params_struct(activation):
        raise ValueError(f"activation: expected a layer without parameters, got {activation}. Put it into net.")
    drop = (Dropout(estimator.dropout),) if estimator.dropout else ()
    hidden = [layer for a, b in zip((n_in, *sizes), sizes) for layer in (Dense(a, int(b)), activation, *drop)]
    return Chain(*hidden, Dense(int((n_in, *sizes)[-1]), n_out))


def start_of(net: Chain, activation: Any, draw: np.random.RandomState) -> tuple[Any, ...]:
    """scikit-learn's starting values, from the same draws: w and b uniform within ±√(6 / (n_in + n_out)).

    For logistic units it is √(2 / …), as it has it.
    """

    def start(layer: Any) -> Any:
        if not arguments.params_struct(layer):
            return ()
        bound = np.sqrt((2 if activation == "logistic" else 6) / (layer.n_in + layer.n_out))
        w = draw.uniform(-bound, bound, (layer.n_in, layer.n_out))
        return {"w": w, "b": draw.uniform(-bound, bound, layer.n_out)}

    return tuple(start(layer) for layer in net.layers)


def batch_size_of(estimator: Any, m: int) -> int:
    """How many of m examples are in an update."""
    return min(FULL_BATCH if estimator.batch_size == "auto" else int(estimator.batch_size), m)
