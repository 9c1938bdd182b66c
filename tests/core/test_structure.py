"""Rules of the house that no value shows: no automatic differentiation inside, a light import, one way down."""

import ast
import os
import pathlib
import re
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
    ["_core"],
    ["initializers", "losses", "penalties"],
    ["layers"],
    ["parameters", "propagation"],
    ["per_example", "curvature", "interop", "io", "generation"],
    ["check", "train"],
    ["derivations", "diagnosis", "plots", "sklearn"],
    ["page"],
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
        if path.name != "interop.py":
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


def test_every_public_name_is_listed_once_and_documented():
    public = {name for name, value in vars(fn).items() if not name.startswith("_") and not isinstance(value, type(ast))}
    assert public == set(fn.__all__)
    assert len(fn.__all__) == len(set(fn.__all__))
    for name in fn.__all__:
        if callable(getattr(fn, name)):
            assert getattr(fn, name).__doc__, name


def test_the_packages_docstring_names_every_public_name_once():
    assert sorted(re.findall(r"`(\w+)`", fn.__doc__)) == sorted(fn.__all__)


def test_dir_shows_the_public_names_and_little_else():
    assert set(fn.__all__) <= set(dir(fn))
    assert set(dir(fn)) - set(fn.__all__) == {"__version__"}
    pyproject = PACKAGE.parent / "pyproject.toml"
    if pyproject.exists():
        assert f'version = "{fn.__version__}"' in pyproject.read_text()


def test_no_file_and_no_room_bears_a_public_name():
    names = {name for path in modules() for name in (*path.parts[:-1], path.stem)}
    assert not names & set(fn.__all__)


def test_one_place_says_where_a_layer_begins_and_none_asks_for_a_layers_class():
    for path, tree in modules().items():
        text = (PACKAGE / path).read_text()
        if path.name != "walkers.py":
            assert "isinstance(part, dict)" not in text, path
        if path.parts[0] in ("layers", "check"):
            continue
        asked = {
            name.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance"
            for name in ast.walk(node.args[1])
            if isinstance(name, ast.Name)
        }
        assert not asked & {"Dense", "LayerNorm", "Residual", "Dropout"}, path


def test_what_goes_around_xla_stands_in_one_file():
    for path, tree in modules().items():
        if path.name != "workarounds.py":
            names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
            assert "optimization_barrier" not in names, path


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
        "pandas",
        "IPython",
        "scipy.optimize",
    ]
    code = (
        "import sys, optax; before = set(sys.modules); import funcnet; "
        f"print([name for name in {extras} if name in set(sys.modules) - before])"
    )
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert run.stdout.strip() == "[]"
