"""Read a folder that contains a folder of image files for each class."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from actlab.data.memory import check_memory
from actlab.data.readers import Array, format_names
from actlab.errors import UsageError, summarize_error

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm", ".tif", ".tiff", ".webp"}
_GREY, _COLOUR = {"1", "L"}, {"RGB", "P"}  # modes of Pillow
_BYTES = 1 + 4  # per value: as read, and standardized as float32


def read_image_folder(folder: Path) -> tuple[Array, Array]:
    """Return images (n, h, w), or (n, 3, h, w) if one of them is not grey, and their folders' names (n,).

    Args:
        folder: A folder with a subfolder for each class. Files that are not images are ignored.

    Raises:
        UsageError: Pillow is not installed, a class has no images, an image is damaged or has a kind that is
            not supported, the sizes differ, or the images do not fit into memory.
    """
    paths = _list_images(folder)
    modes, sizes = zip(*(_read_header(path) for path in paths), strict=True)
    if len(counts := Counter(sizes)) > 1:
        kinds = [f"{w}x{h} ({count})" for (w, h), count in counts.most_common()]
        odd = next(path for path, size in zip(paths, sizes, strict=True) if size != sizes[0])
        problem = f"images have different sizes: {format_names(kinds)}"
        first = f"the first that differs is {str(odd)!r}"
        raise UsageError(f"{folder.name}: {problem}; {first}; resize them to one size")
    width, height = sizes[0]
    shape = (len(paths), height, width) if set(modes) <= _GREY else (len(paths), height, width, 3)
    what = f"{folder.name}: {len(paths)} images of {width}x{height} pixels"
    check_memory(_BYTES * math.prod(shape), what, "use fewer or smaller images")
    images = np.empty(shape, np.uint8)
    for path, image in zip(paths, images, strict=True):
        image[:] = _read_image(path, "RGB" if image.ndim == 3 else "L")
    return np.moveaxis(images, 3, 1) if images.ndim == 4 else images, np.array([p.parent.name for p in paths])


def _list_images(folder: Path) -> list[Path]:
    """Return the paths of the images, class by class."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    images = {c: sorted(p for p in c.iterdir() if _is_image(p)) for c in classes}
    structure = "a folder of images must contain a folder for each class, such as cat/1.png and dog/1.png"
    if not classes:
        raise UsageError(f"{str(folder)!r} contains no folders; {structure}")
    if empty := [str(path) for path, files in images.items() if not files]:
        raise UsageError(f"{empty[0]!r} contains no images ({', '.join(sorted(_SUFFIXES))}); {structure}")
    return [path for files in images.values() for path in files]


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and path.is_file()


def _read_header(path: Path) -> tuple[str, tuple[int, int]]:
    """Return the mode and the size (width, height) of an image, without its pixels."""
    with _open_image(path) as image:
        mode, size = image.mode, image.size
        transparent = "transparency" in image.info
    if mode not in _GREY | _COLOUR or transparent:
        kind = "transparent pixels" if transparent or mode in ("RGBA", "LA", "PA") else f"mode {mode!r}"
        raise UsageError(f"image {str(path)!r} has {kind}; save it in grey or RGB with 8 bits per channel")
    return mode, size


def _read_image(path: Path, mode: str) -> Array:
    with _open_image(path) as image:
        try:
            return np.asarray(image.convert(mode))
        except Exception as error:  # the decoders of Pillow raise errors of many types
            raise _explain_damage(path, error) from error


def _open_image(path: Path) -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise UsageError("images need Pillow: install it with pip install pillow") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata
            return Image.open(path)
    except Exception as error:
        raise _explain_damage(path, error) from error


def _explain_damage(path: Path, error: Exception) -> UsageError:
    return UsageError(f"cannot read image {str(path)!r}: {summarize_error(error)}; replace it or remove it")
