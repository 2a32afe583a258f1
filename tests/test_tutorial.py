"""The tutorial: its lessons run from top to bottom, and the stored notebooks match the lessons."""

import base64
import importlib.util
import os
import re
import shutil
import sys
from pathlib import Path

import jupytext
import pytest

from tests.processes import run_process

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "docs" / "tutorial").glob("[0-9]*.py"))
LESSONS = [source.stem for source in SOURCES]
STORED = [source.with_suffix(".ipynb") for source in SOURCES]
# An absolute path such as /home/..., /tmp/... or C:\Users...; web addresses do not match.
ABSOLUTE = re.compile(
    r"(?<![\w:/.])(?:~|/(?:home|root|tmp|usr|opt|work|Users|private|var|mnt)\b)/|\b[A-Z]:\\"
)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Return the notebooks by lesson name, executed with scikit-learn's digits."""
    folder = tmp_path_factory.mktemp("tutorial")
    settings = {name: value for name, value in os.environ.items() if not name.startswith("ACTLAB_")}
    command = [sys.executable, ROOT / "docs" / "make_tutorial.py", folder]
    process = run_process(command, 1800, env=settings)
    assert process.returncode == 0, process.stderr
    return {lesson: jupytext.read(folder / f"{lesson}.ipynb") for lesson in LESSONS}


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def printed_text(notebook):
    return "".join(output.text for output in outputs(notebook) if output.output_type == "stream")


def images(notebook):
    matches = [
        output.data["image/png"] for output in outputs(notebook) if "image/png" in output.get("data", {})
    ]
    return [base64.b64decode(image) for image in matches]


def texts(notebook):
    """Return all outputs as text, except pictures and the HiPlot page."""
    shown = [text for output in outputs(notebook) for text in output.get("data", {}).items()]
    return [printed_text(notebook), *(text for kind, text in shown if kind.startswith("text/"))]


def test_tutorial_lessons_run_and_draw(executed):
    drawn = {lesson: len(images(notebook)) for lesson, notebook in executed.items()}
    assert drawn == {
        "01_why": 4,
        "02_write_relu": 0,
        "03_train": 2,
        "04_compare": 2,
        "05_invent": 2,
        "06_your_own": 0,
    }
    for notebook in executed.values():
        assert all(output.get("name") != "stderr" for output in outputs(notebook))
        assert all(image.startswith(b"\x89PNG") and len(image) > 5000 for image in images(notebook))


def test_tutorial_why_separates_classes_with_relu_only(executed):
    output_text = printed_text(executed["01_why"])
    linear, bent = re.search(r"linear: ([\d.]+)% correct, ReLU: ([\d.]+)% correct", output_text).groups()
    assert float(linear) <= 76
    assert float(bent) >= 99
    assert "two units, chosen weights: 100.0% correct" in output_text
    passed = re.findall(r"that pass: +([\d.]+)%", output_text)
    assert len(passed) == 2
    assert passed[0] == passed[1]


def test_tutorial_write_relu_fails_at_the_kink_and_its_correction_passes(executed):
    output_text = printed_text(executed["02_write_relu"])
    assert "ReLUFunction: 1 fail, 3 unsupported" in output_text
    assert re.search(r"^kinks +fail +f'\(0\) = 1", output_text, re.MULTILINE)
    assert "ours:    [1.0, 1.0, 1.0]\ntorch's: [0.0, 0.0, 0.0]" in output_text
    assert "kinks: pass\nReLUFunction: 1 unsupported, 35 pass" in output_text
    assert "z = [[3.0, -2.0, 1.0]]   h = [[3.0, 0.0, 1.0]]   y = 10.0" in output_text
    shown = [output.data["text/plain"] for output in outputs(executed["02_write_relu"]) if "data" in output]
    assert shown[0].split() == "tensor([[2., 2.], [0., 0.], [4., 4.]])".split()


def test_tutorial_write_relu_shows_nan_of_textbook_tanh(executed):
    output_text = printed_text(executed["02_write_relu"])
    assert "finite float32: f(-89.1123) = nan, expected -1" in output_text
    assert "gradcheck: True" in output_text
    for name in ("TanhFunction", "SigmoidFunction", "leaky_relu"):
        assert f"{name}: 1 unsupported, 35 pass" in output_text
    for name in ("my_relu", "my_leaky_relu"):
        assert f"{name}: 42 pass, 1 not applicable" in output_text
    differences = re.findall(r"largest difference (\S+)", output_text)
    assert len(differences) == 4
    assert max(map(float, differences)) < 1e-7
    assert "first derivative: pass\nsecond derivative: fail" in output_text


def test_tutorial_train_runs_25_epochs_and_overfits(executed):
    output_text = printed_text(executed["03_train"])
    assert re.search(r"^ +25 ", output_text, re.MULTILINE)
    assert re.search(r"^Best epoch: \d+ of 25", output_text, re.MULTILINE)
    assert re.search(r"^Overfitting starts after epoch \d+", output_text, re.MULTILINE)


@pytest.mark.parametrize("lesson", ["03_train", "04_compare"])
def test_tutorial_shows_the_hiplot_page(executed, lesson):
    assert sum("<iframe" in text for text in texts(executed[lesson])) == 1


def test_tutorial_compare_fleet_equals_grid_search(executed):
    searched, fleet, differences = [
        text for text in texts(executed["04_compare"]) if text.lstrip().startswith("fold 1")
    ]
    assert searched == fleet
    assert set(re.findall(r" (\d+)(?= |$)", differences.split("\n", 1)[1])) == {"0"}


def test_tutorial_compare_verdicts_match_the_text(executed):
    output_text = printed_text(executed["04_compare"])
    assert (
        "relu and leaky_relu are practically" in output_text
        or "leaky_relu and relu are practically" in output_text
    )
    assert output_text.count("sigmoid is worse than") == 4  # three pairs, and the settings as given
    assert "the difference comes from the settings" in output_text
    assert re.search(r"tanh and relu: undecided|relu and tanh: undecided", output_text)
    assert "Tuning does not change which activations are significantly worse." in output_text
    assert "relu is worse than sine(omega=3) by" in output_text


def test_tutorial_your_own_compares_objects_on_a_table(executed):
    notebook = executed["06_your_own"]
    output_text = printed_text(notebook)
    assert output_text.startswith("passed: True")
    assert output_text.count("Comparison on DataFrame: 3 activations, 18 runs") == 2
    means = re.findall(r"^ +\d  (?:Snake|ReLU|tanh) +([\d.]+)", output_text, re.MULTILINE)
    assert len(means) == 6
    assert min(map(float, means)) > 0.8
    assert re.search(r"^\| 1 \| (?:Snake|ReLU|tanh) \| \d\d\.\d\d ± ", output_text, re.MULTILINE)
    shown = [
        output.data["text/html"] for output in outputs(notebook) if "text/html" in output.get("data", {})
    ]
    assert len(shown) == 3  # the table, the comparison and the trained parameters
    assert "<svg" in shown[1]


def test_tutorial_invent_fails_as_code_and_passes_as_a_formula(executed):
    output_text = printed_text(executed["05_invent"])
    assert "passed: False" in output_text
    assert "finite float32: f(-1.99526e+19) = inf, expected -0.5" in output_text
    assert "smooth_relu: 42 pass, 1 not applicable" in output_text


@pytest.mark.parametrize("source", SOURCES, ids=LESSONS)
def test_tutorial_stored_notebook_matches_its_lesson(source):
    lesson, stored = jupytext.read(source), jupytext.read(source.with_suffix(".ipynb"))
    assert cells(stored) == cells(lesson), "run python docs/make_tutorial.py"


def cells(notebook):
    return [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in notebook.cells]


@pytest.mark.parametrize("path", STORED, ids=LESSONS)
def test_tutorial_stored_notebook_was_executed_on_mnist_without_errors(path):
    notebook = jupytext.read(path)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert all(
        output.output_type != "error" and output.get("name") != "stderr" for output in outputs(notebook)
    )
    assert path.stat().st_size < 600_000
    photographs = [cell for cell in notebook.cells if "photograph" in cell.metadata.get("tags", [])]
    assert all([set(output.data) for output in cell.outputs] == [{"image/png"}] for cell in photographs)


@pytest.mark.parametrize("path", STORED, ids=LESSONS)
def test_tutorial_stored_outputs_contain_no_absolute_path(path):
    matches = [ABSOLUTE.search(text) for text in texts(jupytext.read(path))]
    assert [match.group() for match in matches if match] == []


def test_make_tutorial_keeps_outputs_until_the_code_changes(tmp_path):
    spec = importlib.util.spec_from_file_location("make_tutorial", ROOT / "docs" / "make_tutorial.py")
    make_tutorial = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_tutorial)
    source = SOURCES[0]
    lesson, text = tmp_path / source.name, source.read_text(encoding="utf-8")
    lesson.write_text(text.replace("# ## Common activations", "# ## Four shapes"), encoding="utf-8")
    assert make_tutorial.load_outputs(lesson) is None
    shutil.copy(source.with_suffix(".ipynb"), tmp_path)
    notebook = make_tutorial.load_outputs(lesson)
    assert len(images(notebook)) == 4
    assert any("## Four shapes" in cell.source for cell in notebook.cells)
    lesson.write_text(text.replace("torch.manual_seed(3)", "torch.manual_seed(4)"), encoding="utf-8")
    assert make_tutorial.load_outputs(lesson) is None


def test_absolute_path_pattern_matches_only_local_paths():
    for text in ("/home/me/x", "in /tmp/a", "'/root/b'", r"C:\Users\me", "~/data"):
        assert ABSOLUTE.search(text)
    for text in ("https://example.org/home/x", "ns/element", "1/2", "GridSearchCV 1.2 s, a/tmp/b"):
        assert not ABSOLUTE.search(text)
