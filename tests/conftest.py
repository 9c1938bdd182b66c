"""Strict JAX for every test: no silent promotion of types or ranks, and float64 unless a test says otherwise.

Most of the suite's time is XLA compiling small programs. They are compiled with few optimisations, which takes a
quarter of the time; `XLA_FLAGS= pytest` compiles them as users do, and the gate runs the fast tests that way once. And
they are kept in `.jax_cache` of the checkout, which git ignores, so that a second run, the other workers and what tests
start as subprocesses read them; remove it freely.
"""

import gc
import itertools
import os
import pathlib
import subprocess
import sys
import zlib


def processor():
    """A number for this processor: programs are made for one, and a checkout may move to another."""
    about = pathlib.Path("/proc/cpuinfo")
    text = about.read_text() if about.exists() else ""
    features = [line for line in text.splitlines() if line.startswith(("flags", "Features"))]
    return zlib.crc32(features[0].encode()) if features else 0


CACHE = pathlib.Path(__file__).resolve().parent.parent / ".jax_cache" / f"{processor():08x}"
FLOORS = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
for name, value in {"JAX_COMPILATION_CACHE_DIR": str(CACHE), **FLOORS}.items():
    os.environ.setdefault(name, value)  # before JAX is imported, and for what tests start as subprocesses
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA has a long line for many a program that it reads
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")  # lowering without the lines of Python: 10 % quicker

LEAST = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
QUICK = f"{LEAST} --xla_cpu_use_fusion_emitters=false"


def are_known(flags):
    """Whether this version of XLA has them: one that it does not know ends the process."""
    command = [sys.executable, "-c", "import jax; jax.devices('cpu')"]
    return not subprocess.run(command, env={**os.environ, "XLA_FLAGS": flags}, capture_output=True).returncode


if "XLA_FLAGS" not in os.environ:  # the workers are told by the first process
    os.environ["XLA_FLAGS"] = next((flags for flags in (QUICK, LEAST) if are_known(flags)), "")

import hypothesis
import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

gc.set_threshold(200_000, 50, 50)  # tracing makes many small objects, nearly all of which reference counts free

hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=30)
hypothesis.settings.load_profile("repeatable")

TESTS, MAPS = itertools.count(1), pathlib.Path("/proc/self/maps")
MOST_MAPS = 15_000  # Linux allows a process 65,530; where it may not map memory any more XLA crashes


@pytest.fixture(autouse=True)
def _room_for_programs():
    """Compiled programs are kept from test to test until the memory that they map becomes too much."""
    yield
    if next(TESTS) % 20 == 0 and (not MAPS.exists() or MAPS.read_bytes().count(b"\n") > MOST_MAPS):
        jax.clear_caches()
