"""`plot_gradient_norms`: how large each example's gradient is."""

from numbers import Real
from typing import Any

import numpy as np

from funcnet._core.figures import COLOURS, axes_of, legend
from funcnet._core.protocols import AnyLayer
from funcnet.per_example.gradients import example_square_norms
from funcnet.propagation import Backprop

BINS = 40


def plot_gradient_norms(net: AnyLayer, bp: Backprop, max_norm: float | None = None, ax: Any = None) -> Any:
    """Draw a histogram of the norms ‖g_i‖ of each example's gradient, on a logarithmic axis.

    Args:
        net: a layer.
        bp: its `Backprop`, with m examples.
        max_norm: a line where `clipped_gradient` and `Privacy` would clip, and the share of the examples
            whose gradient is longer.
        ax: matplotlib axes to draw on; None makes a figure of its own, which a notebook shows.

    Returns:
        The axes. Norms of 0, and those that are not finite, have no place on the axis; they are counted in its name.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: `bp` is not a `Backprop`.
        ValueError: bp of another network; a layer that mixes examples; a max_norm that is not above 0; no example
            with a norm to draw.

    Cost:
        That of `example_square_norms`.

    Source: Abadi et al., 2016 (the median norm as the one to clip at).

    Example:
        >>> import funcnet as fn
        >>> net = fn.Dense(1, 1, bias=False)
        >>> params = fn.from_weights(net, [[[1.0]]])
        >>> bp = fn.backprop(net, fn.SquaredError(), params, [[1.0], [2.0], [3.0]], [[0.0], [0.0], [3.0]])
        >>> ax = fn.plot_gradient_norms(net, bp, max_norm=2.0)  # the norms are 1, 4 and 0
        >>> ax.get_xlabel(), ax.get_legend().get_texts()[2].get_text()
        ("norm of an example's gradient (1 more of 0)", 'max_norm 2: 33 % are longer')
    """
    ax = axes_of(ax, "plot_gradient_norms")
    if max_norm is not None and not (isinstance(max_norm, Real) and 0 < max_norm < np.inf):
        raise ValueError(f"plot_gradient_norms: max_norm must be a finite number above 0, got {max_norm!r}.")
    norms = np.sqrt(np.asarray(example_square_norms(net, bp)).astype(np.float64))
    shown = norms[np.isfinite(norms) & (norms > 0)]
    if not len(shown):
        raise ValueError(
            f"plot_gradient_norms: none of the {len(norms)} examples has a gradient that is finite and not 0."
        )
    lowest, highest = shown.min(), shown.max()
    room = 1.0 if highest > 1.01 * lowest else 1.1
    _, _, bars = ax.hist(shown, np.geomspace(lowest / room, highest * room, BINS + 1), color=COLOURS[0])
    handles, names = [bars[0]], [f"{len(shown)} examples"]
    middle = float(np.median(shown))
    handles.append(ax.axvline(middle, color="black", linestyle=":"))
    names.append(f"median {middle:.3g}")
    if max_norm is not None:
        handles.append(ax.axvline(max_norm, color=COLOURS[1], linestyle="--", linewidth=2))
        names.append(f"max_norm {max_norm:.3g}: {np.mean(norms > max_norm):.0%} are longer".replace("%", " %"))
    legend(ax, handles, names)
    others = ((norms == 0).sum(), "of 0"), ((~np.isfinite(norms)).sum(), "not finite")
    more = ", ".join(f"{number} more {what}" for number, what in others if number)
    ax.set_xscale("log")
    ax.set(xlabel="norm of an example's gradient" + (f" ({more})" if more else ""), ylabel="examples")
    return ax
