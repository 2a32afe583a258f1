"""The ledger: nothing is lost, nothing is there twice, what is wrong with the file is said in one line."""

from __future__ import annotations

import collections
import contextlib
import json
import logging
import math
import os
import random
import signal
import sqlite3
import struct
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as tried
from hypothesis import strategies as st

from actlab import _ledger_file
from actlab import ledger as ledger_module
from actlab._errors import UsageError
from actlab._ledger_file import MIGRATIONS, networked
from actlab._ledger_owner import Process
from actlab._ledger_rows import dumps, loads
from actlab.ledger import RUN_COLUMNS, Entry, Ledger
from tests.ledgers import (
    disk,
    ended,
    entry,
    epochs,
    forked,
    holder,
    key,
    killed,
    raw,
    remounted,
    settings,
)

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.db"


@pytest.fixture
def three(path):
    """A ledger of three runs, closed."""
    with Ledger(path) as ledger:
        ledger.record([entry(number) for number in range(3)])
    return path


def refusal(path, **options):
    """Return what is said about a file, which must stay as it is."""
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(UsageError) as caught, contextlib.closing(Ledger(path, **options)) as ledger:
        ledger.results([key(number) for number in range(3)])
    assert before == (path.read_bytes() if path.is_file() else None)
    said = str(caught.value)
    assert "\n" not in said
    assert repr(str(path)) in said
    return said


def bits(value):
    """Return a value so that it is equal to itself only, to the last bit."""
    return (type(value), struct.pack("d", value) if isinstance(value, float) else value)


# What is recorded comes back


floats = st.floats(allow_nan=False) | st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 5e-324, 1e-310])
figures = st.dictionaries(
    st.text(max_size=8), floats | st.booleans() | st.integers() | st.text(max_size=5) | st.none(), max_size=5
)


@given(
    histories=st.lists(st.lists(figures, max_size=4), min_size=1, max_size=3),
    numbers=st.tuples(floats, floats, floats),
    texts=st.tuples(*[st.text(max_size=10)] * 3),
    passing=st.booleans(),
)
@tried(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_results_come_back_to_the_last_bit(tmp_path, histories, numbers, texts, passing):
    path = tmp_path / "runs.db"
    path.unlink(missing_ok=True)
    loss, acc, seconds = numbers
    how, alone, failure = texts
    own = {"test_loss": loss, "test_acc": acc, "seconds": seconds}
    own |= {"how": how, "alone": alone, "failure": failure, "passing": passing}
    entries = [entry(number, history=history, **own) for number, history in enumerate(histories)]
    with Ledger(path) as ledger:
        ledger.record(entries)
    with Ledger(path, readonly=True) as ledger:
        found = ledger.results([one.key for one in entries])
    assert list(found) == [one.key for one in entries]
    for result, history in zip(found.values(), histories, strict=True):
        assert [[(n, bits(v)) for n, v in row.items()] for row in result.history] == [
            [(n, bits(v)) for n, v in row.items()] for row in history
        ]
        for name, value in own.items():
            assert bits(getattr(result, name)) == bits(value), name


@pytest.mark.parametrize(
    "dtype",
    [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool],
    ids=str,
)
def test_weights_come_back_in_every_dtype_and_in_their_order(path, dtype):
    matrix = torch.randn(4, 6).mul(100).to(dtype)
    weights = {"z.weight": matrix.t(), "a.weight": matrix[1], "tied": matrix[1]}
    weights |= {"count": torch.tensor(3).to(dtype), "none": torch.zeros(0, 3, dtype=dtype)}
    with Ledger(path, weights=True) as ledger:
        ledger.record([entry(0, weights=weights), entry(1)])
        found = ledger.results([key(0), key(1)])
    assert found[key(1)].weights == {}
    assert list(found[key(0)].weights) == list(weights)
    for name, tensor in found[key(0)].weights.items():
        assert tensor.dtype == dtype
        assert tensor.shape == weights[name].shape
        assert torch.equal(tensor, weights[name])


def test_weights_keep_nan_and_the_sign_of_zero(path):
    odd = torch.tensor([math.nan, -0.0, math.inf, 1e-45])
    with Ledger(path, weights=True) as ledger:
        ledger.record([entry(0, weights={"w": odd})])
        found = ledger.results([key(0)])[key(0)].weights["w"]
    assert torch.equal(found.view(torch.int32), odd.view(torch.int32))


def test_weights_are_kept_only_if_they_are_wanted(path):
    with Ledger(path) as ledger:
        ledger.record([entry(0, weights={"w": torch.ones(3)})])
        assert ledger.results([key(0)])[key(0)].weights == {}


def test_a_run_whose_weights_cannot_be_written_is_recorded_without_them(path, caplog):
    with Ledger(path, weights=True) as ledger:
        ledger.record([entry(0, weights={"w": torch.ones(2, dtype=torch.complex128)})])
        assert ledger.results([key(0)])[key(0)].weights == {}
    assert "weights are not kept" in caplog.text


def test_numbers_of_numpy_become_plain_ones():
    assert loads(
        dumps({"a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True), "d": [np.float32("inf")]})
    ) == {
        "a": 0.5,
        "b": 3,
        "c": True,
        "d": [math.inf],
    }


@given(figures)
def test_what_is_written_is_standard_json(row):
    def constant(name):
        raise AssertionError(f"{name} is no JSON")

    json.loads(dumps(row), parse_constant=constant)


def test_text_that_is_no_unicode_is_spelt_out(path):
    with Ledger(path) as ledger:
        ledger.record([entry(0, failure="no file 'caf\udce9'")])
        assert ledger.results([key(0)])[key(0)].failure == "no file 'caf\\udce9'"


def test_what_cannot_be_recorded_leaves_the_fleet_out_as_a_whole(path):
    with Ledger(path) as ledger:
        with pytest.raises(TypeError, match="cannot be recorded"):
            ledger.record([entry(0), entry(1, history=[{"a": object()}])])
        assert ledger.results([key(0), key(1)]) == {}
        ledger.record([entry(0)])
        assert list(ledger.results([key(1), key(0)])) == [key(0)]


def test_runs_and_history_are_tables(path):
    with Ledger(path) as ledger:
        assert ledger.runs().columns.tolist() == list(RUN_COLUMNS)
        assert ledger.history().columns.tolist() == ["key", "epoch"]
        failed = entry(1, history=[], failure="diverged", alone="a net of its own", test_acc=math.nan)
        ledger.record([entry(0), failed])
        runs, history = ledger.runs(), ledger.history()
        assert ledger.settings(key(1)) == settings(1)
        with pytest.raises(UsageError, match="has no run 'abc'"):
            ledger.settings("abc")
    assert runs.columns.tolist() == list(RUN_COLUMNS)
    assert runs["key"].tolist() == [key(0), key(1)]
    assert runs["seed"].tolist() == [0, 1]
    assert runs["epochs"].tolist() == [3, 0]
    assert runs["failure"].tolist() == ["", "diverged"]
    assert runs["test_acc"].dtype == float
    assert runs["test_acc"].isna().tolist() == [False, True]
    assert set(runs["finished"].str[-6:]) == {"+00:00"}
    assert history.columns.tolist() == ["key", "epoch", "train_loss", "train_loss_best"]
    assert history["epoch"].tolist() == [1, 2, 3]
    assert history["train_loss_best"].tolist() == [True, False, False]


# Once, and compared


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"test_loss": 0.2524}, None),
        ({"test_loss": 0.26}, "test_loss is 0.25 here and 0.26 in a second result"),
        ({"test_loss": math.nan}, "test_loss is 0.25 here and nan in a second result"),
        ({"test_acc": 0.7599}, None),
        ({"test_acc": 0.77}, "test_acc is 0.75 here and 0.77 in a second result"),
        ({"history": epochs(train_loss=0.504)}, None),
        ({"history": epochs(train_loss=0.52)}, "train_loss is 0.5 here and 0.52 in a second result"),
        ({"history": epochs(2)}, "epochs is 3 here and 2 in a second result"),
        ({"failure": "no memory"}, "failure is none here and no memory in a second result"),
        ({"seconds": 99.0, "how": "by autograd"}, None),
    ],
)
def test_the_first_result_stays_and_a_second_is_compared(path, caplog, changes, said):
    with Ledger(path) as ledger:
        ledger.record([entry(0)])
        sentences = ledger.record([entry(0, **changes), entry(1)])
        assert ledger.results([key(0)])[key(0)] == entry(0).result
        assert list(ledger.results([key(1)])) == [key(1)]
        assert len(ledger.runs()) == 2
        assert ledger.verify() == sentences
    expected = [] if said is None else [f"run {key(0)[:12]}: {said}; the first stays"]
    assert sentences == expected
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == expected


def test_how_a_diverged_run_ends_is_not_compared(path):
    ends = [{"history": epochs(train_loss=loss), "failure": "diverged"} for loss in (math.inf, math.nan)]
    with Ledger(path) as ledger:
        assert [ledger.record([entry(0, **end)]) for end in ends] == [[], []]


def test_weights_are_filled_in_if_the_results_agree(path):
    ones, twos = ({"w": torch.full((3,), value)} for value in (1.0, 2.0))
    with Ledger(path) as ledger:
        ledger.record([entry(0), entry(1)])
    with Ledger(path, weights=True) as ledger:
        ledger.record([entry(0, weights=ones), entry(1, weights=ones, test_acc=0.1)])
        ledger.record([entry(0, weights=twos)])
        found = ledger.results([key(0), key(1)])
    assert found[key(0)].weights["w"].tolist() == [1, 1, 1]
    assert found[key(1)].weights == {}


# Claims


def test_a_claim_is_for_one_owner_and_for_runs_that_are_not_finished(path):
    with Ledger(path) as one, Ledger(path) as two:
        one.record([entry(0)])
        assert one.claim([key(0), key(1)]) == {key(1)}
        assert one.claim([key(1), key(2)]) == {key(1), key(2)}
        assert two.claim([key(2), key(3)]) is None
        assert two.claim([key(3)]) == {key(3)}
        assert two.claim([key(0)]) == frozenset()
        assert sorted(two.claims()["runs"]) == [1, 2]
        assert set(two.claims()["pid"]) == {os.getpid()}
        two.release([key(1)])
        assert two.claim([key(1)]) is None
        one.release([key(1)])
        assert two.claim([key(1)]) == {key(1)}
        one.record([entry(2)])
        assert two.claim([key(2)]) == frozenset()
        assert two.claims()["runs"].tolist() == [2]


def test_closing_gives_claims_back(path):
    with Ledger(path) as one:
        with Ledger(path) as two:
            two.claim([key(0)])
            assert one.claim([key(0)]) is None
        assert one.claim([key(0)]) == {key(0)}


def test_a_claim_lasts_as_long_as_it_is_renewed(path, monkeypatch):
    now = time.time()
    monkeypatch.setattr(ledger_module.time, "time", lambda: now)
    with Ledger(path) as one, Ledger(path) as two:
        one.renew()
        one.claim([key(0)])
        now += 50
        assert two.claims()["seconds"].tolist() == [pytest.approx(10, abs=1e-3)]
        one.renew()
        now += 50
        assert two.claim([key(0)]) is None
        now += 11
        assert two.claims().empty
        assert two.claim([key(0)]) == {key(0)}
        one.renew()
        assert one.claim([key(0)]) is None
        assert one.record([entry(0)]) == []  # what was trained all the same is not lost
        assert two.claim([key(0)]) == frozenset()


def test_a_process_that_was_killed_holds_nothing(path):
    owner = holder(path, [key(0)])
    try:
        assert owner.stdout.readline().strip() == str([key(0)])
        with Ledger(path) as ledger:
            assert ledger.claim([key(0), key(1)]) is None
            assert ledger.claims()[["pid", "runs"]].values.tolist() == [[owner.pid, 1]]
            owner.kill()
            while Path(f"/proc/{owner.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                time.sleep(0.01)
            assert ledger.claims().empty
            assert ledger.claim([key(0), key(1)]) == {key(0), key(1)}
    finally:
        owner.kill()
        owner.wait()
        owner.stdout.close()


def test_a_process_is_gone_only_if_that_is_certain():
    here = Process.this()
    change = lambda **columns: Process(**{**vars(here), **columns}).gone(here)  # noqa: E731
    assert here.started
    assert not here.gone(here)
    assert change(started="1"), "another process had the number"
    assert change(pid=2**22 + 1)
    assert change(pid=2**70)
    assert change(boot="before the last start")
    assert not change(pid=2**22 + 1, host="elsewhere")
    assert not change(pid=2**22 + 1, machine="elsewhere")
    assert not change(pid=2**22 + 1, space="a container")


def test_a_ledger_may_be_used_from_many_threads(path):
    with Ledger(path) as ledger:
        work = [
            lambda n=n: [ledger.record([entry(n, fleet)]) or ledger.renew() for fleet in range(5)]
            for n in range(8)
        ]
        threads = [threading.Thread(target=one) for one in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(ledger.runs()) == 40


# Many processes, and crashes


@forks
def test_sixteen_writers_record_every_run_once_and_lose_none(path):
    def writer(own):
        with Ledger(path) as ledger:  # which is made by whoever comes first
            for number in range(0, 50, 5):
                numbers = range(number, number + 5)
                ledger.record([entry(n, fleet="shared" if n % 2 else own) for n in numbers])

    children = [forked(lambda own=own: writer(own)) for own in range(16)]
    assert [ended(child) for child in children] == [0] * 16
    expected = {key(n, "shared" if n % 2 else own) for n in range(50) for own in range(16)}
    with Ledger(path) as ledger:
        keys = ledger.runs()["key"]
        assert len(keys) == len(expected) == 25 * 16 + 25
        assert set(keys) == expected
        assert ledger.verify() == []


@forks
@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_writer_that_is_killed_leaves_whole_fleets(path, monkeypatch, journal):
    if journal == "delete":
        monkeypatch.setattr(_ledger_file, "networked", lambda real, mounts: "nfs4")

    def writer(start, says):
        with Ledger(path, weights=True) as ledger:
            for fleet in range(start, start + 10_000):
                weights = {"w": torch.ones(2000)}
                ledger.record([entry(n, fleet, weights=weights) for n in range(7)])
                os.write(says, b".")

    rng, recorded = random.Random(0), 0
    for time_ in range(15):
        hears, says = os.pipe()
        child = forked(lambda time_=time_, says=says: writer(10_000 * time_, says))
        os.close(says)
        os.read(hears, 1)
        time.sleep(rng.uniform(0, 0.03))
        killed(child)
        said = 1
        while dots := os.read(hears, 1 << 16):
            said += len(dots)
        os.close(hears)
        with Ledger(path, weights=True) as ledger:
            runs = ledger.runs()
            fleets = [ledger.settings(one)["fleet"] for one in runs["key"]]
            sizes = {fleet: fleets.count(fleet) for fleet in fleets}
            assert set(sizes.values()) == {7}
            assert len(sizes) - recorded in (said, said + 1), "what was recorded is there"
            recorded = len(sizes)
    with Ledger(path) as ledger:
        assert ledger.verify() == []


@forks
def test_a_maker_that_is_killed_leaves_nothing_that_hinders_the_next(tmp_path):
    def make(path):
        Ledger(path).close()

    for time_ in range(20):
        path = tmp_path / f"{time_}.db"
        child = forked(lambda path=path: make(path))
        time.sleep(0.0005 * time_)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with Ledger(path) as ledger:
            ledger.record([entry(0)])
            assert ledger.verify() == []


# Disks


def test_a_full_disk_keeps_what_is_finished_and_the_ledger_goes_on_when_there_is_space(tmp_path):
    with disk(tmp_path / "disk", 600_000) as folder:
        ballast = folder / "ballast"
        ballast.write_bytes(bytes(150_000))
        with Ledger(folder / "runs.db") as ledger:
            with pytest.raises(UsageError, match="the disk is full; what is finished is kept"):
                collections.deque(
                    ledger.record([entry(number, fleet) for number in range(4)]) for fleet in range(10_000)
                )
            done, rest = divmod(len(ledger.runs()), 4)
            assert rest == 0
            assert done > 5
            assert ledger.verify() == []
            ballast.unlink()
            ledger.record([entry(number, done) for number in range(4)])
        with Ledger(folder / "runs.db") as ledger:
            assert len(ledger.runs()) == 4 * done + 4
            assert ledger.verify() == []


@pytest.mark.parametrize("free", [0, 16384, 49152], ids=["the file", "shared memory", "the journal"])
def test_a_disk_that_has_no_room_for_a_ledger_is_said(tmp_path, free):
    with disk(tmp_path / "disk", 65536) as folder:
        (folder / "ballast").write_bytes(bytes(65536 - free))
        with pytest.raises(UsageError, match="the disk is full"):
            Ledger(folder / "runs.db")


def test_a_read_only_disk_is_said_and_can_be_read(tmp_path):
    with disk(tmp_path / "disk", 1_000_000) as folder:
        path = folder / "runs.db"
        with Ledger(path) as ledger:
            ledger.record([entry(0)])
        remounted(folder, "ro")
        with pytest.raises(UsageError, match="the file system is read-only"):
            Ledger(path)
        with pytest.raises(UsageError, match="the file system is read-only"):
            Ledger(folder / "new.db")
        with Ledger(path, readonly=True) as ledger:
            assert list(ledger.results([key(0)])) == [key(0)]
            with pytest.raises(UsageError, match="opened read-only"):
                ledger.record([entry(1)])


@forks
def test_a_crash_on_a_disk_that_then_is_read_only_is_no_ledger_without_its_end(tmp_path):
    def crash(path):
        ledger = Ledger(path)
        ledger.record([entry(0)])
        os.kill(os.getpid(), signal.SIGKILL)

    with disk(tmp_path / "disk", 1_000_000) as folder:
        path = folder / "runs.db"
        assert ended(forked(lambda: crash(path))) == -signal.SIGKILL
        Path(f"{path}-shm").unlink()
        remounted(folder, "ro")
        with pytest.raises(UsageError, match="copy both to a folder that can be written"):
            Ledger(path, readonly=True)
        remounted(folder, "rw")
        with Ledger(path, readonly=True) as ledger:
            assert list(ledger.results([key(0)])) == [key(0)]


def test_a_network_file_system_is_recognised():
    mounts = "\n".join(
        [
            "/dev/sda / ext4 rw 0 0",
            "nas:/home /home nfs4 rw 0 0",
            "/dev/sdb /home/kim ext4 rw 0 0",
            "host: /mnt/my\\040share fuse.sshfs rw 0 0",
            "/dev/sdc /mnt/stick fuseblk rw 0 0",
            "a /twice cifs rw 0 0",
            "b /twice xfs rw 0 0",
            "",
            "nonsense",
        ]
    )
    for place, kind in {
        "/runs.db": "",
        "/home/runs.db": "nfs4",
        "/homes/runs.db": "",
        "/home/kim/runs.db": "",
        "/mnt/my share/runs.db": "fuse.sshfs",
        "/mnt/stick/runs.db": "",
        "/twice/runs.db": "",
    }.items():
        assert networked(Path(place), mounts) == kind, place


def test_on_a_network_file_system_there_is_a_rollback_journal(three, monkeypatch, caplog):
    monkeypatch.setattr(_ledger_file, "networked", lambda real, mounts: "nfs4")
    with Ledger(three) as ledger, raw(three) as file:
        assert file.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        ledger.record([entry(3)])
        assert len(ledger.runs()) == 4
    assert "network file system (nfs4): kept with a rollback journal" in caplog.text


def test_without_shared_memory_there_is_a_rollback_journal(path, monkeypatch, caplog):
    connect = sqlite3.connect

    def dotted(name, **options):
        return connect(name if name == ":memory:" else f"{name}&vfs=unix-dotfile", **options)

    monkeypatch.setattr(_ledger_file.sqlite3, "connect", dotted)
    with Ledger(path) as ledger:
        ledger.record([entry(0)])
        assert not Path(f"{path}-wal").exists()
        assert ledger.claim([key(0), key(1)]) == {key(1)}
    assert "file system without shared memory" in caplog.text
    with Ledger(path, readonly=True) as ledger:
        assert list(ledger.results([key(0)])) == [key(0)]


def test_the_usual_ledger_is_one_file_once_it_is_closed(three):
    assert [file.name for file in three.parent.iterdir()] == ["runs.db"]
    with Ledger(three) as ledger, raw(three) as file:
        assert file.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert ledger._connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert ledger._connection.execute("PRAGMA foreign_keys").fetchone() == (1,)
        assert ledger._connection.execute("PRAGMA trusted_schema").fetchone() == (0,)


def test_a_lock_that_stays_is_said(three, monkeypatch):
    monkeypatch.setattr(_ledger_file, "PATIENCE", 0.05)
    with Ledger(three) as ledger, raw(three) as file:
        file.execute("BEGIN IMMEDIATE")
        with pytest.raises(UsageError, match=r"locked by another process for 0\.05 seconds"):
            ledger.record([entry(3)])
        file.execute("ROLLBACK")
        ledger.record([entry(3)])
        assert len(ledger.runs()) == 4


def test_who_makes_a_ledger_waits_for_another_who_does(path):
    locked = threading.Event()

    def other():
        with raw(path) as file:
            file.execute("BEGIN IMMEDIATE")
            locked.set()
            time.sleep(0.2)

    thread = threading.Thread(target=other)
    thread.start()
    locked.wait()
    with Ledger(path) as ledger:
        ledger.record([entry(0)])
    thread.join()


# What is no ledger


@pytest.mark.parametrize(
    "content", [b"activation,accuracy\n" * 300, b"x", bytes(5000)], ids=["csv", "x", "zeros"]
)
def test_a_file_that_is_not_sqlite_is_left_alone(path, content):
    path.write_bytes(content)
    for readonly in (False, True):
        assert "is not a ledger: it is no SQLite file" in refusal(path, readonly=readonly)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_another_applications_file_is_left_alone(path, journal):
    with raw(path) as file:
        file.execute(f"PRAGMA journal_mode = {journal}")
        file.execute("CREATE TABLE run (id INTEGER)")
    for readonly in (False, True):
        assert "is not a ledger but another application's" in refusal(path, readonly=readonly)
    with raw(path) as file:
        assert file.execute("SELECT name FROM sqlite_master").fetchall() == [("run",)]


def test_a_newer_ledger_is_left_alone(three):
    with raw(three) as file:
        file.execute("PRAGMA user_version = 7")
    for readonly in (False, True):
        said = refusal(three, readonly=readonly)
        assert (
            f"was written by a newer actlab (schema 7; this one knows {len(MIGRATIONS)}): update actlab"
            in said
        )


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON run BEGIN DELETE FROM history; END",
        "CREATE VIEW more AS SELECT * FROM run",
        "CREATE TABLE more (a)",
        "ALTER TABLE run ADD COLUMN more TEXT",
        "DROP TABLE claim",
    ],
)
def test_a_ledger_whose_schema_is_not_ours_is_not_read(three, statement):
    with raw(three) as file:
        file.execute(statement)
    for readonly in (False, True):
        assert "is not as actlab makes it" in refusal(three, readonly=readonly)


def test_a_ledger_that_was_analysed_is_read(three):
    with raw(three) as file:
        file.execute("ANALYZE")
    with Ledger(three) as ledger:
        assert len(ledger.runs()) == 3


def test_what_cannot_be_a_ledger_is_said(tmp_path):
    assert "is a folder; name a file in it" in refusal(tmp_path)
    assert "is no regular file" in refusal(Path("/dev/null"))
    absent = tmp_path / "absent" / "runs.db"
    assert refusal(absent, readonly=True) == f"there is no ledger at {str(absent)!r}"
    assert not absent.parent.exists()
    (tmp_path / "file").write_bytes(b"")
    assert "cannot be opened: " in refusal(tmp_path / "file" / "runs.db")
    assert "yet: the file is empty" in refusal(tmp_path / "file", readonly=True)
    with Ledger(tmp_path / "file") as ledger:
        assert ledger.runs().empty


@forks
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="another user is needed, so root")
@pytest.mark.parametrize(
    ("folder", "file", "said"),
    [
        (0o755, 0o666, "no permission for"),
        (0o777, 0o644, "no permission for"),
        (0o777, 0o600, "cannot be read: perm"),
    ],
)
def test_permissions_are_said(three, folder, file, said):
    def other():
        os.setuid(65534)
        refusal_ = pytest.raises(UsageError, match=said)
        with refusal_:
            Ledger(three)
        if file & 0o044:
            with Ledger(three, readonly=True) as ledger:
                assert len(ledger.runs()) == 3

    for parent in three.parents:
        if "pytest" in str(parent):
            parent.chmod(0o755)
    three.parent.chmod(folder)
    three.chmod(file)
    assert ended(forked(other)) == 0


def test_a_file_that_was_cut_short_is_said(three):
    whole = three.read_bytes()
    rng = random.Random(0)
    places = [1, 15, 16, 50, 99, 100, 101, 511, 512, 4095, 4096, 4097, len(whole) - 4096, len(whole) - 1]
    for size in places + [rng.randrange(1, len(whole)) for _ in range(60)]:
        three.write_bytes(whole[:size])
        for readonly in (False, True):
            said = refusal(three, readonly=readonly)
            assert "is damaged" in said or (size < 512 and "is no SQLite file" in said), (size, said)


def test_a_file_that_was_overwritten_in_places_gives_results_or_says_so(three):
    whole = three.read_bytes()
    rng, heard = random.Random(0), 0
    for _ in range(150):
        spoilt = bytearray(whole)
        start = rng.randrange(100, len(whole))
        spoilt[start : start + 200] = rng.randbytes(len(spoilt[start : start + 200]))
        three.write_bytes(spoilt)
        try:
            with Ledger(three, readonly=True) as ledger:
                ledger.results([key(number) for number in range(3)])
                ledger.runs(), ledger.history(), ledger.claims(), ledger.verify()
        except UsageError:
            heard += 1
    assert heard > 10


@pytest.mark.parametrize(
    ("statement", "look"),
    [
        ("UPDATE history SET figures = 'relu'", Ledger.history),
        ("UPDATE history SET figures = '[1]'", Ledger.history),
        ('UPDATE history SET figures = \'{"a": {"$float": "1"}}\'', Ledger.history),
        ("UPDATE history SET figures = printf('%.*c', 100000, '[')", Ledger.history),
        ("UPDATE history SET figures = CAST(x'ff' AS TEXT)", Ledger.history),
        ("UPDATE run SET settings = 'relu'", Ledger.runs),
        (
            "INSERT INTO weights SELECT id, '[]', 'relu' FROM run",
            lambda ledger: ledger.results([key(2)]),
        ),
    ],
)
def test_values_that_no_ledger_holds_are_said(three, statement, look):
    with raw(three) as file:
        file.execute(statement.replace("'relu' FROM", "CAST('relu' AS BLOB) FROM"))
    with Ledger(three) as ledger:
        with pytest.raises(UsageError, match=r"runs\.db' is damaged"):
            ledger.results([key(0)])
        with pytest.raises(UsageError, match=r"runs\.db' is damaged"):
            look(ledger)


# Schemas


MORE = ("ALTER TABLE run ADD COLUMN colour TEXT NOT NULL DEFAULT 'grey'",)


def test_an_older_ledger_is_upgraded(three, monkeypatch):
    monkeypatch.setattr(_ledger_file, "MIGRATIONS", [*MIGRATIONS, MORE])
    assert "open it for writing once" in refusal(three, readonly=True)
    with Ledger(three) as ledger:
        assert ledger.results([key(2)])[key(2)] == entry(2).result
        ledger.record([entry(3)])
        assert ledger.verify() == []
    with raw(three) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)
        assert file.execute("SELECT colour FROM run").fetchall() == [("grey",)] * 4


def test_an_upgrade_that_fails_changes_nothing(three, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(
            _ledger_file, "MIGRATIONS", [*MIGRATIONS, MORE, ("ALTER TABLE missing ADD COLUMN a TEXT",)]
        )
        assert "no such table" in refusal(three)
    with Ledger(three) as ledger:
        assert len(ledger.runs()) == 3


# What verify finds


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM history WHERE epoch = 2 AND run = 1", "its history has the epochs [1, 3], not 1 to 3"),
        ("DELETE FROM history WHERE epoch = 3 AND run = 1", "its history has the epochs [1, 2], not 1 to 3"),
        ("""UPDATE run SET settings = '{"seed":0}' WHERE id = 1""", "its settings do not belong to its key"),
        ("UPDATE history SET figures = 'x' WHERE run = 1", "cannot be read"),
        ("INSERT INTO weights VALUES (1, '[\"w\"]', x'00')", "cannot be read"),
        (
            "INSERT INTO history VALUES (99, 1, '{}')",
            "a row of table 'history' belongs to nothing in table 'run'",
        ),
        (
            "INSERT INTO discrepancy VALUES (1, 'epochs', '3', '4', '')",
            "epochs is 3 here and 4 in a second result",
        ),
    ],
)
def test_verify_finds_what_is_wrong(three, statement, said):
    with Ledger(three) as ledger:
        assert ledger.verify() == []
    with raw(three) as file:
        file.execute("PRAGMA foreign_keys = OFF")
        file.execute(statement)
    with Ledger(three, readonly=True) as ledger:
        problems = ledger.verify()
    assert len(problems) == 1
    assert said in problems[0]


def test_verify_finds_an_index_without_its_row(three):
    with raw(three) as file:
        file.execute("PRAGMA writable_schema = ON")
        page = file.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_run_1'"
        ).fetchone()[0]
    content = bytearray(three.read_bytes())
    content[4096 * page - 40 : 4096 * page - 30] = b"f" * 10
    three.write_bytes(content)
    with Ledger(three, readonly=True) as ledger:
        assert any("SQLite finds: " in problem for problem in ledger.verify())


# Merging


def test_a_merge_takes_over_what_is_missing_and_compares_the_rest(tmp_path, path, monkeypatch):
    monkeypatch.setattr(ledger_module, "_BATCH", 2)
    other, weights = tmp_path / "other.db", {"w": torch.ones(2)}
    with Ledger(other, weights=True) as ledger:
        strange = entry(3)
        strange = Entry(
            strange.key, strange.settings, strange.result, 4, "far away", "2020-02-02T00:00:00+00:00"
        )
        ledger.record([entry(0, weights=weights), entry(1, test_acc=0.1), entry(2), strange])
        ledger.record([entry(2, test_loss=9.0)])
    before = other.read_bytes()
    with Ledger(path, weights=True) as ledger:
        ledger.record([entry(0), entry(1)])
        first, again = ledger.merge(other), ledger.merge(other)
        runs, found = ledger.runs().set_index("key"), ledger.results([key(n) for n in range(4)])
        problems = ledger.verify()
        assert ledger.merge(ledger) == (0, [])
    said = [f"run {key(1)[:12]}: test_acc is 0.75 here and 0.1 in a second result; the first stays"]
    assert first == (2, said)
    assert again == (0, said)
    assert list(found) == [key(n) for n in range(4)]
    assert found[key(0)].weights["w"].tolist() == [1, 1]
    assert found[key(1)].test_acc == 0.75
    assert runs.loc[key(3), ["attempts", "host", "finished"]].tolist() == [
        4,
        "far away",
        "2020-02-02T00:00:00+00:00",
    ]
    assert sorted(problems) == sorted(
        [*said, f"run {key(2)[:12]}: test_loss is 0.25 here and 9 in a second result; the first stays"]
    )
    assert other.read_bytes() == before


def test_a_merge_with_what_is_no_ledger_changes_nothing(three, tmp_path):
    with Ledger(three) as ledger:
        with pytest.raises(UsageError, match="there is no ledger at"):
            ledger.merge(tmp_path / "absent.db")
        (tmp_path / "text").write_text("relu, tanh" * 100)
        with pytest.raises(UsageError, match="is no SQLite file"):
            ledger.merge(tmp_path / "text")
        assert len(ledger.runs()) == 3
