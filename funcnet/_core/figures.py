"""What all pictures share: axes that no global state knows, colours that most eyes tell apart, names as they are."""

import io
from collections.abc import Sequence
from functools import partial
from typing import Any

from funcnet._core.arrays import shown

COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#F0E442",
    "#000000",
)  # Okabe and Ito, 2008
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
NOTHING = "0.75"  # the grey of what has no value


def axes_of(ax: Any, what: str) -> Any:
    """The axes to draw on: those given, or those of a figure of its own, which no global state knows.

    A notebook shows the figures that pyplot knows. One of its own it asks for a picture, and so it asks its axes.
    """
    if ax is not None:
        if not all(hasattr(ax, name) for name in ("plot", "imshow", "figure")):
            raise TypeError(f"{what}: ax: expected matplotlib's axes, as plt.subplots() gives, got {shown(ax)}.")
        return ax
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            f"{what} needs matplotlib. In the clone of funcnet: .venv/bin/pip install -e '.[plot]'."
        ) from error
    figure: Any = Figure(layout="constrained")
    axes = figure.subplots()
    figure._repr_png_ = axes._repr_png_ = partial(_png, figure)
    return axes


def _png(figure: Any) -> bytes:
    """What `figure.savefig` writes."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def colour_map(name: str) -> Any:
    """A colour map whose NaNs are grey. The registry gives a copy, so it may be changed."""
    from matplotlib import colormaps

    return colormaps[name].with_extremes(bad=NOTHING)


def plain(name: Any) -> str:
    """A name as text that shows what it holds: between dollars matplotlib would see mathematics."""
    return str(name).replace("$", r"\$")


def legend(ax: Any, handles: Sequence[Any], names: Sequence[Any], **options: Any) -> Any:
    """A legend with these names, also those that begin with "_", which matplotlib before 3.10 leaves out."""
    box = ax.legend(handles, [str(number) for number in range(len(handles))], **options)
    for text, name in zip(box.get_texts(), names):
        text.set_text(plain(name))
    return box
