"""The stories and the README run as a reader would run them, without a warning, and print the right numbers."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent


def run(*arguments, cwd=ROOT):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stderr, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("01_one_neuron", ["0.731058578630", "-0.393223866", "-0.589835800"]),
        ("02_two_by_two", ["0.291027773694", "0.291027923905", "0.015913620"]),
        ("03_test_scores", ["0.0012261835", "-0.0031301288"]),
        ("04_symmetry", ["two of the equal units: 0e+00"]),
        ("05_your_own_layer", ["all right", "NOT right"]),
        ("09_chains", ["0.000438567734", "unshared=52, distinct=18", "sum of the other 58", "0.29102777"]),
    ],
)
def test_story(name, numbers):
    printed = run(ROOT / "examples" / f"{name}.py")
    for number in numbers:
        assert number in printed, printed


def test_digits_are_learned(tmp_path):
    printed = run(ROOT / "examples" / "digits.py", "--picture", tmp_path / "curve.png")
    assert float(re.search(r"Test accuracy ([\d.]+)%", printed)[1]) >= 97
    assert (tmp_path / "curve.png").stat().st_size > 10_000
    assert "all right" in printed


def test_digits_explains_its_options():
    printed = run(ROOT / "examples" / "digits.py", "--help")
    for option in ("--hidden", "--epochs", "--seed", "--picture"):
        assert option in printed


def test_readme(tmp_path):
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    script = tmp_path / "readme.py"
    script.write_text(code)
    assert "all right" in run(script, cwd=tmp_path)
