"""Rules of the house that no value shows: no automatic differentiation inside, a light import, one way down."""

import ast
import os
import pathlib
import subprocess
import sys

import funcnet as fn

PACKAGE = pathlib.Path(fn.__file__).parent
AUTOMATIC = {
    "grad",
    "value_and_grad",
    "vjp",
    "jvp",
    "jacrev",
    "jacfwd",
    "linearize",
    "hessian",
    "linear_transpose",
    "checkpoint",
}
FLOORS = [
    ["precision", "keys", "protocols", "drawing"],
    ["spec"],
    ["arguments", "initializers", "losses", "penalties", "reduction"],
    ["contractions"],
    ["layers"],
    ["parameters", "backprop", "serialization"],
    ["custom_vjp", "per_example", "columns", "model_file"],
    ["privacy", "noise", "flow", "curvature"],
    ["kfac"],
    ["check", "train"],
    ["explain"],
    ["__init__"],
]


def modules():
    return {path.relative_to(PACKAGE): ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}


def uses_of_jax(tree):
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "jax"
    }


def test_no_automatic_differentiation_outside_the_checks():
    for path, tree in modules().items():
        names = uses_of_jax(tree)
        if path.parts[0] != "check":
            assert not names & AUTOMATIC, path
        if path.name != "custom_vjp.py":
            assert not names & {"custom_vjp", "custom_jvp"}, path
        imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert not any(module and module.startswith(("jax.interpreters", "jax._src")) for module in imported), path


def test_imports_run_one_way_down():
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    for path, tree in modules().items():
        own = path.parts[0].removesuffix(".py")
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "funcnet":
                rooms = node.module.split(".")[1:2] or [alias.name for alias in node.names]
                assert all(room == own or floor[room] <= floor[own] for room in rooms), (path, node.module)


def test_every_public_name_is_listed_and_documented():
    public = {name for name, value in vars(fn).items() if not name.startswith("_") and not isinstance(value, type(ast))}
    assert public == set(fn.__all__)
    for name in fn.__all__:
        if callable(getattr(fn, name)):
            assert getattr(fn, name).__doc__, name


def test_import_pulls_in_no_extra():
    extras = [
        "sklearn",
        "matplotlib",
        "orbax",
        "safetensors",
        "tqdm",
        "flax",
        "equinox",
        "hypothesis",
        "pytest",
        "scipy.optimize",
    ]
    code = (
        "import sys, optax; before = set(sys.modules); import funcnet; "
        f"print([name for name in {extras} if name in set(sys.modules) - before])"
    )
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert run.stdout.strip() == "[]"
