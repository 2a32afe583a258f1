"""load_data of a folder with a folder of image files for each class."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from actlab.cli import main
from actlab.data import load_data
from tests.command_line import in_empty_folder
from tests.command_line import refused as refused_in_one_line
from tests.datasets import refused

__all__ = ["in_empty_folder"]

GREY = np.random.default_rng(0).integers(0, 256, (6, 4, 5), np.uint8)
RGB = np.random.default_rng(1).integers(0, 256, (6, 4, 5, 3), np.uint8)


def write_folder(folder: Path, pixels: np.ndarray, suffix: str = ".png") -> Path:
    """Write images: the first half of them to the class cat, the others to the class dog."""
    for i, image in enumerate(pixels):
        path = folder / ("dog" if 2 * i >= len(pixels) else "cat") / f"{i}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".bmp", ".tiff"])
@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "RGB"])
def test_load_data_reads_a_folder_of_images(tmp_path, pixels, suffix):
    data = load_data(write_folder(tmp_path / "pets", pixels, suffix))
    expected = load_data((pixels, ["cat"] * 3 + ["dog"] * 3), channels="last" if pixels.ndim == 4 else None)
    assert (data.name, data.classes, data.y.tolist()) == ("pets", ("cat", "dog"), [0, 0, 0, 1, 1, 1])
    assert (data.shape, data.fingerprint) == (expected.shape, expected.fingerprint)


def test_load_data_reads_jpeg_images(tmp_path):
    smooth = (
        np.tile(np.arange(0, 256, 4, dtype=np.uint8), (6, 64, 1))
        // np.arange(1, 7, dtype=np.uint8)[:, None, None]
    )
    data = load_data(write_folder(tmp_path, smooth, ".jpg"))
    exact = load_data((smooth, [0, 0, 0, 1, 1, 1]))
    np.testing.assert_allclose(data.X, exact.X, atol=0.1)


def test_load_data_reads_grey_images_among_colours_as_rgb(tmp_path):
    write_folder(tmp_path, RGB)
    Image.fromarray(GREY[0]).save(tmp_path / "cat/0.png")
    Image.fromarray(RGB[4]).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "dog/4.png")
    expected = RGB.copy()
    expected[0] = GREY[0][..., None]
    data = load_data(tmp_path)
    assert data.fingerprint == load_data((expected, [0, 0, 0, 1, 1, 1]), channels="last").fingerprint


def test_load_data_ignores_other_files_of_a_folder(tmp_path):
    expected = load_data(write_folder(tmp_path, GREY)).fingerprint
    (tmp_path / "labels.txt").write_text("cat dog")
    (tmp_path / "cat/Thumbs.db").write_bytes(b"\0")
    (tmp_path / "cat/._1.png").write_bytes(b"\0")
    (tmp_path / ".cache").mkdir()
    assert load_data(tmp_path).fingerprint == expected


def test_load_data_names_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(write_folder(tmp_path / "pets", GREY))
    assert load_data(".").name == "pets"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"cannot read image '.*/dog/4.png': UnidentifiedImageError: .*; replace it or remove it$"),
        (b"<html>not found</html>", r"cannot read image '.*/dog/4.png': UnidentifiedImageError"),
        ("truncated", r"cannot read image '.*/dog/4.png': .*; replace it or remove it$"),
        ("checksum", r"cannot read image '.*/dog/4.png': .*; replace it or remove it$"),
    ],
)
def test_load_data_names_a_damaged_image(tmp_path, content, message):
    path = write_folder(tmp_path, RGB) / "dog/4.png"
    whole = path.read_bytes()
    damaged = {
        "truncated": whole[:-30],
        "checksum": whole[:60] + bytes(255 - b for b in whole[60:70]) + whole[70:],
    }
    path.write_bytes(damaged.get(content, content))
    refused(message, tmp_path)


def test_load_data_refuses_images_of_several_sizes(tmp_path):
    write_folder(tmp_path / "pets", GREY)
    Image.fromarray(GREY[0, :3]).save(tmp_path / "pets/dog/3.png")
    refused(
        "pets: images have different sizes: 5x4 .5., 5x3 .1.; the first that differs is .*dog/3.png'; resize",
        tmp_path / "pets",
    )


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.new("RGBA", (5, 4)), "has transparent pixels; save it in grey or RGB with 8 bits per channel"),
        (Image.new("LA", (5, 4)), "has transparent pixels"),
        (
            Image.fromarray(np.arange(20, dtype=np.uint16).reshape(4, 5)),
            "has mode 'I;16'; save it in grey or RGB",
        ),
    ],
)
def test_load_data_refuses_other_kinds_of_pixels(tmp_path, image, message):
    image.save(write_folder(tmp_path, GREY) / "cat/1.png")
    refused(f"image '.*/cat/1.png' {message}", tmp_path)


def test_load_data_refuses_a_transparent_palette(tmp_path):
    image = Image.fromarray(RGB[0]).convert("P", palette=Image.Palette.ADAPTIVE)
    image.save(write_folder(tmp_path, GREY) / "cat/1.png", transparency=0)
    refused("image '.*/cat/1.png' has transparent pixels", tmp_path)


def test_load_data_explains_the_structure_of_a_folder(tmp_path):
    structure = "must contain a folder for each class, such as cat/1.png and dog/1.png"
    refused(f"contains no folders; a folder of images {structure}", tmp_path)
    write_folder(tmp_path, GREY)
    (tmp_path / "eel").mkdir()
    refused(f"eel' contains no images .*.jpg, .*{structure}", tmp_path)
    nested = tmp_path / "nested/train"
    write_folder(nested, GREY)
    refused("nested/train' contains no images", nested.parent)


def test_load_data_refuses_a_folder_with_one_class(tmp_path):
    write_folder(tmp_path / "pets", GREY)
    shutil.rmtree(tmp_path / "pets/cat")
    refused("pets: every label is 'dog'; at least two classes are needed", tmp_path / "pets")


def test_load_data_refuses_images_that_do_not_fit_into_memory(tmp_path, monkeypatch):
    memory = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=6 * 4 * 5 * 5 - 1))
    refused(
        "pets: 6 images of 5x4 pixels need 0.0 GiB of memory, but 0.0 GiB are available; use fewer or",
        write_folder(tmp_path / "pets", GREY),
    )


def test_load_data_without_pillow_names_its_package(tmp_path, monkeypatch):
    write_folder(tmp_path, GREY)
    monkeypatch.setitem(sys.modules, "PIL", None)
    refused("images need Pillow: install it with pip install pillow", tmp_path)


def test_compare_verb_compares_on_a_folder_of_images(tmp_path, capsys):
    write_folder(tmp_path / "pets", np.random.default_rng(0).integers(0, 256, (24, 4, 4, 3), np.uint8))
    call = "compare relu tanh --no-tune --epochs 1 --folds 2 --quiet --data pets".split()
    assert main([*call, "--module", "actlab.models:ConvNet"]) == 0
    (tmp_path / "pets/dog/19.png").write_bytes(b"broken")
    assert "cannot read image 'pets/dog/19.png'" in refused_in_one_line(capsys, *call)
