"""A trained network in one file, served by a process that knows JAX alone.

A small convolutional network learns digits. `jax.export` writes the program, from pixels to probabilities, with the
parameters in it, for batches of any size. Another process loads it: funcnet is not imported there, and need not be
installed. Its answers are compared with those of `predict`. The file is StableHLO: runtimes outside of Python read it.

Needs scikit-learn and flatbuffers, which JAX writes such files with: .venv/bin/pip install -e '.[examples]'.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import export

import funcnet as fn

try:
    import flatbuffers  # noqa: F401  (what jax.export writes files with)
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
except ImportError as error:
    raise SystemExit(
        f"This example needs {error.name}. Install it by: .venv/bin/pip install -e '.[examples]'"
    ) from None

NET = fn.Chain(
    fn.Conv(1, 16, (3, 3)), fn.ReLU(), fn.MaxPool((2, 2)), fn.Conv(16, 32, (3, 3)), fn.ReLU(), fn.Flatten(),
    fn.Dense(4 * 4 * 32, 10),
)  # fmt: skip
LOSS, ADAM = fn.CrossEntropy(), optax.adam(3e-3)

SERVER = """
import sys
import numpy as np
from jax import export

program = export.deserialize(open(sys.argv[1], "rb").read())
for size in (1, 7, 360):
    images = np.load(sys.argv[2])[:size]
    answers = np.asarray(program.call(images))
    print(f"  a batch of {size}: probabilities {answers.shape}")
np.save(sys.argv[2], answers)
print("  funcnet imported:", "funcnet" in sys.modules)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Train, export, and serve without funcnet.")
    parser.add_argument("--epochs", type=int, default=15, help="passes over the training examples")
    parser.add_argument("--folder", type=Path, default=Path("output"), help="where the file goes")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)

    x, y = load_digits(return_X_y=True)
    x = x.reshape(-1, 8, 8, 1).astype(np.float32) / 16
    train_x, x, train_y, y = train_test_split(x, y, test_size=360, random_state=0, stratify=y)
    state = fn.train_state(ADAM, fn.init(NET, jax.random.key(0)), jax.random.key(1))
    training = jnp.asarray(train_x), jnp.asarray(train_y)
    state, _ = fn.fit(NET, LOSS, ADAM, state, training, epochs=chosen.epochs, batch_size=32)

    @jax.jit
    def read(images: jax.Array) -> jax.Array:
        return LOSS.probabilities(fn.predict(NET, state.params, images))

    images = jax.ShapeDtypeStruct((*export.symbolic_shape("m"), 8, 8, 1), jnp.float32)
    program = export.export(read, platforms=["cpu", "cuda"])(images)
    file, answers = chosen.folder / "digits.bin", chosen.folder / "answers.npy"
    file.write_bytes(program.serialize())
    numbers = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    print(f"{file}: {file.stat().st_size / 1000:.0f} KB, of which {4 * numbers / 1000:.0f} are {numbers:,} parameters")
    print("The first lines of the program, as StableHLO:")
    print(*(f"  {line[:100]}" for line in program.mlir_module().splitlines()[:4]), sep="\n")

    print("\nAnother process:")
    np.save(answers, x)
    done = subprocess.run([sys.executable, "-c", SERVER, file, answers], check=True, capture_output=True, text=True)
    print(done.stdout, end="")
    served = np.load(answers)
    answers.unlink()
    gap = np.abs(served - np.asarray(read(x))).max()
    print(f"\nIts probabilities and those of predict differ by {gap:.1e} at most;")
    print(f"{np.mean(served.argmax(-1) == y):.1%} of {len(y)} test pictures are read.")


if __name__ == "__main__":
    main()
