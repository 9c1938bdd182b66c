"""Fashion-MNIST from its four IDX files, plain or gzipped: 28 × 28 grey pictures of clothes, of ten kinds.

An IDX file is two bytes 0, a byte for the type of the values, a byte for the number of dimensions,
the size of each dimension in four bytes (the highest first), and the values. Nothing is believed
that is not checked: a damaged file ends in an error that names it, never in wrong pictures.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
KINDS = ("T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
UNSIGNED_BYTE = 0x08

Labelled = tuple[np.ndarray, np.ndarray]


def load(folder: Path, part: str) -> Labelled:
    """Pictures (m, 784) with values 0 … 1, and labels (m,) that count in `KINDS`.

    Args:
        folder: where the files are.
        part: "train" (60,000 pictures in the original) or "t10k" (the test set, 10,000).

    Raises:
        FileNotFoundError: no such file; says where to get it.
        ValueError: a file that is not what its name says, or cut short.
    """
    pictures = read(find(folder, f"{part}-images-idx3-ubyte"), dimensions=3)
    labels = read(find(folder, f"{part}-labels-idx1-ubyte"), dimensions=1)
    if pictures.shape[1:] != (28, 28):
        raise ValueError(f"{folder}: expected {part} pictures of 28 × 28 pixels, got {_by(pictures.shape[1:])}.")
    if len(pictures) != len(labels) or not len(labels):
        raise ValueError(f"{folder}: {len(pictures)} {part} pictures do not go with {len(labels)} labels.")
    if labels.max() >= len(KINDS):
        raise ValueError(f"{folder}: expected {part} labels 0 to {len(KINDS) - 1}, got {labels.max()}.")
    return pictures.reshape(-1, 784).astype(np.float32) / 255, labels.astype(np.int32)


def find(folder: Path, name: str) -> Path:
    """The file of that name, plain or with .gz."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"There is no {name} or {name}.gz in {folder}. On Debian and Ubuntu: apt install dataset-fashion-mnist. "
        "Elsewhere fetch the four files of Fashion-MNIST and say where they are: --data FOLDER"
    )


def read(path: Path, dimensions: int) -> np.ndarray:
    """The array of bytes in an IDX file with so many dimensions."""
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":  # what a gzip file starts with, whatever its name
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: damaged or cut short, cannot be unpacked ({error}). Fetch it again.") from error
    start = 4 + 4 * dimensions
    magic = bytes([0, 0, UNSIGNED_BYTE, dimensions])
    if content[:4] != magic:
        raise ValueError(
            f"{path}: expected an IDX file of unsigned bytes with {dimensions} dimension{'s'[: dimensions > 1]}, which "
            f"starts with {magic.hex(' ')}, got {content[:4].hex(' ') or 'an empty file'}. Is it another file, renamed?"
        )
    if len(content) < start:
        raise ValueError(f"{path}: cut short, it ends before its {dimensions} sizes do. Fetch it again.")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise ValueError(
            f"{path}: {_by(shape)} values were announced, which are {math.prod(shape)} bytes, but "
            f"{len(content) - start} follow. Fetch it again."
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _by(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
