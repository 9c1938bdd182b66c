"""Specs as JSON and back. Reading looks names up; it never imports or runs anything."""

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from funcnet._core.specs import build, constructor, is_spec, is_spec_class

_KNOWN: dict[str, type] = {}


def know(values: Iterable[Any]) -> None:
    """Remember funcnet's public specs, so that JSON may name them."""
    _KNOWN.update({value.__name__: value for value in values if isinstance(value, type) and is_spec_class(value)})


def to_json(value: Any) -> str:
    """A spec as JSON: `{"Dense": {"n_in": 2, …}}`, every field written, defaults too, but not a name left empty.

    Args:
        value: a spec: a network, a loss, a penalty (of concrete strength), an initialiser.

    Returns:
        The text.

    Raises:
        TypeError: `value` is not a spec, or a strength is traced or not a single number.
        ValueError: a class of yours that bears the name of another, so that the text would be read as that.

    Example:
        >>> import funcnet as fn
        >>> fn.to_json(fn.Chain(fn.Dropout(0.5), fn.Tanh()))
        '{"Chain": {"layers": [{"Dropout": {"rate": 0.5}}, {"Tanh": {}}]}}'
    """
    if not is_spec(value):
        raise TypeError(f"to_json: expected a spec, got {value!r}. Its class needs @fn.spec.")
    _check_names(value, dict(_KNOWN))
    return json.dumps(_plain(value))


def from_json(text: str, layers: Iterable[type] = ()) -> Any:
    """The spec that `to_json` wrote.

    Args:
        text: what `to_json` gave.
        layers: spec classes of your own that the text may name, beside funcnet's.

    Returns:
        A spec equal to the one written. A field with a default that the text does not name takes the default.

    Raises:
        ValueError: text that is not such JSON, a name that is neither funcnet's nor handed in,
            missing or unknown fields, two classes of one name.
        TypeError: a field of a wrong type; a class that is not a spec.

    Example:
        >>> import funcnet as fn
        >>> fn.from_json('{"Dropout": {"rate": 0.5}}')
        Dropout(0.5)
    """
    known = dict(_KNOWN)
    for cls in layers:
        if not isinstance(cls, type) or not is_spec_class(cls):
            raise TypeError(f"from_json: layers holds {cls!r}, expected a class under @fn.spec.")
        if known.setdefault(cls.__name__, cls) is not cls:
            raise ValueError(f"from_json: two classes are called {cls.__name__}. Rename one.")
    try:
        tree = json.loads(text, object_pairs_hook=distinct_keys)
    except _Twice as error:
        raise ValueError(f"from_json: {error}") from None
    except (json.JSONDecodeError, TypeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"from_json: not JSON ({error}). Expected what fn.to_json gave.") from None
    if not isinstance(tree, dict):
        raise ValueError(f'from_json: expected a spec such as {{"Tanh": {{}}}}, got {text[:60]!r}.')
    try:
        return _built(tree, known)
    except RecursionError:
        raise ValueError("from_json: nested too deeply for a network.") from None


class _Twice(ValueError):
    """A key that stands twice."""


def distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The dict of a JSON object, if no key stands twice: of two values one would be lost."""
    tree = dict(pairs)
    if len(tree) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(f"{next(name for name in names if names.count(name) > 1)!r} stands twice in one object.")
    return tree


def _check_names(value: Any, known: dict[str, type]) -> None:
    """Refuse two classes of one name."""
    if isinstance(value, tuple):
        for part in value:
            _check_names(part, known)
    elif is_spec(value):
        cls = type(value)
        if known.setdefault(cls.__name__, cls) is not cls:
            other = "funcnet's" if known[cls.__name__].__module__.startswith("funcnet.") else "another of yours"
            raise ValueError(f"to_json: a class of yours has the name of {other}, {cls.__name__}. Rename it.")
        for field in dataclasses.fields(value):
            _check_names(getattr(value, field.name), known)


def _plain(value: Any) -> Any:
    if is_spec(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        left_out = {field.name for field in dataclasses.fields(value) if field.default == "" == fields[field.name]}
        return {type(value).__name__: {name: _plain(part) for name, part in fields.items() if name not in left_out}}
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if isinstance(value, (np.generic, np.ndarray, jax.Array)):
        if isinstance(value, jax.core.Tracer) or value.shape != ():
            raise TypeError(f"to_json: a strength must be one concrete number to be written, got {value}.")
        return float(value)
    return value


def _built(tree: Any, known: dict[str, type]) -> Any:
    if isinstance(tree, list):
        return tuple(_built(part, known) for part in tree)
    if not isinstance(tree, dict):
        return tree
    if len(tree) != 1 or not isinstance(fields := next(iter(tree.values())), dict):
        raise ValueError(f"from_json: expected {{name: {{fields}}}} for every spec, got {str(tree)[:60]}.")
    name = next(iter(tree))
    if name not in known:
        raise ValueError(f"from_json: unknown name {name!r}. If it is a class of yours, hand it in: layers=({name},).")
    parameters = constructor(known[name])
    needed = {field for field, parameter in parameters.items() if parameter.default is parameter.empty}
    if not needed <= set(fields) <= set(parameters):
        raise ValueError(f"from_json: {name} has the fields {sorted(parameters)}, got {sorted(fields)}.")
    values = {key: _built(part, known) for key, part in fields.items()}
    if len(values) == len(parameters):
        return build(known[name], values)
    several = [key for key in values if parameters[key].kind is parameters[key].VAR_POSITIONAL]
    by_name = {parameters[key].name: value for key, value in values.items() if key not in several}
    return known[name](*(item for key in several for item in values[key]), **by_name)
