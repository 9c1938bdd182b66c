"""A training's progress as arrays under names, for the disk, and back."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet.train.loop import Progress
from funcnet.train.progress import reached


def arrays_of(progress: Progress) -> dict[str, np.ndarray]:
    """The arrays of a progress by their place. Orbax takes no empty ones; columns end at the last epoch."""
    done, room = reached(progress), max(progress.columns["cost"].shape[-1], 1)
    columns = {name: column[..., :done] for name, column in progress.columns.items()}
    telemetry = {name: row[..., : done * (row.shape[-1] // room)] for name, row in progress.telemetry.items()}
    cut = progress._replace(columns=columns, telemetry=telemetry)
    named = jax.tree_util.tree_leaves_with_path(cut)
    arrays = {jax.tree_util.keystr(path): np.asarray(_plain(leaf)) for path, leaf in named}
    return {name: array for name, array in arrays.items() if array.size}


def restored(start: Progress, arrays: dict[str, np.ndarray], epoch: int) -> Progress:
    """The saved progress, in the structure of the one that a training starts with."""
    room = min((column.shape[-1] for column in start.columns.values()), default=epoch)
    if epoch > room:
        raise ValueError(f"checkpoint: {epoch} epochs are saved, more than epochs={room}. Ask for {epoch} or more.")

    def fill(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        saved = arrays.get(jax.tree_util.keystr(path))
        if saved is None:  # an empty array
            return leaf
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(jnp.asarray(saved), impl=jax.random.key_impl(leaf))
        if saved.shape == leaf.shape:
            return jnp.asarray(saved)
        return leaf.at[..., : saved.shape[-1]].set(saved)  # a column, or telemetry

    return jax.tree_util.tree_map_with_path(fill, start)


def _plain(leaf: jax.Array) -> jax.Array:
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
