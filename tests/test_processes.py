"""Worker processes and shared folders, and that none of them remain."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import actlab
from actlab.errors import UsageError
from actlab.execution.processes import count_processes, create_shared_folder, share_arrays, start_processes
from tests.fleet_runs import SHM, have_ended, in_memory, list_shared_memory, list_workers
from tests.ledger_cases import mount_disk
from tests.processes import list_session, start_process, wait_until

__all__ = ["list_shared_memory"]


@pytest.mark.parametrize(("jobs", "number"), [(1, 1), (3, 3), (-1, os.cpu_count()), (-1000, 1)])
def test_count_processes_counts_jobs_like_scikit_learn(jobs, number):
    assert count_processes(jobs) == number
    assert count_processes(None) == torch.get_num_threads()


def test_count_processes_is_1_in_a_worker_process():
    with start_processes(2) as executor:
        assert executor.submit(count_processes, None).result() == 1


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="processes are looked up in /proc")
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_processes_are_reused_and_end_after_an_exception(error):
    def fail():
        with start_processes(2) as executor:
            assert list_workers(executor) == pids
            raise error

    with start_processes(2) as executor:
        pids = list_workers(executor)
        assert len(pids) == 2
    assert not have_ended(pids, seconds=0)
    with pytest.raises(error):
        fail()
    assert have_ended(pids)


@in_memory
@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_create_shared_folder_is_deleted_after_its_block(error, list_shared_memory):
    with contextlib.suppress(*filter(None, [error])), create_shared_folder(1000) as folder:
        assert list_shared_memory() == {folder}
        (folder / "X.npy").write_bytes(b"1")
        if error:
            raise error
    assert not folder.exists()


@in_memory
def test_create_shared_folder_is_deleted_during_concurrent_writes(list_shared_memory):
    def write():
        with contextlib.suppress(FileNotFoundError):
            for number in itertools.count():
                (folder / f"{number}").write_bytes(b".")

    for _ in range(30):
        with create_shared_folder(1000) as folder:
            writers = [threading.Thread(target=write) for _ in range(2)]
            for writer in writers:
                writer.start()
            time.sleep(0.005)
        for writer in writers:
            writer.join(10)
            assert not writer.is_alive()
    assert list_shared_memory() == set()


def test_create_shared_folder_falls_back_to_disk():
    with create_shared_folder(1 << 60) as folder:
        assert not folder.is_relative_to(SHM)
        assert folder.is_dir()
    assert not folder.exists()


HOLDER = """
import time
from actlab.execution.processes import create_shared_folder
with create_shared_folder(1000) as folder:
    (folder / "X.npy").write_bytes(bytes(1000))
    print(folder, flush=True)
    time.sleep(600)
"""


@in_memory
def test_create_shared_folder_removes_leftovers_of_killed_processes():
    holder = [sys.executable, "-c", HOLDER]
    pipe = {"stdout": subprocess.PIPE, "text": True}
    with start_process(holder, **pipe) as dead, start_process(holder, **pipe) as alive:
        leftover, active = (Path(process.stdout.readline().strip()) for process in (dead, alive))
        dead.kill()
        dead.wait()
        assert leftover.exists()
        with create_shared_folder(0):
            assert not leftover.exists()
            assert (active / "X.npy").exists()
        assert (active / "X.npy").exists()
        alive.send_signal(signal.SIGINT)
        alive.wait()
        assert not active.exists()


def test_share_arrays_reports_missing_space_in_one_line(tmp_path, monkeypatch):
    with mount_disk(tmp_path / "disk", 1_000_000) as folder, start_processes(2) as executor:
        monkeypatch.setattr("actlab.execution.processes._MEMORY", folder / "missing")
        monkeypatch.setattr("tempfile.tempdir", str(folder))
        rows = np.zeros((1000, 1000), np.float32)
        message = rf"^{folder} has no room for 4 MiB of data that the processes share; set TMPDIR"
        with pytest.raises(UsageError, match=message), share_arrays(executor, rows, rows[:, 0]):
            pass
        assert list(folder.iterdir()) == []
        with share_arrays(executor, rows[:100], rows[:100, 0]) as shared:
            assert executor.submit(shared.load).result()[0].shape == (100, 1000)


PARENT = """
import time
from actlab.execution.processes import start_processes
with start_processes(2) as executor:
    for seconds in (0.0, 600.0):
        executor.submit(time.sleep, seconds)
    print("started", flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="processes are looked up in /proc")
@pytest.mark.parametrize("wait", [0.0, 4.0], ids=["starting", "at work"])
def test_processes_end_with_their_killed_parent(wait):
    command = [sys.executable, "-c", PARENT]
    with start_process(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout.readline() == "started\n"
        time.sleep(wait)
        parent.kill()
        parent.wait()
        assert wait_until(lambda: not list_session(parent.pid))


SHIFTED = """
import torch

class Shifted(torch.nn.Module):
    def forward(self, x):
        return torch.tanh(x) + {}
"""


def test_processes_follow_a_change_of_the_working_directory(tmp_path, monkeypatch):
    data = actlab.load_data("digits")
    for name, shift in (("first", "0.0"), ("second", "1.0")):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        Path("here.py").write_text(SHIFTED.format(shift))
        both = [
            actlab.compare(["here.py:Shifted"], data, epochs=2, jobs=jobs, tune=None).results
            for jobs in (2, 1)
        ]
        assert both[0]["loss"].notna().all()
        assert both[0]["loss"].tolist() == both[1]["loss"].tolist()
