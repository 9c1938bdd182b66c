"""The stories and the README run as a reader would run them, without a warning, and print the right numbers."""

import ast
import gzip
import importlib.util
import re
import struct

import numpy as np
import pytest
from scripts import ROOT, run, started

import funcnet as fn

EXAMPLES = sorted((ROOT / "examples").rglob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_what_an_example_takes_from_funcnet_is_there(path):
    """Quick, beside the stories that run: it compiles, and every `fn.name` that it uses is a public name."""
    tree = ast.parse(path.read_text(), path)
    compile(tree, path, "exec")
    taken = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)]
    missing = {node.attr for node in taken if node.value.id == "fn" and node.attr not in fn.__all__}
    assert not missing - {"sklearn"}


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("01_one_neuron", ["0.731058578630", "-0.393223866", "-0.589835800"]),
        ("02_two_by_two", ["0.291027773694", "0.291027923905", "0.015913620"]),
        ("03_test_scores", ["0.0012261835", "-0.0031301288"]),
        ("04_symmetry", ["\n 2000              1 "]),
        ("05_your_own_layer", ["all right", "NOT right"]),
        (
            "09_chains",
            [
                "0.000438567734",
                "unshared=52, distinct=18",
                "sum of the other 58",
                "0.29102777",
                "NOT right: layer 1, b[",
            ],
        ),
    ],
)
def test_story(name, numbers, tmp_path):
    printed = run(ROOT / "examples" / f"{name}.py", cwd=tmp_path)
    for number in numbers:
        assert number in printed, printed


@pytest.mark.thorough
def test_digits_are_learned(tmp_path):
    printed = run(ROOT / "examples" / "digits.py", "--picture", tmp_path / "curve.png")
    assert float(re.search(r"Test accuracy ([\d.]+)%", printed)[1]) >= 97
    assert (tmp_path / "curve.png").stat().st_size > 10_000
    assert "all right" in printed


@pytest.mark.thorough
def test_digits_explains_its_options():
    printed = run(ROOT / "examples" / "digits.py", "--help")
    for option in ("--hidden", "--epochs", "--seed", "--picture"):
        assert option in printed


FASHION = ROOT / "examples" / "06_fashion_mnist.py"
PICTURES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"


def idx_file(values, type_code=0x08):
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, type_code, values.ndim, *values.shape) + values.tobytes()


@pytest.fixture
def fashion(tmp_path):
    """A folder like Fashion-MNIST's, with a few noisy pictures; where they are bright tells the kind."""
    draw = np.random.default_rng(0)
    for part, m in (("train", 360), ("t10k", 50)):
        labels = (np.arange(m) % 10).astype(np.uint8)
        pictures = draw.integers(0, 100, (m, 28, 28), dtype=np.uint8)
        pictures[np.arange(m), :, 2 * labels] = 255
        (tmp_path / f"{part}-{PICTURES}").write_bytes(idx_file(pictures))
        (tmp_path / f"{part}-{LABELS}.gz").write_bytes(gzip.compress(idx_file(labels), mtime=0))
    return tmp_path


@pytest.mark.thorough
def test_fashion_story(fashion):
    options = {"examples": 200, "epochs": 12, "batch-size": 20, "learning-rate": 3e-3, "patience": 1}
    options |= {"data": fashion, "picture": fashion / "curves.png"}
    printed = run(FASHION, *(f"--{name}={value}" for name, value in options.items()))
    assert "200 of 300 pictures to learn from, 60 held out, 50 for the test" in printed
    for method in ("Nothing done", "L2", "Dropout", "Early stopping"):
        training, held_out, test = re.findall(r"([\d.]+)% ", re.search(rf"^{method}.*%.*%.*", printed, re.M)[0])[-3:]
        assert min(float(training), float(held_out), float(test)) >= 95, printed
    assert (fashion / "curves.png").stat().st_size > 10_000


@pytest.mark.thorough
def test_fashion_story_says_where_to_get_the_data(tmp_path):
    done = started(FASHION, "--data", tmp_path)
    assert done.returncode == 1
    assert f"There is no train-{PICTURES} or train-{PICTURES}.gz in {tmp_path}." in done.stderr
    assert "apt install dataset-fashion-mnist" in done.stderr
    assert "--data" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def idx(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    import idx

    return idx


def test_idx_files_are_read_plain_and_gzipped(idx, fashion):
    x, y = idx.load(fashion, "train")
    assert (x.shape, x.dtype, x.max()) == ((360, 784), np.float32, 1)
    assert y.tolist() == [i % 10 for i in range(360)]
    assert (x.reshape(-1, 28, 28)[np.arange(360), :, 2 * y] == 1).all()


PLAIN, HEAD = idx_file(np.zeros((3, 28, 28), np.uint8)), 16


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got an empty file"),
        (b"<!DOCTYPE html>", "starts with 00 00 08 03, got 3c 21 44 4f"),
        (idx_file(np.zeros(3, np.uint8)), "3 dimensions, which starts with 00 00 08 03, got 00 00 08 01"),
        (idx_file(np.zeros((3, 28, 28), np.float32), 0x0D), "got 00 00 0d 03"),
        (PLAIN[: HEAD - 1], "ends before its 3 sizes do"),
        (PLAIN[:-1], "3 × 28 × 28 values were announced, which are 2352 bytes, but 2351 follow"),
        (PLAIN + b"\0", "but 2353 follow"),
        (gzip.compress(PLAIN, mtime=0)[:-9], "damaged or cut short, cannot be unpacked"),
        (gzip.compress(PLAIN, mtime=0)[:10] + b"\xff" * 20, "damaged or cut short, cannot be unpacked"),
        (idx_file(np.zeros((3, 27, 28), np.uint8)), "expected train pictures of 28 × 28 pixels, got 27 × 28"),
        (PLAIN, "3 train pictures do not go with 360 labels"),
    ],
)
def test_damaged_idx_files_are_refused(idx, fashion, content, message):
    (fashion / f"train-{PICTURES}").write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(message)):
        idx.load(fashion, "train")


def test_labels_out_of_range_are_refused(idx, fashion):
    (fashion / f"t10k-{LABELS}").write_bytes(idx_file(np.full(50, 10, np.uint8)))
    with pytest.raises(ValueError, match="expected t10k labels 0 to 9, got 10"):
        idx.load(fashion, "t10k")


@pytest.mark.thorough
def test_sweep_story(tmp_path):
    sizes = ["--learning-rates", 1e-5, 3e-3, "--l2", 0, 1e-3, 0.3, "--seeds", 2, "--epochs", 15, "--batch-size", 32]
    printed = run(ROOT / "examples" / "07_sweep.py", *sizes, cwd=tmp_path)
    assert "12 trainings of Chain(Dense(64, 32, init=HeNormal())" in printed
    assert re.search(r"The best, number \d+: learning rate 0\.003, L2\(0\.", printed), printed
    for part in ("Held-out", "Test"):
        assert float(re.search(rf"{part} accuracy ([\d.]+)%", printed)[1]) >= 93, printed
    assert (tmp_path / "output" / "sweep.png").stat().st_size > 10_000
    if importlib.util.find_spec("safetensors"):
        assert "It reads 360 of 360 test pictures as before." in printed
        assert (tmp_path / "output" / "digits.safetensors").stat().st_size > 4 * (64 * 32 + 32 + 32 * 10 + 10)
    else:
        assert "The model is not saved. save_model and load_model need safetensors" in printed


@pytest.mark.thorough
@pytest.mark.skipif(importlib.util.find_spec("orbax") is None, reason="needs orbax-checkpoint")
def test_resume_story():
    printed = run(ROOT / "examples" / "08_resume.py")
    goes_on = int(re.search(r"goes on after epoch (\d+)", printed)[1])
    assert 80 <= goes_on < 400, printed
    assert f"  epoch_{goes_on:08d}\n" in printed
    assert "  0 of 4810 parameters differ\n  0 of 400 recorded costs differ" in printed, printed
    assert "holds another training.\n  network\n" in printed
    assert "now:   Chain(Dense(64, 16), Tanh(), Dense(16, 10))" in printed


@pytest.mark.thorough
def test_pictures_of_the_readme(tmp_path):
    for picture in re.findall(r"!\[.*\]\((.*)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / picture).is_file(), picture
    code = "import sys, pathlib; sys.path.insert(0, sys.argv[1]); import pictures; "
    code += "pictures.draw_training(pathlib.Path(sys.argv[2]))"
    run("-c", code, ROOT / "examples", tmp_path / "training.png")
    assert 10_000 < (tmp_path / "training.png").stat().st_size < 60_000


@pytest.mark.thorough
def test_wrong_labels_story(tmp_path):
    printed = run(ROOT / "examples" / "11_wrong_labels.py", "--epochs", 40, cwd=tmp_path)
    assert "1797 pictures, 90 with a wrong label" in printed
    for score in ("self-influence over 4 states", "influence of all who contradict"):
        assert float(re.search(rf"^{score} +([\d.]+)%", printed, re.M)[1]) >= 70, printed
    named, found = (int(re.search(pattern, printed)[1]) for pattern in (r"of (\d+)\. Not wrong", r"Of the (\d+) wrong"))
    assert named >= 0.8 * found >= 0.8 * 60, printed
    assert (tmp_path / "output" / "wrong_labels.png").stat().st_size > 10_000


@pytest.mark.thorough
def test_feedback_alignment_story(tmp_path):
    printed = run(ROOT / "examples" / "12_feedback_alignment.py", "--epochs", 12, cwd=tmp_path)

    def last(pattern):
        return float(re.search(pattern, printed, re.M)[1])

    alone = last(r"^output layer alone.* ([\d.]+)%$")
    for rule, least, most in (("backpropagation", 0, 0), ("sign-symmetric", 20, 40), ("feedback alignment", 45, 65)):
        assert last(rf"^{rule}.* ([\d.]+)%$") >= max(93, alone + 3), printed
        assert least <= last(rf"^{rule}.* (\d+)°$") <= most, printed
    assert (tmp_path / "output" / "feedback_alignment.png").stat().st_size > 10_000


PRIVATE = ROOT / "examples" / "13_private_fashion.py"
needs_accounting = pytest.mark.skipif(importlib.util.find_spec("dp_accounting") is None, reason="needs dp-accounting")


@pytest.mark.thorough
@needs_accounting
def test_private_story(fashion):
    options = {"epochs": 20, "batch-size": 100, "hidden": 16, "data": fashion, "picture": fashion / "privacy.png"}
    printed = run(PRIVATE, "--epsilons", 50, *(f"--{name}={value}" for name, value in options.items()))
    assert "300 pictures to learn from, 60 held out, 50 for the test" in printed
    noise, held_out = re.search(r"^ε = 50 +([\d.]+) +([\d.]+)%", printed, re.M).groups()
    assert 0.3 < float(noise) < 2, printed
    assert float(held_out) >= 50, printed
    spent = re.search(r"^ε = 50 .* ([\d.]+) \([\d.]+%\)$", printed, re.M)[1]
    assert float(spent) == pytest.approx(50, rel=0.02), printed
    assert float(re.search(r"^no privacy +none +([\d.]+)%", printed, re.M)[1]) >= 95, printed
    assert (fashion / "privacy.png").stat().st_size > 10_000


@pytest.mark.thorough
@needs_accounting
def test_private_story_says_where_to_get_the_data(tmp_path):
    done = started(PRIVATE, "--data", tmp_path)
    assert done.returncode == 1
    assert "apt install dataset-fashion-mnist" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.thorough
def test_learning_rate_story(tmp_path):
    printed = run(ROOT / "examples" / "14_learning_rate.py", "--epochs", 6, cwd=tmp_path)
    assert "A learning rate above 2 / 1.87 = 1.07 must diverge." in printed

    def costs(name, case):
        row = re.findall(rf"^[\d.]+ +{name} +(.*)", printed, re.M)[case]
        return [float(cost) for cost in row.split() if "%" not in cost]

    for case in (0, 1):  # irises, digits
        low, right, high = (costs(name, case) for name in ("too low", "right", "too high"))
        assert right[-1] < 0.2 * right[0], printed
        assert low[-1] > 0.9 * low[0], printed
        assert high[-1] > 0.9 * high[0], printed
    said = re.split(r"\n(?=Irises|Digits)", printed.partition("What diagnose says")[2])[1:]
    verdicts = ("learning rate too low", "healthy", "learning rate too high")
    for text, wanted in zip(said, (*verdicts, *verdicts), strict=True):
        assert [verdict for verdict in verdicts if verdict in text] == [wanted], printed
    assert (tmp_path / "output" / "learning_rate.png").stat().st_size > 50_000


@pytest.mark.thorough
def test_deep_sigmoid_story(tmp_path):
    printed = run(ROOT / "examples" / "15_deep_sigmoid.py", "--epochs", 15, cwd=tmp_path)
    table = re.findall(r"^ +(\d) +([\d.e-]+) +([\d.e-]+) +([\d.]+)% +([\d.]+)%$", printed, re.M)
    layers, *columns = zip(*table)
    assert layers == tuple("987654321"), printed
    (last, *_, first), relu, way, relu_way = ([float(cell) for cell in column] for column in columns)
    assert first < 1e-4 * last, printed
    assert min(relu) > 0.1 * max(relu), printed
    assert way[-1] < 1e-3 * way[0], printed
    assert min(relu_way) > 5, printed
    accuracy = {name: float(re.search(rf"^{name} .* ([\d.]+)%$", printed, re.M)[1]) for name in ("sigmoid", "ReLU")}
    assert accuracy["sigmoid"] <= 15 < 80 < accuracy["ReLU"], printed
    assert "sigmoid before any training: 1 verdict\n\nvanishing error signals (layer 1 … 4)\n" in printed
    ratio = float(re.search(r"rms of δ at layer 1 is ([\d.e-]+) of that at layer 9", printed)[1])
    assert ratio == pytest.approx(first / last, rel=0.3), printed  # of all examples, and of one batch
    assert "ReLU before any training: healthy" in printed
    assert (tmp_path / "output" / "deep_sigmoid.png").stat().st_size > 50_000


@pytest.mark.thorough
def test_overfitting_story(tmp_path):
    printed = run(ROOT / "examples" / "16_overfitting.py", cwd=tmp_path)
    assert "300 pictures to learn from, 598 held out, 899 for the test" in printed
    rows = {}
    for name in ("Nothing done", "L2, α = 0.003", "Dropout, 0.2 and 0.5", "Early stopping"):
        row = re.search(rf"^{name} +([\d.]+) +([\d.]+) +([\d.]+) \((\d+)\) +([\d.]+)%$", printed, re.M)
        rows[name] = [float(cell) for cell in row.groups()]
    training, held_out, lowest, epoch, _ = rows.pop("Nothing done")
    assert training < 0.01 < 1.2 * lowest < held_out, printed
    assert epoch < 30, printed
    assert all(row[1] < 0.85 * held_out for row in rows.values()), printed
    assert rows["Early stopping"][1:4] == [lowest, lowest, epoch], printed
    assert min(row[4] for row in rows.values()) > 75, printed
    assert "What diagnose says of Nothing done: 1 verdict\n\noverfitting (history)\n" in printed
    assert f"validation cost {lowest} at its least (epoch {epoch:.0f})" in printed
    assert [f"says of {name}: healthy" in printed for name in rows] == [True] * 3, printed
    assert (tmp_path / "output" / "few_digits.png").stat().st_size > 50_000


@pytest.mark.thorough
def test_convolutions_story(fashion):
    options = {"splits": 1, "digit-epochs": 10, "epochs": 20, "data": fashion, "picture": fashion / "kernels.png"}
    printed = run(ROOT / "examples" / "17_convolutions.py", *(f"--{name}={value}" for name, value in options.items()))
    assert "1437 digits of 8 × 8 to learn from, 360 for the test, 1 random splits" in printed
    assert "360 pictures of 28 × 28 to learn from, 50 for the test, epochs: 20" in printed
    digits, clothes = printed.split("pictures of 28 × 28")
    for part, networks, least in (
        (digits, {"dense": 9_610, "convolutions": 9_930, "convolutions, moved": 9_930}, 94),
        (clothes, {"dense": 101_770, "convolutions": 206_922}, 90),
    ):
        for name, numbers in networks.items():
            row = re.search(rf"^{name} +([\d,]+) +([\d.]+) % +[\d.]+ s$", part, re.M)
            assert row[1] == f"{numbers:,}", printed
            assert float(row[2]) >= least, printed
    assert (fashion / "kernels.png").stat().st_size > 10_000


@pytest.mark.thorough
def test_convolutions_story_does_without_fashion(tmp_path):
    quick = ("--splits", 1, "--digit-epochs", 1, "--data", tmp_path)
    printed = run(ROOT / "examples" / "17_convolutions.py", *quick, cwd=tmp_path)
    assert f"No Fashion-MNIST, then. There is no train-{PICTURES} or train-{PICTURES}.gz in {tmp_path}." in printed
    assert (tmp_path / "output" / "convolutions.png").stat().st_size > 10_000


@pytest.mark.thorough
@needs_accounting
def test_private_images_story(fashion):
    options = {"epsilon": 50, "epochs": 10, "batch-size": 100, "learning-rate": 2, "examples": 300, "states": 6}
    options |= {"data": fashion, "picture": fashion / "private.png"}
    printed = run(ROOT / "examples" / "18_private_images.py", *(f"--{name}={value}" for name, value in options.items()))
    assert "300 pictures to learn from, 60 held out, 50 for the test" in printed
    assert "300 pictures, 30 with a wrong label" in printed
    spent, _, held_out = re.search(r"^ +10 +([\d.]+) +([\d.]+)% +([\d.]+)%$", printed, re.M).groups()
    assert float(spent) == pytest.approx(50, rel=0.02), printed
    assert float(held_out) >= 50, printed
    for score in ("cost", "‖error at the output‖²"):
        precision, recall = re.search(rf"^{score} +.* ([\d.]+)% / ([\d.]+)% +.*%$", printed, re.M).groups()
        assert precision == recall, printed  # as many suspected as are wrong
        assert float(recall) >= 60, printed
    assert (fashion / "private.png").stat().st_size > 50_000


@pytest.mark.thorough
def test_saliency_story(fashion):
    options = {"epochs": 12, "points": 30, "data": fashion, "picture": fashion / "saliency.png"}
    printed = run(ROOT / "examples" / "19_saliency.py", *(f"--{name}={value}" for name, value in options.items()))
    parts = printed.split("\nFashion-MNIST: ")
    for part, seen in zip(parts, ("1437 pictures learned from", "360 pictures learned from"), strict=True):
        assert seen in part, printed
        gained = float(re.search(r"black picture: ([\d.-]+) on average", part)[1])
        total, off = re.search(r"^integrated gradients +([\d.-]+), off by ([\d.]+)", part, re.M).groups()
        assert float(total) == pytest.approx(gained, abs=0.1), printed
        assert float(off) < 0.1, printed
    chance, *methods = (float(share) for share in re.findall(r"^[\w ×]+ +([\d.]+)%$", parts[0], re.M))
    assert len(methods) == 3, printed
    assert max(methods) < chance - 20, printed
    assert (fashion / "saliency.png").stat().st_size > 50_000


@pytest.mark.thorough
def test_open_gpt_story(tmp_path):
    options = ("--steps", 80, "--samples", 2, "--picture", tmp_path / "attention.png")
    printed = run(ROOT / "examples" / "20_open_gpt.py", *options)
    assert "on a small one: all right" in printed
    costs = re.findall(r"held out: ([\d.]+) nats a letter \(guessing: 5.55\)", printed)
    first, last = map(float, costs)
    assert last < min(first, 3.2), printed
    assert printed.count("It writes\n\n    def ") == 2, printed
    for name in (
        "layer 1, Embedding",
        "layer 4, block 1, attention, keys",
        "layer 26, block 4, feed-forward, Dense 2",
    ):
        assert name in printed
    norms = re.search(r"norms ([\d.]+) … ([\d.]+)", printed).groups()
    assert re.search(rf"pulls hardest, {norms[1]}, .*\npulls least, {norms[0]}, ", printed), printed
    assert (tmp_path / "attention.png").stat().st_size > 30_000


@pytest.mark.thorough
@needs_accounting
def test_private_text_story(tmp_path):
    options = {"passages": 1024, "batch-size": 64, "epochs": 2, "epsilon": 50, "picture": tmp_path / "private.png"}
    printed = run(ROOT / "examples" / "21_private_text.py", *(f"--{name}={value}" for name, value in options.items()))
    assert "1,024 passages of 64 letters, 120,576 parameters, 32 updates" in printed
    spent, noise, private = re.search(
        r"^private, ε = ([\d.]+), noise σ = ([\d.]+): ([\d.]+) nats", printed, re.M
    ).groups()
    assert float(spent) == pytest.approx(50, rel=0.02), printed
    assert 0.2 < float(noise) < 1, printed
    plain = re.search(r"^plain, no privacy: ([\d.]+) nats", printed, re.M)[1]
    assert max(float(plain), float(private)) < 4, printed
    low, middle = map(int, re.search(r"has norm (\d+) to \d+, median (\d+); cut to 20", printed).groups())
    assert 20 < low < middle, printed
    assert (tmp_path / "private.png").stat().st_size > 10_000


@pytest.mark.thorough
def test_who_taught_it_story():
    printed = run(ROOT / "examples" / "22_who_taught_it.py", "--sentence", "import os\n", "--passages", 3200)
    holds = int(re.search(r"3,200 passages, of which (\d+) hold 'import os'", printed)[1])
    first, found, chance = re.search(
        r"Of the (\d+) passages .* most (\d+) hold it \(by chance ([\d.]+)\)", printed
    ).groups()
    assert int(first) == holds, printed
    assert int(found) >= 1 > 10 * float(chance), printed
    without, others = (
        float(re.search(rf"without 40 {what}: ([\d.]+)", printed)[1]) for what in ("that taught most", "others")
    )
    assert without > others, printed


@pytest.mark.thorough
def test_through_time_story(tmp_path):
    printed = run(ROOT / "examples" / "23_through_time.py", "--steps", 60, "--picture", tmp_path / "time.png")
    assert "the plain layer: all right" in printed
    costs = dict(re.findall(r"^(\w+): ([\d.]+) nats a letter", printed, re.M))
    assert costs.keys() == {"plain", "orthogonal", "GRU", "LSTM"}, printed
    assert all(float(cost) < 3.6 for cost in costs.values()), printed
    before = printed.partition("so many letters back, trained")[0]
    left = {name: float(re.search(rf"^{name} .* (\S+)$", before, re.M)[1]) for name in costs}
    assert left["plain"] < left["GRU"] < 1e-6 < 1e-3 < left["LSTM"] < left["orthogonal"], printed
    assert (tmp_path / "time.png").stat().st_size > 10_000


@pytest.mark.thorough
def test_one_head_story(tmp_path):
    printed = run(ROOT / "examples" / "24_one_head.py", "--markdown", tmp_path / "head.md")
    assert printed.endswith("all right\n"), printed
    assert "P₁,₁ = exp(S₁,₁) / (exp(S₁,₁)) = " in printed
    keys = re.findall(r"^∂J/∂b[₃₄] .*\n.* = (\S+)$", printed, re.M)
    assert len(keys) == 2, printed
    assert all(abs(float(key)) < 1e-15 for key in keys), printed
    assert r"\frac{\partial J}{\partial q_{2,1}}" in (tmp_path / "head.md").read_text()


@pytest.mark.thorough
def test_quantiles_story(tmp_path):
    printed = run(ROOT / "examples" / "25_quantiles.py", "--splits", 3, cwd=tmp_path)
    assert "all right" in printed
    low, middle, high, within = (
        float(share) for share in re.search(r"^ mean" + r" +(\d+)%" * 4, printed, re.M).groups()
    )
    assert low < 20, printed
    assert 40 < middle < 60, printed
    assert high > 80, printed
    assert within == pytest.approx(high - low, abs=1.1), printed
    assert within > 65, printed
    assert (tmp_path / "output" / "quantiles.png").stat().st_size > 30_000


@pytest.mark.thorough
def test_from_elsewhere_story():
    printed = run(ROOT / "examples" / "26_from_elsewhere.py")
    for library in ("Equinox", "Flax"):
        gap, found = re.search(rf"^{library} +(\S+e-?\+?\d+) +(\d+)$", printed, re.M).groups()
        assert float(gap) < 1e-4, printed
        assert int(found) > 70, printed
        assert float(re.search(rf"^{library} +([\d.]+)%$", printed, re.M)[1]) > 98, printed


@pytest.mark.thorough
def test_tables_story(tmp_path):
    printed = run(ROOT / "examples" / "27_tables.py", cwd=tmp_path)
    ours, theirs = re.search(r"30-16-1 ([\d.]+)%, logistic regression ([\d.]+)%", printed).groups()
    assert float(ours) > max(96, float(theirs) - 1), printed
    ours, theirs = re.search(r"10-16-1 ([\d.]+), ridge regression ([\d.]+)", printed).groups()
    assert float(ours) > float(theirs) - 0.03 > 0.4, printed
    assert (tmp_path / "output" / "tables.png").stat().st_size > 30_000


@pytest.mark.thorough
def test_export_story(tmp_path):
    printed = run(ROOT / "examples" / "28_export.py", cwd=tmp_path)
    assert "funcnet imported: False" in printed
    assert "a batch of 360: probabilities (360, 10)" in printed
    assert float(re.search(r"differ by (\S+) at most", printed)[1]) < 1e-6, printed
    assert float(re.search(r"([\d.]+)% of 360 test pictures", printed)[1]) > 96, printed
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["digits.bin"]
