"""A training's progress as arrays under names, for the disk, and back."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet.train.loop import Progress
from funcnet.train.progress import reached

COLUMNS, TELEMETRY = ".columns[", ".telemetry["  # how their paths begin


def arrays_of(progress: Progress) -> dict[str, np.ndarray]:
    """The arrays of a progress by their place. Orbax takes no empty ones."""
    named = jax.tree_util.tree_leaves_with_path(progress)
    arrays = {jax.tree_util.keystr(path): np.asarray(_plain(leaf)) for path, leaf in named}
    return {name: array for name, array in arrays.items() if array.size}


def restored(
    start: Progress, arrays: dict[str, np.ndarray], epoch: int, looks: int = 0, same_telemetry: bool = True
) -> Progress:
    """The saved progress, in the structure of the one that a training starts with. What does not fit is refused.

    Its table holds the epochs that are saved. Telemetry that was taken at other steps is NaN there.
    """
    if not same_telemetry:
        arrays = {name: array for name, array in arrays.items() if not name.startswith(TELEMETRY)}

    def fill(path: tuple[Any, ...], leaf: jax.Array) -> Any:
        name = jax.tree_util.keystr(path)
        plain, saved = _plain(leaf), arrays.pop(name, None)
        width = epoch if name.startswith(COLUMNS) else epoch * looks if name.startswith(TELEMETRY) else None
        shape = plain.shape if width is None else (*plain.shape[:-1], width)
        if name.startswith(TELEMETRY) and not same_telemetry:
            return np.full(shape, np.nan, plain.dtype)
        if saved is None and not math.prod(shape):  # there are no empty arrays on the disk
            return np.zeros(shape, plain.dtype)
        if saved is None or saved.shape != shape or saved.dtype != plain.dtype:
            shown = "nothing" if saved is None else f"{saved.dtype}{list(saved.shape)}"
            raise ValueError(_misfit(epoch, f"{name} is {shown}, expected {plain.dtype}{list(shape)}"))
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(jnp.asarray(saved), impl=jax.random.key_impl(leaf))
        return jnp.asarray(saved)

    arrays = dict(arrays)
    progress = jax.tree_util.tree_map_with_path(fill, start)
    if any(not name.startswith(TELEMETRY) or not np.isnan(array).all() for name, array in arrays.items()):
        raise ValueError(_misfit(epoch, f"there is no place for {', '.join(sorted(arrays))}"))
    if reached(progress) != epoch:
        raise ValueError(_misfit(epoch, f"it holds {reached(progress)} epochs"))
    return progress


def _misfit(epoch: int, what: str) -> str:
    return (
        f"checkpoint: what is saved as epoch {epoch} does not fit this training: {what}. Move its folder away, or "
        "start anew with Checkpoint(…, overwrite=True)."
    )


def _plain(leaf: jax.Array) -> jax.Array:
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
