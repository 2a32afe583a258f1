"""Helpers for the tests of data: small files and expected errors."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from actlab.data import load_data
from actlab.errors import UsageError

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
THREE = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)


def encode_idx(array: np.ndarray, kind: int = 8) -> bytes:
    header = bytes((0, 0, kind, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def write_images(
    folder: Path, images: np.ndarray | bytes = THREE, labels: np.ndarray | bytes = b"", *, gz: bool = False
) -> Path:
    """Write both IDX files; bytes are written unchanged, and three labels are the default."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(labels, bytes) and not labels:
        labels = np.array([0, 1, 0], np.uint8)
    for name, content in ((IMAGES, images), (LABELS, labels)):
        data = content if isinstance(content, bytes) else encode_idx(content)
        (folder / f"{name}{'.gz' * gz}").write_bytes(gzip.compress(data) if gz else data)
    return folder


def write_csv(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "flowers.csv"
    path.write_text(text)
    return path


def write_npz(tmp_path: Path, **arrays: object) -> Path:
    path = tmp_path / "arrays.npz"
    np.savez(path, **arrays)
    return path


def standardize(values: np.ndarray) -> np.ndarray:
    """Standardize like the notebook: (data - data.mean()) / data.std(), in torch."""
    data = torch.from_numpy(values.astype(np.float64))
    return ((data - data.mean()) / data.std()).float().numpy()


def standardize_columns(values: np.ndarray) -> np.ndarray:
    """Standardize each column like scikit-learn's StandardScaler."""
    from sklearn.preprocessing import StandardScaler

    return StandardScaler().fit_transform(values.astype(np.float64)).astype(np.float32)


def refused(message: str, source: str | Path, *arguments: object, **keywords: object) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load_data(source, *arguments, **keywords)
    assert "\n" not in str(caught.value)
