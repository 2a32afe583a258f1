"""The verb ``completion``: its scripts, used in a real bash."""

import shutil
import subprocess

import pytest

from tests.command_line import actlab, in_empty_folder, main, refused  # noqa: F401


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    process = actlab("completion", "bash")
    assert (process.returncode, process.stderr) == (0, "")
    path = tmp_path_factory.mktemp("completion") / "actlab.bash"
    path.write_text(process.stdout)
    return path


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("actlab sh", ["show"]),
        ("actlab ledger me", ["merge"]),
        ("actlab show gel", ["gelu"]),
        ("actlab compare relu mis", ["mish"]),
        ("actlab train --activation swi", ["swiglu", "swish"]),
        ("actlab compare relu --fol", ["--folds"]),
        ("actlab check my_", ["my_relu.py"]),
        ("actlab compare relu --data my_", ["my_data.npz"]),
        ("actlab train --data di", ["diabetes", "digits"]),
        ("actlab time relu --dtype b", ["bfloat16"]),
        ("actlab compare relu --precision b", ["bf16"]),
        ("actlab compare relu --optimizer rm", ["rmsprop"]),
        ("actlab train --schedule co", ["cosine"]),
        ("actlab completion b", ["bash"]),
        ("actlab frobnicate gel", []),
    ],
)
def test_completion_script_completes_in_bash(script, tmp_path, words, completed):
    for name in ("my_relu.py", "my_data.npz"):
        (tmp_path / name).touch()
    array = " ".join(words.split())
    command = (
        f"source {script}; COMP_WORDS=({array}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); "
        "$(complete -p actlab | sed 's/.*-F \\([^ ]*\\).*/\\1/') 2>&1; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    shell = shutil.which("bash")
    assert shell
    process = subprocess.run([shell, "-c", command], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert sorted(process.stdout.split()) == completed, process.stderr


def test_completion_prints_a_script_for_zsh(capsys):
    assert main(["completion", "zsh"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("#compdef actlab")
    assert "compadd" in out


def test_completion_rejects_another_shell(capsys):
    assert "invalid choice: 'fish'" in refused(capsys, "completion", "fish")
