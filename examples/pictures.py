"""The README's pictures, made anew: a training's curves, and photographs of 10_page.py's pages by headless Chromium.

Needs scikit-learn, matplotlib and Chromium: python examples/pictures.py
"""

import io
import pathlib
import shutil
import subprocess
import sys
import tempfile

import jax
import jax.numpy as jnp
import optax

import funcnet as fn

try:
    from matplotlib.figure import Figure
    from PIL import Image  # comes with matplotlib
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
except ImportError as error:
    raise SystemExit(
        f"These pictures need {error.name}. Install it by: .venv/bin/pip install -e '.[examples]'"
    ) from None

HERE = pathlib.Path(__file__).parent
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--virtual-time-budget=3000",
]
SHOTS = {"page.png": ("two_by_two.html", "step=8&weight=1.0.1", "1366,800")}  # where from, at which place, how large


def draw_training(target: pathlib.Path) -> None:
    """Digits learned, a fifth held out: the learning curves, and what the units of the first layer look for."""
    pictures, digits = load_digits(return_X_y=True)
    parts = train_test_split(pictures / 16, digits, test_size=0.2, random_state=0, stratify=digits)
    x, held_x, y, held_y = (jnp.asarray(part, dtype) for part, dtype in zip(parts, ["float32"] * 2 + [int] * 2))
    net, optimizer = fn.mlp((64, 32, 10), fn.ReLU()), optax.adam(3e-3)
    state = fn.train_state(optimizer, fn.init(net, jax.random.key(0)), jax.random.key(1))
    options = {"epochs": 100, "batch_size": 32, "early_stopping": fn.EarlyStopping(patience=5)}
    options |= {"validation": (held_x, held_y), "metrics": [fn.Accuracy()]}
    state, history = fn.fit(net, fn.CrossEntropy(), optimizer, state, (x, y), **options)
    figure = Figure((9, 3.3), layout="compressed")
    curves, images = figure.subplots(1, 2, width_ratios=[1.35, 1])
    history.plot(ax=curves)
    fn.plot_weights(net, state.params, ax=images)
    figure.savefig(file := io.BytesIO(), dpi=130)
    Image.open(file).convert("RGB").quantize(256).save(target, optimize=True)  # fewer bytes


def main() -> None:
    (HERE / "pictures").mkdir(exist_ok=True)
    draw_training(HERE / "pictures" / "training.png")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("The pictures are taken by Chromium, which is not installed: apt-get install chromium.")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        subprocess.run([sys.executable, HERE / "10_page.py", "--folder", folder], check=True)
        for name, (page, place, size) in SHOTS.items():
            target = HERE / "pictures" / name
            address = f"{(pathlib.Path(folder) / page).as_uri()}#{place}"
            own = [f"--user-data-dir={folder}/profile", f"--screenshot={target}", f"--window-size={size}"]
            subprocess.run([chromium, *FLAGS, *own, address], check=True, stderr=subprocess.DEVNULL)
    for picture in sorted((HERE / "pictures").iterdir()):
        print(f"{picture.name}: {picture.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
