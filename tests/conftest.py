"""Strict JAX for every test: no silent promotion of types or ranks, and float64 unless a test says otherwise."""

import itertools

import hypothesis
import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=30)
hypothesis.settings.load_profile("repeatable")

TESTS = itertools.count(1)


@pytest.fixture(autouse=True)
def _room_for_programs():
    """Compiled programs map memory, and where a process may not do that any more XLA crashes (Linux: 65,530 times)."""
    yield
    if next(TESTS) % 200 == 0:
        jax.clear_caches()
