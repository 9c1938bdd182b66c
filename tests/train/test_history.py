"""A history is a dict of its columns, of the epochs that took place, which is not changed."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import funcnet as fn

pytestmark = pytest.mark.fast
COLUMNS = {"validation_cost": [3.0, 2.0, 7.0], "accuracy": [0.5, 0.25, 9.0]}  # two of the epochs took place
TOOK_PLACE = {"validation_cost": [3.0, 2.0], "accuracy": [0.5, 0.25]}
READ = {
    "dict": dict,
    "items": lambda history: dict(history.items()),
    "keys and values": lambda history: dict(zip(history.keys(), history.values())),
    "iteration": lambda history: {name: history[name] for name in history},
    "get": lambda history: {name: history.get(name) for name in history},
    "unpacked": lambda history: {**history},
    "as keywords": lambda history: (lambda **columns: columns)(**history),
    "copy": lambda history: history.copy(),
    "joined": lambda history: history | {},
    "joined to another": lambda history: {} | history,
    "pandas": lambda history: pd.DataFrame(history).to_dict("list"),
    "pandas of a dict": lambda history: pd.DataFrame(dict(history)).to_dict("list"),
    "pandas by name": lambda history: pd.DataFrame(history, columns=list(history)).to_dict("list"),
    "pickle": lambda history: dict(pickle.loads(pickle.dumps(history))),
    "deep copy": lambda history: dict(copy.deepcopy(history)),
    "a tree": lambda history: dict(jax.tree.map(lambda leaf: leaf, history)),
    "out of jit": lambda history: dict(jax.jit(lambda history: history)(history)),
}
CHANGES = {
    "an item": lambda history: history.__setitem__("cost", 1),
    "removed": lambda history: history.pop("accuracy"),
    "update": lambda history: history.update(cost=1),
    "joined in place": lambda history: history.__ior__({"cost": 1}),
}


def record():
    return fn.History(tuple(COLUMNS), {name: jnp.array(column) for name, column in COLUMNS.items()}, jnp.array(2), 0)


@pytest.mark.parametrize("way", READ)
def test_every_way_to_read_gives_the_columns_in_order(way):
    found = READ[way](record())
    assert list(found) == list(COLUMNS)
    assert {name: np.asarray(column).tolist() for name, column in found.items()} == TOOK_PLACE


def test_it_has_as_many_items_as_columns():
    history = record()
    assert len(history) == len(history.keys()) == 2
    assert "accuracy" in history
    assert "cost" not in history
    assert history.get("cost") is None
    assert isinstance(copy.copy(history), fn.History)


@pytest.mark.parametrize("change", CHANGES)
def test_it_is_not_changed(change):
    history = record()
    with pytest.raises(TypeError, match=r"history: it is a record, which is not changed. dict\(history\)"):
        CHANGES[change](history)
    assert list(history) == list(history.keys()) == list(COLUMNS)


def test_names_are_known_where_values_are_traced():
    seen = []
    jax.jit(lambda history: seen.append((list(history), len(history), "accuracy" in history)))(record())
    assert seen == [(list(COLUMNS), 2, True)]
