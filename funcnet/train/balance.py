"""Example weights from how often each class occurs."""

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core.protocols import ArrayLike


def class_weights(y: ArrayLike, wanted: ArrayLike | None = None) -> jax.Array:
    """A weight for every example, by its class: to be handed on as `weights`.

    Without `wanted` every class counts alike, however rare it is: w_i = m / (C · examples of class y_i),
    which sums to m (King and Zeng, 2001; scikit-learn's "balanced").

    Args:
        y: integer classes 0 … C-1, (m,) or (m, *positions).
        wanted: (C,), the weight of an example of each class; None balances the classes.

    Returns:
        Weights shaped like y.

    Raises:
        TypeError: classes that are not integers.
        ValueError: a class without an example (nothing can balance it), or one that `wanted` lacks.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> fn.class_weights(jnp.array([0, 0, 1, 1, 1, 1])).tolist()
        [1.5, 1.5, 0.75, 0.75, 0.75, 0.75]
    """
    classes = np.asarray(y)
    if not np.issubdtype(classes.dtype, np.integer):
        raise TypeError(f"class_weights: expected integer classes, got {classes.dtype}.")
    if classes.size == 0 or classes.min() < 0:
        raise ValueError(
            f"class_weights: expected classes 0 … C-1, got {'none' if classes.size == 0 else classes.min()}."
        )
    if wanted is None:
        counts = np.bincount(classes.ravel())
        if not counts.all():
            raise ValueError(
                f"class_weights: class {int(np.argmin(counts))} has no example. Number the classes 0 … C-1."
            )
        each = classes.size / (len(counts) * counts)
    else:
        each = np.asarray(wanted)
        if each.ndim != 1 or classes.max() >= len(each):
            raise ValueError(
                f"class_weights: wanted has shape {each.shape}, expected one weight for each class 0 … {classes.max()}."
            )
    return jnp.asarray(each, jnp.zeros(()).dtype)[classes]
