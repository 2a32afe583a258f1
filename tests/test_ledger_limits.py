"""Limits of the ledger at their exact values: tolerances, leases, sizes and orders."""

from __future__ import annotations

import math
import os
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from actlab.errors import UsageError
from actlab.fleet.run import Result
from actlab.ledger import ledger as ledger_module
from actlab.ledger import sqlite
from actlab.ledger.ledger import Ledger, StoredRun
from actlab.ledger.owner import ClaimOwner
from actlab.ledger.records import dumps, find_differences, loads, pack_weights, trim_key
from actlab.ledger.run_key import hash_description
from actlab.ledger.sqlite import FORMAT, find_network_file_system
from tests.ledger_cases import (
    ledger_of_three,
    make_entry,
    make_epochs,
    make_key,
    open_sqlite,
    path,
    read_refusal,
    settings,
)
from tests.processes import fork_processes, forks, wait_for_exit

__all__ = ["ledger_of_three", "path"]


def make_result(**changes):
    return make_entry(0, **changes).result


def losses(*values):
    return [{"train_loss": value} for value in values]


# -- differences ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "differ"),
    [
        ({"test_loss": 0.2525}, False),  # by 1 % of the larger
        ({"test_loss": 0.2526}, True),
        ({"test_loss": 0.2476}, False),
        ({"test_loss": 0.2474}, True),
        ({"test_loss": math.inf}, True),
        ({"test_acc": 0.75 + 0.0099}, False),  # by a percentage point
        ({"test_acc": 0.75 + 0.0101}, True),
        ({"test_acc": 0.75 - 0.0101}, True),
        ({"test_acc": math.nan}, True),
        ({"history": make_epochs(train_loss=0.505)}, False),
        ({"history": make_epochs(train_loss=0.5051)}, True),
        ({"history": make_epochs(4)}, True),
        ({"history": []}, True),
    ],
)
def test_find_differences_ignores_rounding(changes, differ):
    assert bool(find_differences(make_result(), make_result(**changes))) is differ
    assert bool(find_differences(make_result(**changes), make_result())) is differ


def test_find_differences_compares_the_last_epoch():
    first = Result(history=losses(9.0, 1.0))
    assert find_differences(first, Result(history=losses(3.0, 1.0))) == []
    assert find_differences(first, Result(history=losses(9.0, 2.0))) == [("train_loss", "1", "2")]


@pytest.mark.parametrize("make_process", ["diverged in epoch 2", "no memory"])
def test_find_differences_ignores_the_reasons_of_two_failures(make_process):
    failed = make_result(failure="diverged", test_loss=math.nan, test_acc=math.nan)
    assert (
        find_differences(failed, make_result(failure=make_process, test_loss=math.nan, test_acc=math.nan))
        == []
    )
    assert find_differences(failed, make_result()) == [("failure", "diverged", "none")]


# -- writing --------------------------------------------------------------------------------------------


def test_pack_weights_accepts_weights_up_to_the_limit(caplog):
    weights = {"w": torch.ones(10)}
    names, state = pack_weights(weights, 10_000)
    assert (names, pack_weights(weights, len(state))) == ('["w"]', (names, state))
    assert pack_weights(weights, len(state) - 1) is None
    assert f"{len(state)} bytes, the maximum is {len(state) - 1}" in caplog.text


def test_record_leaves_room_for_the_other_columns_of_a_row(path, caplog):
    weights = {"w": torch.ones(1000)}
    size = len(pack_weights(weights, 10**6)[1])
    with Ledger(path, weights=True) as ledger:
        for number, room in enumerate((999, 1000)):  # bytes in addition to the weights; 1000 are needed
            ledger._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, size + room)
            ledger.record([make_entry(number, weights=weights)])
        results = ledger.results([make_key(0), make_key(1)])
    assert [len(results[make_key(number)].weights) for number in range(2)] == [0, 1]
    assert caplog.text.count("weights are not recorded") == 1


def test_loads_reads_an_object_as_a_number_only_if_it_has_no_other_key():
    written = {"a": math.inf, "b": -math.inf, "c": [math.nan]}
    read = loads(dumps(written))
    assert (read["a"], read["b"], math.isnan(read["c"][0])) == (math.inf, -math.inf, True)
    more = '{"a":{"$float":"nan","b":1},"c":{}}'
    assert loads(more) == {"a": {"$float": "nan", "b": 1}, "c": {}}


def test_results_rejects_weights_with_wrong_names(path):
    with Ledger(path, weights=True) as ledger:
        ledger.record([make_entry(0, weights={"w": torch.ones(3)})])
        assert ledger.results([make_key(0)])[make_key(0)].weights["w"].tolist() == [1, 1, 1]
        with open_sqlite(path) as file:
            file.execute("""UPDATE weights SET names = '["v"]'""")
        with pytest.raises(UsageError, match=r"names that differ from those of the weights"):
            ledger.results([make_key(0)])


def test_record_numbers_epochs_from_one_and_keeps_their_order(path):
    history = losses(*(1 / number for number in range(1, 13)))
    with Ledger(path) as ledger:
        ledger.record([make_entry(0, history=history)])
        assert ledger.results([make_key(0)])[make_key(0)].history == history
        assert ledger.history()["epoch"].tolist() == list(range(1, 13))


def test_record_stores_attempts_host_and_time_of_an_entry(path):
    plain = make_entry(0)
    detailed = StoredRun(
        plain.key, plain.settings, plain.result, 3, "other-host", "2020-02-02T00:00:00+00:00"
    )
    with Ledger(path) as ledger:
        ledger.record([detailed, make_entry(1)])
        runs = ledger.runs()
    columns = ["attempts", "host", "finished"]
    assert runs[columns].values.tolist()[0] == [3, "other-host", "2020-02-02T00:00:00+00:00"]
    assert runs["attempts"][1] == 1
    assert runs["host"][1] not in ("", "other-host")
    assert runs["finished"][1] > "2026"


def test_record_adds_diagnostics_to_a_known_run_once(path):
    first, second = ([{"epoch": 1, "dead": share}] for share in (0.25, 0.5))
    with Ledger(path) as ledger:
        ledger.record([make_entry(0)])
        assert ledger.results([make_key(0)])[make_key(0)].diagnostics == []
        for diagnostics in (first, second):
            ledger.record([make_entry(0, diagnostics=diagnostics)])
            assert ledger.results([make_key(0)])[make_key(0)].diagnostics == first


# -- reading --------------------------------------------------------------------------------------------


def test_runs_and_history_are_in_the_order_of_recording(path):
    numbers = sorted(range(6), key=make_key, reverse=True)  # in the reverse order of their keys
    with Ledger(path) as ledger:
        for number in numbers:
            ledger.record([make_entry(number, history=make_epochs(2))])
        assert ledger.runs()["key"].tolist() == [make_key(number) for number in numbers]
        pairs = [(make_key(number), epoch) for number in numbers for epoch in (1, 2)]
        assert list(ledger.history()[["key", "epoch"]].itertuples(index=False, name=None)) == pairs


def test_runs_count_folds_from_one(path):
    settings_of_runs = [{"fold": 0}, {"fold": 4}, {"fold": None}, {}]
    with Ledger(path) as ledger:
        ledger.record([StoredRun(hash_description(one), one, Result()) for one in settings_of_runs])
        folds = ledger.runs()["fold"]
    assert folds[:2].tolist() == [1, 5]
    assert folds[2:].isna().all()


def test_trim_key_has_twelve_characters():
    assert trim_key("0123456789abcdef") == "0123456789ab"


def test_unfinished_comparisons_lists_each_once_newest_first(path, monkeypatch):
    times = iter(["2026-01-02", "2026-01-02", "2026-01-01", "2026-01-03"])
    monkeypatch.setattr(ledger_module, "get_utc_time", lambda: next(times))
    with Ledger(path) as ledger:
        tokens = [ledger.start_comparison({"about": name}, [{"key": name}]) for name in "abc"]
        # a and b have the same time, and b was added later. c has an earlier time.
        assert [about["about"] for about, _ in ledger.unfinished_comparisons()] == ["b", "a", "c"]
        assert ledger.start_comparison({"about": "again"}, [{"key": "c"}]) == tokens[2]
        assert [about["about"] for about, _ in ledger.unfinished_comparisons()] == ["again", "b", "a"]
        ledger.end_comparison(tokens[0])
        assert ledger.unfinished_comparisons() == [
            ({"about": "again"}, [{"key": "c"}]),
            ({"about": "b"}, [{"key": "b"}]),
        ]


# -- claims ---------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """Replace the time that the ledger reads by a list of one number."""
    now = [1_000_000.0]
    monkeypatch.setattr(ledger_module.time, "time", lambda: now[0])
    return now


def test_claim_expires_after_exactly_one_minute(path, clock):
    with Ledger(path) as one, Ledger(path) as two:
        one.claim([make_key(0)])
        assert two.claims()["seconds"].tolist() == [60.0]
        clock[0] += 59.999
        assert two.claim([make_key(0)]) is None
        assert len(two.claims()) == 1
        clock[0] += 0.001
        assert two.claims().empty
        assert two.claim([make_key(0)]) == {make_key(0)}


def test_claim_renews_earlier_claims_of_the_owner(path, clock):
    with Ledger(path) as one, Ledger(path) as two:
        one.claim([make_key(0)])
        clock[0] += 50
        one.claim([make_key(1)])
        clock[0] += 50
        assert two.claims()[["runs", "seconds"]].values.tolist() == [[2, 10]]
        assert two.claim([make_key(0)]) is None


def test_renew_extends_claims_repeatedly(path, clock):
    with Ledger(path) as one, Ledger(path) as two:
        one.claim([make_key(0)])
        for _ in range(3):
            clock[0] += 50
            one.renew()
            assert two.claims()["seconds"].tolist() == [60.0]


def test_close_releases_claims_made_before_an_empty_claim(path):
    with Ledger(path) as two:
        with Ledger(path) as one:
            one.record([make_entry(1)])
            assert one.claim([make_key(0)]) == {make_key(0)}
            assert one.claim([make_key(1)]) == frozenset()
            assert one.claim([]) == frozenset()
        assert two.claims().empty
        assert two.claim([make_key(0)]) == {make_key(0)}


@pytest.mark.parametrize(
    "remove_claim",
    [lambda ledger: ledger.release([make_key(0)]), lambda ledger: ledger.record([make_entry(0)])],
)
def test_release_and_record_remove_an_owner_without_claims(path, remove_claim):
    with Ledger(path) as one, Ledger(path) as two:
        one.claim([make_key(0)])
        two.claim([make_key(1)])
        remove_claim(one)
        assert two.claims()["runs"].tolist() == [1]
        with open_sqlite(path) as file:
            assert file.execute("SELECT count(*) FROM owner").fetchone() == (1,)


def test_claim_ignores_another_owners_claim_on_a_finished_run(path):
    with Ledger(path) as one, Ledger(path) as two:
        one.claim([make_key(0), make_key(1)])
        with open_sqlite(path) as file:  # as if a process with an earlier claim had recorded it
            file.execute("CREATE TEMP TABLE claims AS SELECT * FROM claim")
            two.record([make_entry(0)])
            file.execute("INSERT INTO claim SELECT * FROM claims WHERE true ON CONFLICT DO NOTHING")
        assert two.claim([make_key(0), make_key(2)]) == {make_key(2)}
        assert two.claim([make_key(0), make_key(1)]) is None


# -- processes ------------------------------------------------------------------------------------------


def make_process(**columns):
    return ClaimOwner(**{**vars(ClaimOwner.current()), **columns})


def test_has_ended_is_false_for_a_process_of_another_host():
    assert make_process(pid=2**22 + 1).has_ended()
    assert not make_process(pid=2**22 + 1, host="elsewhere").has_ended()


def test_has_ended_is_false_for_a_process_that_cannot_be_inspected(monkeypatch):
    def deny(process):
        raise psutil.AccessDenied(process.pid)

    monkeypatch.setattr(psutil.Process, "status", deny)
    assert not ClaimOwner.current().has_ended()
    assert make_process(pid=2**22 + 1).has_ended()


def test_process_start_does_not_depend_on_the_system_clock(monkeypatch):
    before = ClaimOwner.current()
    boot_time, create_time = psutil.boot_time, psutil.Process.create_time
    monkeypatch.setattr(psutil, "boot_time", lambda: boot_time() + 3600)  # the system clock moves forward
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: create_time(process) + 3600)
    assert ClaimOwner.current() == before


@forks
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid(), reason="only root can change its user")
def test_has_ended_is_false_for_another_users_process():
    started = round(psutil.Process(1).create_time() - psutil.boot_time(), 2)

    def check_has_ended():
        os.setuid(65534)
        assert not make_process(pid=1, started=started).has_ended()
        assert make_process(pid=1, started=1e9).has_ended()

    with fork_processes(check_has_ended) as (child,):
        assert wait_for_exit(child) == 0


# -- the file -------------------------------------------------------------------------------------------


def test_ledger_rejects_the_next_format(ledger_of_three):
    with open_sqlite(ledger_of_three) as file:
        file.execute(f"PRAGMA user_version = {FORMAT + 1}")
    assert f"newer actlab (format {FORMAT + 1}; " in read_refusal(ledger_of_three)


@pytest.mark.parametrize(
    "statement", ["DROP INDEX claim_owner", "DROP TABLE discrepancy", "DROP TABLE comparison"]
)
def test_ledger_rejects_a_file_without_part_of_the_schema(ledger_of_three, statement):
    name = statement.split()[-1]
    with open_sqlite(ledger_of_three) as file:
        file.execute(statement)
    for readonly in (False, True):
        assert f"does not have actlab's tables ({name}" in read_refusal(ledger_of_three, readonly=readonly)


def test_ledger_creates_its_parent_folders(tmp_path):
    path = tmp_path / "a" / "b" / "c" / "runs.db"
    with pytest.raises(UsageError, match="there is no ledger at"):
        Ledger(path, readonly=True)
    assert list(tmp_path.iterdir()) == []
    Ledger(path).close()
    with open_sqlite(path) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (FORMAT,)
        assert file.execute("PRAGMA application_id").fetchone() == (int.from_bytes(b"actl", "big"),)


def test_find_network_file_system_uses_the_last_mount_at_a_path(monkeypatch):
    mounts = [("/data", "ext4"), ("/data", "nfs"), ("/data/own", "ext4"), ("/fuse", "fuse.sshfs")]
    partitions = [SimpleNamespace(mountpoint=folder, fstype=kind) for folder, kind in mounts]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: partitions)
    paths = ("/data/x", "/data/own/x", "/fuse/x", "/x")
    assert [find_network_file_system(Path(path_)) for path_ in paths] == ["nfs", "", "fuse.sshfs", ""]


def test_describe_error_recognizes_a_full_disk_by_its_free_space(path, monkeypatch):
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
    usage = type("Usage", (), {"free": 2**16 - 1})
    monkeypatch.setattr(sqlite.shutil, "disk_usage", lambda _: usage)
    assert "the disk is full" in sqlite._describe_error(error, path)
    usage.free = 2**16
    assert "cannot be read or written (disk I/O error); check the disk" in sqlite._describe_error(error, path)


def test_record_that_fails_halfway_writes_nothing(path):
    with Ledger(path) as ledger:
        ledger.claim([make_key(0), make_key(1)])
        with pytest.raises(TypeError, match="cannot be recorded"):
            ledger.record(
                [make_entry(0), StoredRun(make_key(1), settings(1), make_result(history=[{"bad": object()}]))]
            )
        assert ledger.runs().empty
        assert ledger.history().empty
        assert ledger.claims()["runs"].tolist() == [2]


def test_merge_copies_every_run_for_any_batch_size(tmp_path, path, monkeypatch):
    with Ledger(tmp_path / "other.db") as ledger:
        ledger.record([make_entry(number) for number in range(7)])
    for batch in (1, 3, 7, 100):
        monkeypatch.setattr(ledger_module, "_BATCH", batch)
        with Ledger(path.with_name(f"{batch}.db")) as ledger:
            assert ledger.merge(tmp_path / "other.db") == (7, [])
            assert ledger.runs()["key"].tolist() == [make_key(number) for number in range(7)]


def test_abandoned_detects_one_ended_process_among_others(path):
    with Ledger(path) as one, Ledger(path) as two:
        one.claim([make_key(0)])
        two.claim([make_key(1)])
        with open_sqlite(path) as file:
            file.execute(f"UPDATE owner SET pid = {2**22 + 1} WHERE token = ?", [two._token])
        assert [
            one.abandoned(keys)
            for keys in ([make_key(0)], [make_key(1)], [make_key(0), make_key(1)], [make_key(2)])
        ] == [*(False, True, True, False)]
        assert one.claims()["pid"].tolist() == [os.getpid()]


def test_ledger_restores_a_truncated_page_from_its_log(path, tmp_path):
    copy = tmp_path / "copy.db"
    with Ledger(path) as ledger:
        ledger.record([make_entry(number) for number in range(3)])
        # A crash while SQLite moves pages from the log into the file leaves this state.
        copy.write_bytes(path.read_bytes() + bytes(1000))
        Path(f"{copy}-wal").write_bytes(Path(f"{path}-wal").read_bytes())
    with Ledger(copy) as ledger:
        assert list(ledger.results([make_key(number) for number in range(3)])) == [
            make_key(n) for n in range(3)
        ]
        assert ledger.verify() == []
    assert copy.stat().st_size % 4096 == 0
    copy.write_bytes(copy.read_bytes() + bytes(1000))
    assert "is damaged: it is truncated" in read_refusal(copy)


def test_merge_releases_the_lock_after_a_hundred_runs(tmp_path, path):
    with Ledger(tmp_path / "other.db") as ledger:
        ledger.record([make_entry(number, history=[]) for number in range(201)])
    statements = []
    with Ledger(path) as ledger:
        ledger._connection.set_trace_callback(statements.append)
        assert ledger.merge(tmp_path / "other.db") == (201, [])
    writes = "\n".join(statements).split("BEGIN IMMEDIATE")
    assert [text.count("INSERT INTO run") for text in writes] == [0, 100, 100, 1, 0]
