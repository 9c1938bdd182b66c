"""`explain_page`: one self-contained HTML file that steps through forward and backward propagation."""

import base64
import hashlib
import html
import json
import math
import os
import re
from collections.abc import Sequence
from importlib.resources import files
from itertools import pairwise
from typing import Any

import numpy as np

from funcnet._core import scalars
from funcnet._core.arrays import as_array, is_array, is_list, shown
from funcnet._core.files import write_whole
from funcnet._core.protocols import AnyLayer, ArrayLike, Loss, Params, Tree
from funcnet.derivations.formulas import typeset
from funcnet.derivations.notation import checked_names
from funcnet.page.data import Descent

LIMIT = 5_000_000  # bytes; beyond it browsers on phones stall
SCRIPTS = ("numbers", "steps", "formulas", "layout", "drawing", "chain", "tables", "keys", "main")


def explain_page(
    net: AnyLayer,
    loss: Loss,
    params: Params,
    x: ArrayLike,
    y: ArrayLike,
    path: str | os.PathLike[str] | None = None,
    *,
    names: Sequence[Sequence[str] | None] | None = None,
    examples: Sequence[str] | None = None,
    example: int = 0,
    learning_rate: float | Sequence[float] = (0.5, 0.1, 2.0),
    steps: int = 3,
    trainable: Tree | None = None,
    largest: int = 6,
    title: str = "One training step, number by number",
) -> str:
    """A page that steps through training: forward, cost, backward, update, and forward again.

    θ ← θ - η ∂J/∂θ with J the mean cost of the examples, one example's pass in view at a time. A click on a
    weight shows its derivative as a sum over paths, with the numbers. The file needs nothing but a
    browser: no network, no library. All arithmetic is done here and embedded; the page only looks it up.

    Args:
        net: a chain of `Dense` layers and elementwise activations. Of a layer of more than 8 units
            the first 5 and the last are drawn.
        loss: the cost of an output against its target.
        params: the parameters to start from.
        x: (m, features), of the parameters' type; each example can be chosen in the page.
        y: targets, as the loss wants them.
        path: where to write the file; what is there is replaced, at once, when the new one is complete.
        names: for the input and every layer with parameters, its units' names, or None to number them.
        examples: a name for each example.
        example: the one the page opens with.
        learning_rate: η, or several to choose from; the page opens with the first.
        steps: how many steps of descent are followed, 0 or more.
        trainable: True or False for every parameter, or for whole branches of params: what is False
            stays as it is. None trains all.
        largest: how many paths of a weight are written out; what the others sum to is stated.
        title: the heading.

    Returns:
        The page's HTML.

    Raises:
        ValueError: a network that the page does not cover, with the layer that is in the way; names,
            example, rates or steps that do not fit; a page of more than 5 MB, with what to drop.
        TypeError, ValueError: what `backprop` raises.
        OSError: the file cannot be written; what was there stays.

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp
        >>> net = fn.mlp((2, 2, 1), fn.Sigmoid())
        >>> params, x, y = fn.init(net, jax.random.key(0)), jnp.ones((1, 2)), jnp.ones((1, 1))
        >>> page = fn.explain_page(net, fn.SquaredError(), params, x, y)
        >>> page.startswith("<!doctype html>"), len(page.encode()) < 100_000
        (True, True)
    """
    if path is not None and not isinstance(path, str | os.PathLike):
        raise TypeError(f"explain_page: path: expected a file's name or path, got {shown(path)}.")
    if not isinstance(title, str):
        raise TypeError(f"explain_page: title: expected a text, got {shown(title)}.")
    descent = Descent(net, loss, params, x, y)
    run = descent.start
    m, sizes = len(run.costs), run.sizes
    rates = _checked_rates(learning_rate)
    given = checked_names(names, sizes)
    steps = scalars.integer("explain_page: steps", steps, "a whole number of 0 or more", 0)
    largest = scalars.integer("explain_page: largest", largest, "a whole number of 1 or more", 1)
    example = scalars.integer("explain_page: example", example, f"0 … {m - 1}, an index into x", 0, m - 1)
    if examples is not None and (not is_list(examples) or len(examples) != m):
        raise ValueError(f"explain_page: examples must name all {m} examples, got {shown(examples)}.")
    _refuse_too_large(descent, len(rates), steps, largest)
    data = {
        "network": repr(net),
        "loss": descent.loss_in_words(),
        "wide": descent.dtype == np.float64,
        "layers": [
            {
                "units": size,
                "shown": shown,
                "names": None if of_layer is None else [of_layer[unit] for unit in shown],
                "function": function,
                "formula": None if formula is None else [*map(typeset, formula)],
                "bias": weights is not None and weights.bias,
            }
            for size, shown, of_layer, function, formula, weights in zip(
                sizes, descent.shown, given, run.functions, run.formulas, run.layers
            )
        ],
        "examples": [
            {
                "name": f"Example {i + 1}" if examples is None else str(examples[i]),
                "x": descent.packed(run.a[0][i][descent.shown[0]]),
                "target": _target(descent, i),
            }
            for i in range(m)
        ],
        "example": example,
        "rates": rates,
        "steps": steps,
        "largest": largest,
        "moments": descent.moments(rates, steps, trainable, largest),
    }
    page = _assembled(title, data)
    size = len(page.encode())
    if size > LIMIT:
        raise ValueError(_too_large(size, m, len(rates), steps, largest))
    if path is not None:
        write_whole(path, page.encode(), mode=0o644)
    return page


def _checked_rates(learning_rate: Any) -> list[float]:
    name, rule = "explain_page: learning_rate", "learning rates, finite and above 0"
    if is_array(learning_rate):
        as_array(name, learning_rate)
        learning_rate = np.asarray(learning_rate).tolist()
    several = learning_rate if is_list(learning_rate) else [learning_rate]
    if not several:
        raise ValueError(f"{name}: expected {rule}, got none.")
    return [scalars.number(name, rate, rule, lambda rate: 0 < rate < math.inf) for rate in several]


def _target(descent: Descent, i: int) -> Any:
    """A class as its number, other targets as numbers for the drawn outputs, None for what is neither."""
    y, outputs = np.asarray(descent.start.y), descent.start.sizes[-1]
    if y.ndim == 1 and np.issubdtype(y.dtype, np.integer):
        return int(y[i])
    if y.shape[1:] == (outputs,):
        return descent.packed(y[i][descent.shown[-1]])
    return None


def _refuse_too_large(descent: Descent, rates: int, steps: int, largest: int) -> None:
    """Before anything is computed: a size that the numbers alone are sure to reach."""
    drawn = [len(units) for units in descent.shown]
    weights = sum((n_in + 1) * n_out for n_in, n_out in pairwise(drawn))
    width = (8 if descent.dtype == np.float64 else 4) * 4 / 3
    m, full = len(descent.start.costs), 1 + rates * max(steps - 1, 0)
    least = int(full * m * weights * 2 * width)  # each example's gradient and one path for every weight
    if least > LIMIT:
        raise ValueError(_too_large(least, m, rates, steps, largest))


def _too_large(size: int, m: int, rates: int, steps: int, largest: int) -> str:
    return (
        f"explain_page: the page would have {size / 1e6:.1f} MB or more, beyond {LIMIT / 1e6:.0f} MB. It grows with "
        f"examples ({m}) × learning rates ({rates}) × steps ({steps}) × paths (largest={largest}): "
        "drop some, such as by x[:5] and y[:5], learning_rate=0.5, steps=2 or largest=3."
    )


def _assembled(title: str, data: dict[str, Any]) -> str:
    """The template with everything inlined. Nothing but this very script and style may run, and nothing may load."""
    assets = files("funcnet.page") / "assets"
    parts = [(assets / f"{name}.js").read_text("utf-8") for name in SCRIPTS]
    script = '(() => {\n"use strict";\n' + "\n".join(parts) + "})();\n"
    style = (assets / "page.css").read_text("utf-8")
    policy = (
        f"default-src 'none'; script-src 'sha256-{_digest(script)}'; style-src 'sha256-{_digest(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    # A label may hold </script>: with < written as \u003c it cannot end the block.
    written = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    filled = {"title": html.escape(str(title)), "policy": policy, "style": style, "data": written, "script": script}
    template = (assets / "page.html").read_text("utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda place: filled[place[1]], template)


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
