"""The decorator `spec`: what a network is, said in small immutable values."""

import dataclasses
import inspect
import math
import types
import typing
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar, Union, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from funcnet._core.arrays import shown
from funcnet._core.protocols import is_layer_type, missing_functions

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def spec(cls: type[T]) -> type[T]:
    """Make a class a spec: an immutable value that JAX treats as part of the program.

    A spec says *what* something is (a layer, a loss, an initialiser) and holds no arrays. Two
    specs built alike are equal, hash alike, print as the code that builds them, and are static
    under `jax.jit` without `static_argnums`, so that equal networks trace once.

    Every field is declared with a type: `int`, `float`, `bool`, `str`, `None`, another spec or
    protocol, a `tuple[...]` of these or a union of them. At construction each value is made
    exactly that type (NumPy's scalars become Python's, lists become tuples) or refused with the
    reason. `__post_init__` runs afterwards, for checks of your own.

    One exception: a field declared `jax.typing.ArrayLike` is a *leaf*, a number or array that
    may be traced and so swept under `vmap` without compiling again. Penalties keep their
    strength in one. A spec with leaves is a pytree and not static.

    Args:
        cls: a class with annotated fields. A layer is one with the four functions of
            `funcnet._core.protocols.Layer`.

    Returns:
        The same class as a frozen dataclass, registered with JAX.

    Raises:
        TypeError: a field's declared type cannot be hashed and written as JSON.

    Example:
        >>> import funcnet as fn
        >>> @fn.spec
        ... class Scale:
        ...     factor: float
        >>> Scale(2), Scale(2) == Scale(2.0)
        (Scale(2.0), True)
    """
    if not isinstance(cls, type):
        raise TypeError(f"spec: cls: expected a class, got {_shown(cls)}.")
    if is_spec_class(cls):
        raise TypeError(f"spec: cls: {cls.__name__} is a spec already. Put @fn.spec on a class of your own.")
    kinds = _declared_types(cls)
    leaves = tuple(name for name, kind in kinds.items() if kind == ArrayLike)
    check = cls.__dict__.get("__post_init__")

    def __post_init__(self: Any) -> None:
        for name, kind in kinds.items():
            object.__setattr__(self, name, _coerced(cls, _argument(added, name), getattr(self, name), kind))
        if check is not None:
            check(self)

    added: Any = cls
    added.__post_init__ = __post_init__
    if "__repr__" not in vars(cls):
        added.__repr__ = _code
    if leaves:
        added.__eq__, added.__hash__ = _equal, _hash
    made: Any = dataclasses.dataclass(frozen=True, repr=False, eq=not leaves, init="__init__" not in vars(cls))(cls)
    made._spec_of = made
    if leaves:
        _register_with_leaves(made, leaves)
    else:
        jax.tree_util.register_static(made)
    return made


def is_spec(value: object) -> bool:
    """Whether a value is an instance of a class under `spec`."""
    return is_spec_class(type(value))


def is_spec_class(cls: type) -> bool:
    """Whether a class is itself under `spec` (a subclass of such a one need not be)."""
    return cls.__dict__.get("_spec_of") is cls


def build(cls: type[T], values: dict[str, Any]) -> T:
    """A spec from the values of its fields, checked as its constructor checks them."""
    made: Any = object.__new__(cls)
    for name, value in values.items():
        object.__setattr__(made, name, value)
    made.__post_init__()
    return made


def _declared_types(cls: type) -> dict[str, Any]:
    try:
        hints = typing.get_type_hints(cls)
    except NameError as error:
        raise TypeError(
            f"{cls.__name__}: cannot read the field types ({error}). Declare them with names that "
            "are defined at the top of the module."
        ) from error
    kinds = {name: kind for name, kind in hints.items() if typing.get_origin(kind) is not typing.ClassVar}
    for name, kind in kinds.items():
        if kind != ArrayLike and not _can_be_held(kind):
            raise TypeError(
                f"{cls.__name__}.{name}: a spec cannot hold {_words(kind)}, since specs are hashed, compared "
                "and written as JSON. Use int, float, bool, str, None, another spec, or a tuple or union of these."
            )
    return kinds


def _can_be_held(kind: Any) -> bool:
    origin = typing.get_origin(kind)
    if origin in (tuple, Union, types.UnionType):
        return all(part is Ellipsis or _can_be_held(part) for part in typing.get_args(kind))
    if kind in (int, float, bool, str, type(None)):
        return True
    return isinstance(kind, type) and (is_spec_class(kind) or getattr(kind, "_is_protocol", False))


def _coerced(cls: type, name: str, value: Any, kind: Any) -> Any:
    """The value as exactly the declared type, or an error that says why not."""
    origin = typing.get_origin(kind)
    if kind == ArrayLike:
        return _leaf(cls, name, value)
    if is_layer_type(kind):
        return _layer(cls, name, value)
    if origin in (Union, types.UnionType):
        for part in typing.get_args(kind):
            try:
                return _coerced(cls, name, value, part)
            except (TypeError, ValueError):
                continue
    elif origin is tuple and isinstance(value, (tuple, list)):
        parts = typing.get_args(kind)
        parts = parts[:1] * len(value) if Ellipsis in parts else parts
        if len(parts) == len(value):
            return tuple(_coerced(cls, f"{name}[{i}]", v, p) for i, (v, p) in enumerate(zip(value, parts)))
    elif kind is bool and isinstance(value, (bool, np.bool_)):
        return bool(value)
    elif kind is int and isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    elif kind is float and isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ValueError(f"{cls.__name__}: {name} must be finite, got {value!r}.")
        return float(value)
    elif isinstance(kind, type) and isinstance(value, kind) and (kind in (str, type(None)) or is_spec(value)):
        return value
    raise TypeError(f"{cls.__name__}: {name} must be {_words(kind)}, got {_shown(value)}.{_remedy(value, kind)}")


def _layer(cls: type, name: str, value: Any) -> Any:
    lacking = missing_functions(value)
    if isinstance(value, type) or lacking or not is_spec(value):
        reason = f" {type(value).__name__} lacks {', '.join(lacking)}." if lacking and is_spec(value) else ""
        raise TypeError(f"{cls.__name__}: {name} must be a layer, got {_shown(value)}.{reason or _remedy(value)}")
    return value


def _leaf(cls: type, name: str, value: Any) -> Any:
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    is_array = isinstance(value, np.ndarray | jax.Array) and any(
        jnp.issubdtype(value.dtype, kind) for kind in (jnp.floating, jnp.integer)
    )
    if not is_number and not is_array:
        raise TypeError(f"{cls.__name__}: {name} must be a number or an array of numbers, got {_shown(value)}.")
    return float(value) if isinstance(value, int) else value


def _remedy(value: Any, kind: Any = None) -> str:
    for part in typing.get_args(kind) if typing.get_origin(kind) in (Union, types.UnionType) else (kind,):
        item, *rest = typing.get_args(part) or (None,)
        one = value[0] if isinstance(value, tuple) and value else value
        if rest == [Ellipsis] and isinstance(one, int) and not isinstance(one, bool):
            if typing.get_origin(item) is tuple:
                return f" Write (({one}, {one}), ({one}, {one})) for two axes."
            return f" Write ({one},) for one axis, ({one}, {one}) for two."
    if isinstance(value, type):
        return f" Write {value.__name__}(...): an instance, not the class."
    if isinstance(value, (np.ndarray, jax.Array)):
        return " A spec is hashed and compared, which arrays cannot be: use a plain number here, arrays in params."
    if isinstance(value, Callable):  # type: ignore[arg-type]
        return " A function cannot be compared or written as JSON: write a class under @fn.spec."
    if not is_spec(value) and (dataclasses.is_dataclass(value) or hasattr(value, "forward")):
        return f" Put @fn.spec on the class {type(value).__name__}."
    return ""


def _shown(value: Any) -> str:
    text = shown(value) if isinstance(value, np.ndarray | jax.Array) else " ".join(repr(value).split())
    return f"{text if len(text) < 60 else text[:57] + '...'} ({type(value).__name__})"


def _words(kind: Any) -> str:
    origin = typing.get_origin(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(part) for part in typing.get_args(kind))
    if origin is tuple:
        return str(kind)
    article = {"int": "an int", "NoneType": "None"}
    name = getattr(kind, "__name__", str(kind))
    return article.get(name, f"an {name}" if name[:1] in "AEIOUaeiou" else f"a {name}")


def constructor(cls: Any) -> dict[str, inspect.Parameter]:
    """The constructor's argument for each field, in whose order they stand."""
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    return {field.name: parameter for field, parameter in zip(dataclasses.fields(cls), parameters, strict=True)}


@lru_cache(maxsize=1024)
def _argument(cls: Any, field: str) -> str:
    """The name of the constructor's argument for a field."""
    names = [field.name for field in dataclasses.fields(cls)]
    arguments = list(inspect.signature(cls.__init__).parameters)[1:]
    return arguments[names.index(field)] if len(arguments) == len(names) else field


def _code(self: Any) -> str:
    """The call that builds this spec."""
    parameters = constructor(type(self))
    written = []
    for name, parameter in parameters.items():
        value = getattr(self, name)
        if parameter.kind is parameter.VAR_POSITIONAL:
            written += [repr(item) for item in value]
        elif parameter.default is parameter.empty or len(parameters) == 1:
            written += [_shown_value(value)] if not _same(value, parameter.default) else []
        elif not _same(value, parameter.default):
            written.append(f"{parameter.name}={_shown_value(value)}")
    return f"{type(self).__name__}({', '.join(written)})"


def _same(value: Any, default: Any) -> bool:
    return not isinstance(value, (np.ndarray, jax.Array)) and bool(value == default)


def _shown_value(value: Any) -> str:
    """A leaf that is one concrete number prints as that number."""
    is_number = isinstance(value, (np.generic, np.ndarray, jax.Array)) and not isinstance(value, jax.core.Tracer)
    return repr(float(value)) if is_number and np.shape(value) == () else repr(value)


def _equal(self: Any, other: Any) -> bool:
    """Equality where fields may be arrays."""
    if type(self) is not type(other):
        return False
    return all(np.array_equal(getattr(self, f.name), getattr(other, f.name)) for f in dataclasses.fields(self))


def _hash(self: Any) -> int:
    return hash((type(self), *(_shown_value(getattr(self, field.name)) for field in dataclasses.fields(self))))


def _register_with_leaves(cls: type, leaves: tuple[str, ...]) -> None:
    rest = tuple(field.name for field in dataclasses.fields(cls) if field.name not in leaves)

    def flatten(self: Any) -> tuple[list[Any], tuple[Any, ...]]:
        named = [(jax.tree_util.GetAttrKey(name), getattr(self, name)) for name in leaves]
        return named, tuple(getattr(self, name) for name in rest)

    def unflatten(static: tuple[Any, ...], values: Any) -> Any:
        made: Any = object.__new__(cls)
        for name, value in (*zip(leaves, values), *zip(rest, static)):
            object.__setattr__(made, name, value)
        return made

    jax.tree_util.register_pytree_with_keys(cls, flatten, unflatten)
