"""The tutorial: its lessons run from top to bottom, and the notebooks that are stored are those lessons."""

import base64
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "docs" / "tutorial").glob("[0-9]*.py"))
LESSONS = [source.stem for source in SOURCES]
STORED = [source.with_suffix(".ipynb") for source in SOURCES]
# A folder of somebody's machine: /home/..., /tmp/..., C:\Users...; a web address is none.
ABSOLUTE = re.compile(
    r"(?<![\w:/.])(?:~|/(?:home|root|tmp|usr|opt|work|Users|private|var|mnt)\b)/|\b[A-Z]:\\"
)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Return the lessons by name, executed with scikit-learn's digits."""
    folder = tmp_path_factory.mktemp("tutorial")
    settings = {name: value for name, value in os.environ.items() if not name.startswith("ACTLAB_")}
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "make_tutorial.py"), str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env=settings,
        timeout=540,
    )
    assert done.returncode == 0, done.stderr
    return {lesson: jupytext.read(folder / f"{lesson}.ipynb") for lesson in LESSONS}


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def printed(notebook):
    return "".join(output.text for output in outputs(notebook) if output.output_type == "stream")


def images(notebook):
    found = [
        output.data["image/png"] for output in outputs(notebook) if "image/png" in output.get("data", {})
    ]
    return [base64.b64decode(image) for image in found]


def texts(notebook):
    """Return everything that a reader sees of the outputs, beside pictures and HiPlot's page."""
    shown = [text for output in outputs(notebook) for text in output.get("data", {}).items()]
    return [printed(notebook), *(text for kind, text in shown if kind.startswith("text/"))]


def test_every_lesson_runs_and_draws(executed):
    drawn = {lesson: len(images(notebook)) for lesson, notebook in executed.items()}
    assert drawn == {"01_why": 4, "02_write_relu": 0, "03_train": 2, "04_compare": 2, "05_invent": 2}
    for notebook in executed.values():
        assert all(output.get("name") != "stderr" for output in outputs(notebook))
        assert all(image.startswith(b"\x89PNG") and len(image) > 5000 for image in images(notebook))


def test_the_first_lesson_folds_the_plane(executed):
    said = printed(executed["01_why"])
    linear, bent = re.search(r"linear: ([\d.]+)% right, ReLU: ([\d.]+)% right", said).groups()
    assert float(linear) <= 76
    assert float(bent) >= 99
    assert "two units, weights by hand: 100.0% right" in said
    passed = re.findall(r"that pass: +([\d.]+)%", said)
    assert len(passed) == 2
    assert passed[0] == passed[1]


def test_the_notebooks_relu_fails_at_its_kink_and_the_mended_one_does_not(executed):
    said = printed(executed["02_write_relu"])
    assert "ReLUFunction: 1 fail, 3 unsupported" in said
    assert re.search(r"^kinks +fail +f'\(0\) = 1", said, re.MULTILINE)
    assert "ours:    [1.0, 1.0, 1.0]\ntorch's: [0.0, 0.0, 0.0]" in said
    assert "kinks: pass\nReLUFunction: 1 unsupported, 35 pass" in said
    assert "z = [[3.0, -2.0, 1.0]]   h = [[3.0, 0.0, 1.0]]   y = 10.0" in said
    shown = [output.data["text/plain"] for output in outputs(executed["02_write_relu"]) if "data" in output]
    assert shown[0].split() == "tensor([[2., 2.], [0., 0.], [4., 4.]])".split()


def test_tanh_as_in_the_books_is_not_a_number_where_torchs_is_1(executed):
    said = printed(executed["02_write_relu"])
    assert "finite float32: f(-89.1123) = nan, expected -1" in said
    assert "gradcheck: True" in said
    for name in ("TanhFunction", "SigmoidFunction", "leaky_relu"):
        assert f"{name}: 1 unsupported, 35 pass" in said
    for name in ("my_relu", "my_leaky_relu"):
        assert f"{name}: 42 pass, 1 not applicable" in said
    apart = re.findall(r"largest difference (\S+)", said)
    assert len(apart) == 4
    assert max(map(float, apart)) < 1e-7
    assert "first derivative: pass\nsecond derivative: fail" in said


def test_the_third_lesson_trains_25_epochs_and_overfits(executed):
    said = printed(executed["03_train"])
    assert re.search(r"^ +25 ", said, re.MULTILINE)
    assert re.search(r"^Best epoch: \d+ of 25", said, re.MULTILINE)
    assert re.search(r"^Overfitting starts after epoch \d+", said, re.MULTILINE)


@pytest.mark.parametrize("lesson", ["03_train", "04_compare"])
def test_hiplot_is_shown_as_a_page(executed, lesson):
    assert sum("<iframe" in text for text in texts(executed[lesson])) == 1


def test_the_fleet_gives_the_grid_searches_results(executed):
    searched, fleet, apart = [
        text for text in texts(executed["04_compare"]) if text.lstrip().startswith("fold 1")
    ]
    assert searched == fleet
    assert set(re.findall(r" (\d+)(?= |$)", apart.split("\n", 1)[1])) == {"0"}


def test_the_verdicts_are_those_that_the_text_names(executed):
    said = printed(executed["04_compare"])
    assert "relu and leaky_relu are practically" in said or "leaky_relu and relu are practically" in said
    assert said.count("sigmoid is worse than") == 3
    assert re.search(r"tanh and relu: undecided|relu and tanh: undecided", said)


def test_an_idea_fails_as_it_stands_and_passes_as_a_formula(executed):
    said = printed(executed["05_invent"])
    assert "passed: False" in said
    assert "finite float32: f(-1.99526e+19) = inf, expected -0.5" in said
    assert "smooth_relu: 42 pass, 1 not applicable" in said


@pytest.mark.parametrize("source", SOURCES, ids=LESSONS)
def test_a_stored_notebook_is_its_lesson(source):
    lesson, stored = jupytext.read(source), jupytext.read(source.with_suffix(".ipynb"))
    assert cells(stored) == cells(lesson), "run python docs/make_tutorial.py"


def cells(notebook):
    return [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in notebook.cells]


@pytest.mark.parametrize("path", STORED, ids=LESSONS)
def test_a_stored_notebook_was_executed_on_mnist_without_errors(path):
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
def test_no_stored_output_names_a_folder_of_a_machine(path):
    found = [ABSOLUTE.search(text) for text in texts(jupytext.read(path))]
    assert [match.group() for match in found if match] == []


def test_a_lesson_keeps_its_outputs_until_its_code_changes(tmp_path):
    spec = importlib.util.spec_from_file_location("make_tutorial", ROOT / "docs" / "make_tutorial.py")
    make_tutorial = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_tutorial)
    source = SOURCES[0]
    lesson, text = tmp_path / source.name, source.read_text(encoding="utf-8")
    lesson.write_text(text.replace("# ## Common shapes", "# ## Four shapes"), encoding="utf-8")
    assert make_tutorial.kept(lesson) is None
    shutil.copy(source.with_suffix(".ipynb"), tmp_path)
    kept = make_tutorial.kept(lesson)
    assert len(images(kept)) == 4
    assert any("## Four shapes" in cell.source for cell in kept.cells)
    lesson.write_text(text.replace("torch.manual_seed(3)", "torch.manual_seed(4)"), encoding="utf-8")
    assert make_tutorial.kept(lesson) is None


def test_a_folder_of_a_machine_is_recognised():
    for text in ("/home/me/x", "in /tmp/a", "'/root/b'", r"C:\Users\me", "~/data"):
        assert ABSOLUTE.search(text)
    for text in ("https://example.org/home/x", "ns/element", "1/2", "GridSearchCV 1.2 s, a/tmp/b"):
        assert not ABSOLUTE.search(text)
