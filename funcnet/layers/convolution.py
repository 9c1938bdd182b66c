"""`Conv` and `ConvTranspose`: weighted sums over a window that slides over the positions, and the transpose of that."""

import math
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from funcnet._core.arguments import check_features
from funcnet._core.convolutions import (
    convolved,
    kernel_gradient,
    kernel_gradients,
    one_after_the_other,
    sides_of_transpose,
    spread,
    swapped,
)
from funcnet._core.numerics import total
from funcnet._core.protocols import Initializer
from funcnet._core.sliding import (
    Padding,
    PerAxis,
    Sliding,
    check_positions,
    check_window,
    in_short,
    per_axis,
    slide,
    views,
    words,
)
from funcnet._core.specs import spec
from funcnet.initializers import HeNormal

Form: TypeAlias = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array, bool]]
MOST_GROUPS = 8  # as a product: each is a position of its own, which takes so many times the memory
_FIELDS = ("n_in", "n_out", "kernel_size", "stride", "padding", "dilation", "groups", "bias", "initializer")


@spec
class Conv:
    """z[p, k] = b_k + Σ_oc x[stride p + dilation o - before, c] w[o, c, k]: a convolution of images, signals, volumes.

    Cross-correlation, as everywhere in this field: the kernel is not flipped. Parameters: `{"w": (*kernel_size,
    n_in/groups, n_out), "b": (n_out,)}`. x is (m, *positions, n_in), with as many axes of positions as the kernel has.

    The tape is the input: ∂J/∂w[o, c, k] = Σ_ip x_i[stride p + dilation o - before, c] δ_i[p, k] needs no more, and
    ∂J/∂x, the transposed convolution of δ with w, no more than the input's shape.

    Args:
        n_in: number of features (channels) that come in.
        n_out: number of features that go out.
        kernel_size: entries of the kernel on each axis of positions, such as (3, 3); 1, 2 or 3 axes.
        stride: how far the kernel moves, one number or one for each axis.
        padding: "SAME" (⌈size / stride⌉ positions come out), "VALID" (none is added), or ((before, after), …).
        dilation: how far apart the kernel's entries lie, one number or one for each axis.
        groups: into how many parts the features are cut, each of which sees its own alone; n_in: "depthwise".
        bias: whether there is a b.
        init: how w starts; b starts at 0.

    Raises:
        ValueError: sizes that do not fit together; at `forward`, inputs with other features or axes of positions, or
            smaller than the kernel.

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp
        >>> layer = fn.Conv(1, 8, (3, 3), stride=2)
        >>> z, tape = layer.forward(layer.init(jax.random.key(0)), jnp.ones((5, 28, 28, 1)))
        >>> z.shape
        (5, 14, 14, 8)
    """

    n_in: int
    n_out: int
    kernel_size: tuple[int, ...]
    stride: PerAxis
    padding: Padding
    dilation: PerAxis
    groups: int
    bias: bool
    initializer: Initializer
    slow_under_vmap: ClassVar[bool] = True

    def __init__(
        self,
        n_in: int,
        n_out: int,
        kernel_size: tuple[int, ...],
        stride: PerAxis = 1,
        padding: Padding = "SAME",
        dilation: PerAxis = 1,
        groups: int = 1,
        bias: bool = True,
        init: Initializer = HeNormal(),
    ) -> None:
        values = (n_in, n_out, kernel_size, stride, padding, dilation, groups, bias, init)
        for name, value in zip(_FIELDS, values, strict=True):
            object.__setattr__(self, name, value)
        self.__post_init__()

    def __post_init__(self) -> None:
        _check(self)

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        return _init(self, key)

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        check_positions(self, x.shape, len(self.kernel_size), self.n_in)
        check_features(self, x, params["w"], self.n_in)
        z = convolved(x, params["w"], self._window(x), self.groups)
        return _with_bias(self, params, z), x

    def backward(self, params: Any, tape: jax.Array, delta: jax.Array) -> tuple[jax.Array, jax.Array]:
        return spread(delta, params["w"], self._window(tape), self.groups), delta

    def gradient(self, tape: jax.Array, deltas: jax.Array) -> dict[str, jax.Array]:
        return _with_bias_gradient(self, kernel_gradient(tape, deltas, self._window(tape), self.groups), deltas)

    def example_gradients(self, tape: jax.Array, deltas: jax.Array) -> dict[str, jax.Array] | None:
        window = self._window(tape)
        if not one_after_the_other(window, self.groups):
            return None
        return _with_bias_gradient(self, kernel_gradients(tape, deltas, window), deltas, first=1)

    @property
    def as_dense(self) -> Form | None:
        """A `Dense` over patches (Grosse & Martens, 2016), `_over_patches`; None for more than 8 groups."""
        return self._over_patches if self.groups <= MOST_GROUPS else None

    def _over_patches(self, tape: jax.Array, deltas: jax.Array) -> tuple[jax.Array, jax.Array, bool]:
        return *_dense_form(list(views(self._window(tape), tape)), deltas, self.groups), self.bias

    def _window(self, x: jax.Array) -> Sliding:
        return slide(self, x.shape[1:-1], self.kernel_size, *_steps(self), self.padding)


@spec
class ConvTranspose:
    """z[stride p + dilation o - before, k] = b_k + Σ_c x[p, c] w[o, c, k]: the transpose of a `Conv`, to go up in size.

    As a map it is the adjoint of `Conv(n_out, n_in, …)` with the same kernel, whose last two axes change places.
    Parameters: `{"w": (*kernel_size, n_in/groups, n_out), "b": (n_out,)}`. The tape is the input: ∂J/∂x is the
    convolution of δ, and ∂J/∂w[o, c, k] = Σ_ip x_i[p, c] δ_i[stride p + dilation o - before, k].

    Args:
        n_in, n_out, kernel_size, dilation, groups, bias, init: as for `Conv`.
        stride: how far apart the inputs lie in the output.
        padding: "SAME" (size · stride positions come out), "VALID" ((size - 1) · stride and the kernel's extent), or
            ((before, after), …), which is cut off of that.

    Raises:
        ValueError: as for `Conv`.

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp
        >>> layer = fn.ConvTranspose(8, 1, (3, 3), stride=2)
        >>> z, tape = layer.forward(layer.init(jax.random.key(0)), jnp.ones((5, 14, 14, 8)))
        >>> z.shape
        (5, 28, 28, 1)
    """

    n_in: int
    n_out: int
    kernel_size: tuple[int, ...]
    stride: PerAxis
    padding: Padding
    dilation: PerAxis
    groups: int
    bias: bool
    initializer: Initializer
    slow_under_vmap: ClassVar[bool] = True

    def __init__(
        self,
        n_in: int,
        n_out: int,
        kernel_size: tuple[int, ...],
        stride: PerAxis = 1,
        padding: Padding = "SAME",
        dilation: PerAxis = 1,
        groups: int = 1,
        bias: bool = True,
        init: Initializer = HeNormal(),
    ) -> None:
        values = (n_in, n_out, kernel_size, stride, padding, dilation, groups, bias, init)
        for name, value in zip(_FIELDS, values, strict=True):
            object.__setattr__(self, name, value)
        self.__post_init__()

    def __post_init__(self) -> None:
        _check(self)

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        return _init(self, key)

    def forward(self, params: Any, x: jax.Array, key: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        check_positions(self, x.shape, len(self.kernel_size), self.n_in)
        check_features(self, x, params["w"], self.n_in)
        z = spread(x, swapped(params["w"], self.groups), self._window(x), self.groups)
        return _with_bias(self, params, z), x

    def backward(self, params: Any, tape: jax.Array, delta: jax.Array) -> tuple[jax.Array, jax.Array]:
        return convolved(delta, swapped(params["w"], self.groups), self._window(tape), self.groups), delta

    def gradient(self, tape: jax.Array, deltas: jax.Array) -> dict[str, jax.Array]:
        w = swapped(kernel_gradient(deltas, tape, self._window(tape), self.groups), self.groups)
        return _with_bias_gradient(self, w, deltas)

    def example_gradients(self, tape: jax.Array, deltas: jax.Array) -> dict[str, jax.Array] | None:
        window = self._window(tape)
        if not one_after_the_other(window, self.groups):
            return None
        return _with_bias_gradient(self, swapped(kernel_gradients(deltas, tape, window)), deltas, first=1)

    @property
    def as_dense(self) -> Form | None:
        """A `Dense` over patches of the inputs, put apart by the stride: the flipped kernel slides over them."""
        return self._over_patches if self.groups <= MOST_GROUPS else None

    def _over_patches(self, tape: jax.Array, deltas: jax.Array) -> tuple[jax.Array, jax.Array, bool]:
        window = self._window(tape)
        sides = sides_of_transpose(window)
        gaps = [(0, 0, 0), *((before, after, s - 1) for (before, after), s in zip(sides, window.stride)), (0, 0, 0)]
        apart = lax.pad(tape, jnp.zeros((), tape.dtype), gaps)
        ones, none = (1,) * len(sides), ((0, 0),) * len(sides)
        over = Sliding(window.kernel, ones, window.dilation, none, apart.shape[1:-1])
        return *_dense_form(list(views(over, apart))[::-1], deltas, self.groups), self.bias

    def _window(self, x: jax.Array) -> Sliding:
        """The window of the convolution from the output to the input."""
        positions, (stride, dilation) = x.shape[1:-1], _steps(self)
        if self.padding == "SAME":
            inner = tuple(n * s for n, s in zip(positions, stride))
        else:
            cut = [0] * len(positions) if isinstance(self.padding, str) else map(sum, self.padding)
            spans = zip(positions, stride, dilation, self.kernel_size, cut)
            inner = tuple((n - 1) * s + (k - 1) * d + 1 - c for n, s, d, k, c in spans)
        if min(inner) < 1:
            raise ValueError(
                f"{self}: nothing comes of {words(positions)} positions. Use less padding, or larger inputs."
            )
        return slide(self, inner, self.kernel_size, stride, dilation, self.padding)


# ------------------------------------------------------------------ what both layers share
def _dense_form(seen: list[jax.Array], deltas: jax.Array, groups: int) -> tuple[jax.Array, jax.Array]:
    """Patches (m, T groups, kernel · n_in/groups) and error signals (m, T groups, n_out), from what each entry sees.

    Each group has a position of its own, with its inputs and its error signals alone: the others' are 0 there.
    """
    patches = jnp.stack([_parts(view, groups) for view in seen], axis=3)  # (m, T, groups, entries, n_in/groups)
    own = jnp.eye(groups, dtype=deltas.dtype)[None, None, ..., None]
    signals = _parts(deltas, groups)[:, :, None] * own  # (m, T, groups, groups, n_out/groups)
    rows = len(deltas), patches.shape[1] * groups
    return patches.reshape(*rows, math.prod(patches.shape[3:])), signals.reshape(*rows, deltas.shape[-1])


def _parts(values: jax.Array, groups: int) -> jax.Array:
    """(m, *positions, n) as (m, T, groups, n/groups)."""
    return values.reshape(len(values), math.prod(values.shape[1:-1]), groups, values.shape[-1] // groups)


def _check(layer: Conv | ConvTranspose) -> None:
    if min(layer.n_in, layer.n_out, layer.groups) < 1:
        raise ValueError(f"{layer}: sizes must be 1 or more.")
    if layer.n_in % layer.groups or layer.n_out % layer.groups:
        raise ValueError(f"{layer}: groups must divide n_in and n_out.")
    axes = len(layer.kernel_size)
    sizes = {name: per_axis(getattr(layer, name), axes) for name in ("stride", "dilation")}
    check_window(layer, "kernel_size", layer.kernel_size, layer.padding, **sizes)
    for name, values in sizes.items():
        object.__setattr__(layer, name, in_short(values))


def _init(layer: Conv | ConvTranspose, key: jax.Array) -> dict[str, jax.Array]:
    dtype = jnp.zeros(()).dtype
    params = {"w": layer.initializer(key, (*layer.kernel_size, layer.n_in // layer.groups, layer.n_out), dtype)}
    return params | {"b": jnp.zeros(layer.n_out, dtype)} if layer.bias else params


def _steps(layer: Conv | ConvTranspose) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Stride and dilation for each axis."""
    axes = len(layer.kernel_size)
    return per_axis(layer.stride, axes), per_axis(layer.dilation, axes)


def _with_bias(layer: Conv | ConvTranspose, params: Any, z: jax.Array) -> jax.Array:
    return z + lax.broadcast(params["b"], z.shape[:-1]) if layer.bias else z


def _with_bias_gradient(layer: Conv | ConvTranspose, w: jax.Array, deltas: jax.Array, first: int = 0) -> dict[str, Any]:
    """The gradient with that of b: Σ of the deltas over all axes from `first` on but the features."""
    return {"w": w, "b": total(deltas, tuple(range(first, deltas.ndim - 1)))} if layer.bias else {"w": w}
