"""Read MNIST and similar image sets, EMNIST and CIFAR from their publishers' files."""

from __future__ import annotations

import http.client
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from actlab.data.readers import BROKEN, Array, format_names, format_reason, open_file
from actlab.errors import UsageError

# The name of a set on openml.org. Only these are downloaded.
_OPENML = {"mnist": "mnist_784", "fashion-mnist": "Fashion-MNIST", "kmnist": "Kuzushiji-MNIST"}
_EMNIST = ("balanced", "letters", "digits", "mnist", "byclass", "bymerge")
# The folder of a set in torchvision's layout, or in the archive of its publisher.
_FOLDERS = {
    "mnist": "MNIST/raw",
    "fashion-mnist": "FashionMNIST/raw",
    "kmnist": "KMNIST/raw",
    **{f"emnist-{split}": "EMNIST/raw" for split in _EMNIST},
    "cifar10": "cifar-10-batches-bin",
    "cifar100": "cifar-100-binary",
}
IMAGES = tuple(_FOLDERS)
_TRAINING_IMAGES = 60_000  # OpenML appends the 10,000 test images to the training images
_PICKLED = {"cifar10": "cifar-10-batches-py/data_batch_1", "cifar100": "cifar-100-python/train"}
_PIXELS = 3 * 32 * 32  # of an image of CIFAR


def read_images(name: str, data_dir: str | Path | None, part: str = "train") -> tuple[Array, Array]:
    """Return images (n, h, w) or (n, 3, h, w) and labels (n,) of one of ``IMAGES``.

    Args:
        name: The name of the set.
        data_dir: The folder of its files; None to download them from openml.org.
        part: ``"train"`` or ``"test"``.

    Raises:
        UsageError: A file is missing or damaged, or the download failed.
    """
    if data_dir is None:
        if name in _OPENML:
            return _download(name, part)
        files = format_names(_list_files(name, part)[0])
        raise UsageError(f"{name} cannot be downloaded; set data_dir (--data-dir) to the folder of {files}")
    paths = _find_files(name, Path(data_dir), part)
    if name.startswith("cifar"):
        return _read_cifar(paths, labels_per_image=2 if name == "cifar100" else 1)
    if len(paths) == 1:
        images, labels = _read_pixel_csv(paths[0])
    else:
        images, labels = _read_idx(paths[0], ndim=3), _read_idx(paths[1], ndim=1)
    # The files of EMNIST contain mirror images that are turned by 90 degrees.
    return images.transpose(0, 2, 1) if name.startswith("emnist") else images, labels


def has_pixels(columns: Sequence[str]) -> bool:
    """Whether the columns of a table are the pixels of a square image.

    Args:
        columns: Their names. Those of pixels are pixel0, pixel1, ... or pixel1, pixel2, ... or 1x1, 1x2, ...
    """
    side = math.isqrt(len(columns))
    schemes = [
        [f"pixel{i}" for i in range(len(columns))],
        [f"pixel{i}" for i in range(1, len(columns) + 1)],
        [f"{row}x{column}" for row in range(1, side + 1) for column in range(1, side + 1)],
    ]
    return side**2 == len(columns) > 1 and list(columns) in schemes


def _list_files(name: str, part: str) -> list[tuple[str, ...]]:
    """Return the names that the files of a set can have, the publisher's names first."""
    if name == "cifar10":
        return [tuple(f"data_batch_{i}.bin" for i in range(1, 6)) if part == "train" else ("test_batch.bin",)]
    if name == "cifar100":
        return [(f"{part}.bin",)]
    if name.startswith("emnist"):
        stem = table = f"{name}-{part}"
    else:
        stem, table = "train" if part == "train" else "t10k", f"{name}_{part}"
    kinds = ("images{}idx3-ubyte", "labels{}idx1-ubyte")
    # Kaggle's names have a dot; its tables have a label and the pixels of an image in each line.
    return [*(tuple(f"{stem}-{kind.format(sign)}" for kind in kinds) for sign in "-."), (f"{table}.csv",)]


def _find_files(name: str, data_dir: Path, part: str) -> list[Path]:
    """Return the paths of the files of a set."""
    if not os.path.isdir(data_dir):
        raise UsageError(f"data_dir {str(data_dir)!r} is not a folder")
    # The set's own folder first: its name identifies the set.
    subfolders = [_FOLDERS[name]] if name.startswith("cifar") else [_FOLDERS[name], "raw"]
    choices = _list_files(name, part)
    for files in choices:
        for folder in (*subfolders, ""):
            plain = [data_dir / folder / file for file in files]
            paths = [p if os.path.isfile(p) else p.with_name(f"{p.name}.gz") for p in plain]
            if all(os.path.isfile(p) for p in paths):
                return paths
    pickled = _PICKLED.get(name, "")
    if pickled and any(os.path.isfile(data_dir / p) for p in (pickled, Path(pickled).name)):
        problem = f"{name}: {str(data_dir)!r} has the Python version, whose files are pickled"
        raise UsageError(f"{problem}; actlab unpickles nothing: download the binary version")
    names = " and ".join(f"{file}{'[.gz]' * (not file.endswith('.bin'))}" for file in choices[0])
    inside = f"its subfolder {' or '.join(reversed(subfolders))}"
    raise UsageError(f"{name}: {names} must be in {str(data_dir)!r}, or in {inside}")


def _read_idx(path: Path, *, ndim: int) -> npt.NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes: 00 00 08 ndim, then ndim big-endian uint32 sizes, then the data."""
    content = _read_bytes(path)
    if content[:4] != bytes((0, 0, 8, ndim)):
        problem = f"begins with '{content[:4].hex(' ')}', not with '00 00 08 0{ndim}'"
        raise UsageError(f"{str(path)!r} {problem}: it is not an IDX file of bytes with {ndim} dimensions")
    start = 4 + 4 * ndim
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4))
    if len(content) != (needed := start + math.prod(shape)):
        kind = "truncated" if len(content) < needed else "too long"
        sizes = f"it has {len(content)} bytes, but its header states {needed}"
        raise UsageError(f"{str(path)!r} is {kind}: {sizes}; download it again")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _read_cifar(paths: Sequence[Path], labels_per_image: int) -> tuple[Array, Array]:
    """Read records: labels, the finest last, then red, green and blue pixels."""
    size, parts = labels_per_image + _PIXELS, []
    for path in paths:
        content = _read_bytes(path)
        if len(content) % size:
            problem = f"has {len(content)} bytes, not a multiple of {size}, the size of a record"
            raise UsageError(f"{str(path)!r} {problem}; download it again")
        parts.append(np.frombuffer(content, np.uint8).reshape(-1, size))
    records = np.concatenate(parts)
    return records[:, labels_per_image:].reshape(-1, 3, 32, 32), records[:, labels_per_image - 1]


def _read_pixel_csv(path: Path) -> tuple[Array, Array]:
    """Read a table with a label and the pixels of a square image in each line, with or without a header."""
    import pandas as pd

    try:
        with open_file(path) as file:
            header = None if file.readline()[:1].isdigit() else 0
            file.seek(0)
            table = pd.read_csv(file, header=header, dtype=np.uint8)
    except BROKEN as error:
        raise UsageError(f"cannot read bytes from {str(path)!r}: {format_reason(error)}") from error
    side = math.isqrt(pixels := table.shape[1] - 1)
    if side**2 != pixels or not pixels or not isinstance(table.index, pd.RangeIndex):
        requirement = "must contain a label and the pixels of a square image in each line"
        raise UsageError(f"{str(path)!r} {requirement}; its header has {table.shape[1]} columns")
    values = table.to_numpy()
    return values[:, 1:].reshape(-1, side, side), values[:, 0]


def _read_bytes(path: Path) -> bytes:
    try:
        # The whole file, because gzip checks its CRC only at the end.
        with open_file(path) as file:
            return file.read()
    except BROKEN as error:
        raise UsageError(f"cannot read {str(path)!r}: {format_reason(error)}; download it again") from error


def _download(name: str, part: str) -> tuple[Array, Array]:
    """Return images (n, 28, 28) and labels (n,) from openml.org."""
    from sklearn.datasets import fetch_openml

    try:
        bunch = fetch_openml(_OPENML[name], version=1, as_frame=False, parser="liac-arff")
    except (*BROKEN, http.client.HTTPException) as error:
        advice = f"; set data_dir to the folder of {_list_files(name, part)[0][0]}"
        raise UsageError(
            f"cannot download {name!r} from openml.org: {format_reason(error)}{advice}"
        ) from error
    # Bytes, as in the IDX files, so that both sources give the same fingerprint.
    chosen = slice(_TRAINING_IMAGES) if part == "train" else slice(_TRAINING_IMAGES, None)
    images, labels = bunch.data[chosen], bunch.target[chosen]
    side = math.isqrt(images.shape[1])  # they are square
    return images.reshape(-1, side, side).astype(np.uint8), labels.astype(np.int64)
