"""The generated pages: one for every activation, read off its definition."""

import subprocess
import sys
from pathlib import Path

import actlab

SCRIPT = Path(__file__).parents[1] / "docs" / "make_pages.py"


def test_every_activation_gets_its_page_and_picture(tmp_path):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [name for name, activation in actlab.catalogue.items() if not activation.facts.gated]
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {f"{n}.md" for n in actlab.catalogue} | {f"{n}.png" for n in lines} | {"index.md"}
    page = (tmp_path / "leaky_relu.md").read_text(encoding="utf-8")
    assert "| formula | `where(x > 0, x, negative_slope * x)` |" in page
    assert "| kinks | f'(0) = 0.01 |" in page
    assert "![f, its derivative and its second derivative](leaky_relu.png)" in page
    assert "| -3 | -0.03 | 0.01 | 0 |" in page
