"""A real Dask cluster on loopback: the same results to the last bit, whatever happens to its processes."""

from __future__ import annotations

import functools
import threading
import time

import pandas as pd
import pytest

from actlab.cli import main
from actlab.errors import UsageError
from actlab.execution.scheduler import train_runs
from actlab.ledger.ledger import Ledger
from tests.fleet_runs import WILD, assert_equal, noisy, one_thread, perceptron, run
from tests.fleets import table
from tests.test_fleet_worker_deaths import deadly

distributed = pytest.importorskip("distributed", reason="the extra dask is not installed")

from actlab.execution.dask import Cluster  # noqa: E402
from tests.clusters import loopback_cluster  # noqa: E402

__all__ = ["one_thread"]
# distributed leaves sockets and loops to the garbage collector when a scheduler is killed under it.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

X, Y = table(80)


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    with loopback_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        for _ in range(3):
            cluster.start_worker()
        yield cluster


@pytest.fixture
def own(tmp_path):
    with loopback_cluster(tmp_path) as cluster:
        yield cluster


@functools.cache
def kinds():
    nets = [perceptron(name) for name in ("relu", "tanh", "gelu", "prelu")]
    return [
        *(run(net, seed=seed, shuffle=True) for seed in (0, 1) for net in nets),
        run(noisy),
        run(perceptron("elu"), optimizer=WILD, epochs=4),
    ]


def long_runs(number=6):
    return [
        run(perceptron(name), seed=seed, epochs=500) for seed in range(2) for name in NAMES[: number // 2]
    ]


NAMES = ("relu", "tanh", "gelu")


class Happens:
    """Does something once, when a fleet is on its way and another has ended."""

    def __init__(self, action):
        self.action, self.ended, self.thread = action, 0, None

    def __call__(self, state):
        self.ended += state.results is not None
        if self.thread is None and self.ended and state.results is None and 0 < state.epoch < state.epochs:
            self.thread = threading.Thread(target=self.action)
            self.thread.start()


# -- what comes out -------------------------------------------------------------------------------


def test_a_cluster_trains_to_the_same_bits_and_its_workers_get_the_data_once(three):
    expected = train_runs(kinds(), X, Y)
    with Cluster(three.address) as executor:
        assert_equal(train_runs(kinds(), X, Y, executor=executor), expected)
        files = sorted(three.folder.rglob("actlab-*/X.npy"))
        assert len(files) == 3
        before = [file.stat().st_mtime_ns for file in files]
        assert_equal(train_runs(kinds(), X, Y, executor=executor), expected)
        assert sorted(three.folder.rglob("actlab-*/X.npy")) == files
        assert [file.stat().st_mtime_ns for file in files] == before


def test_a_client_will_do_and_stays_open(three):
    with distributed.Client(three.address, set_as_default=False) as client:
        with Cluster(client) as executor:
            assert_equal(train_runs(kinds()[:2], X, Y, executor=executor), train_runs(kinds()[:2], X, Y))
        assert client.submit(int, "3").result() == 3


def test_workers_of_this_machine_say_how_far_they_are(three):
    states = []
    with Cluster(three.address) as executor:
        train_runs(long_runs(4), X, Y, executor=executor, watch=states.append)
    assert any(0 < state.epoch < state.epochs for state in states)


def test_what_is_interrupted_is_taken_back_from_the_cluster(three):
    def interrupt(state):
        raise KeyboardInterrupt

    with Cluster(three.address) as executor, pytest.raises(KeyboardInterrupt):
        train_runs(
            [run(seed=seed, epochs=10**6) for seed in range(4)], X, Y, executor=executor, watch=interrupt
        )
    with Cluster(three.address) as executor:  # whose workers are free again
        assert_equal(train_runs(kinds()[:2], X, Y, executor=executor), train_runs(kinds()[:2], X, Y))


# -- what happens to processes --------------------------------------------------------------------


@pytest.mark.slow
def test_a_worker_is_killed_and_another_comes_and_all_is_trained(own):
    def change():
        own.kill(own.workers[0])
        own.start_worker()

    for _ in range(3):
        own.start_worker()
    happens = Happens(change)
    with Cluster(own.address) as executor:
        results = train_runs(long_runs(), X, Y, executor=executor, watch=happens)
    happens.thread.join()
    assert_equal(results, train_runs(long_runs(), X, Y))


@pytest.mark.slow
def test_a_scheduler_is_killed_and_comes_back_and_all_is_trained(own, caplog):
    def change():
        for process in (own.scheduler, *own.workers):
            own.kill(process)
        own.start_scheduler()
        own.start_worker()

    for _ in range(3):
        own.start_worker()
    happens = Happens(change)
    with Cluster(own.address) as executor:
        results = train_runs(long_runs(), X, Y, executor=executor, watch=happens)
    happens.thread.join()
    assert_equal(results, train_runs(long_runs(), X, Y))
    assert f"the scheduler at {own.address} does not respond; waiting for it" in caplog.messages


def test_a_scheduler_that_stays_away_is_told_in_one_line(own, monkeypatch):
    monkeypatch.setattr("actlab.execution.dask.PATIENCE", 1.0)
    own.start_worker()
    happens = Happens(lambda: own.kill(own.scheduler))
    with Cluster(own.address) as executor:
        message = f"^the scheduler at {own.address} has not responded for 1 seconds$"
        with pytest.raises(UsageError, match=message):
            train_runs(long_runs(), X, Y, executor=executor, watch=happens)


@pytest.mark.slow
def test_a_run_of_which_workers_die_has_failed_and_touches_no_other(own, tmp_path):
    own.start_worker()
    own.start_worker()
    others = long_runs(2)
    poison = deadly(tmp_path / "lives", 99)
    with Cluster(own.address) as executor:
        *results, last = train_runs([*others, poison], X, Y, executor=executor)
    assert_equal(results, train_runs(others, X, Y))
    assert last.failure == "the training process died 3 times: 4 Dask workers died"


# -- what is wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "tcp://127.0.0.1:1",
            "^no Dask scheduler answers at 'tcp://127.0.0.1:1' within 1 s; `dask scheduler`",
        ),
        ("tcp://nowhere.invalid:8786", "^no Dask scheduler answers at 'tcp://nowhere.invalid:8786'"),
        ("tpc://127.0.0.1:8786", "^scheduler is 'tpc://127.0.0.1:8786', not an address such as tcp://"),
        ("", "^scheduler is '', not an address such as tcp://"),
        ("foo", "^scheduler is 'foo', not an address such as tcp://"),
        ("tcp://", "^scheduler is 'tcp://', not an address such as tcp://"),
        ("tcp://127.0.0.1:abc", "^scheduler is 'tcp://127.0.0.1:abc', not an address such as tcp://"),
        ("http://127.0.0.1:8786", "^scheduler is 'http://127.0.0.1:8786', not an address such as tcp://"),
    ],
)
def test_a_wrong_address_is_told_in_one_line(address, message, monkeypatch):
    monkeypatch.setattr("actlab.execution.dask._ANSWERS", 1.0)
    with pytest.raises(UsageError, match=message) as caught:
        Cluster(address)
    assert "\n" not in str(caught.value)


def other_version(folder):
    """Return what gives a process another version of skorch, by its metadata."""
    about = folder / "skorch-0.1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: skorch\nVersion: 0.1\n")
    return {"PYTHONPATH": str(folder)}


def test_workers_with_other_versions_are_told_at_once_or_when_they_come(own, tmp_path):
    own.start_worker(environment=other_version(tmp_path / "other"))
    message = (
        r"^worker tcp://127.0.0.1:\d+: its versions differ from those of this process: skorch 0.1, here "
    )
    with pytest.raises(UsageError, match=message):
        Cluster(own.address)
    own.kill(own.workers[0])
    with distributed.Client(own.address, set_as_default=False) as client:
        while client.nthreads():
            time.sleep(0.05)
    with Cluster(own.address) as executor:
        own.start_worker(environment={"PYTHONPATH": str(tmp_path / "other")})
        with pytest.raises(UsageError, match=message):
            train_runs(kinds()[:1], X, Y, executor=executor)


def test_a_cluster_that_is_shut_down_takes_no_more_work(three):
    executor = Cluster(three.address)
    executor.shutdown()
    with pytest.raises(UsageError, match=r"^the Cluster accepts no more work: it is shut down$"):
        train_runs(kinds()[:1], X, Y, executor=executor)


# -- the command line -----------------------------------------------------------------------------

CALL = ["compare", "relu", "tanh", "--data", "digits", "--epochs", "2"]


def test_a_comparison_on_a_cluster_is_the_same_and_its_ledger_is_here(three, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*CALL, "--out", "here"]) == 0
    here = capsys.readouterr().out
    assert main([*CALL, "--out", "there", "--scheduler", three.address]) == 0
    assert capsys.readouterr().out.split() == here.replace("here/", "there/").split()
    tables = [pd.read_csv(f"{where}/results.csv").drop(columns="seconds") for where in ("here", "there")]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    with Ledger("there/ledger.sqlite", readonly=True) as ledger:
        assert len(ledger.runs()) == 6


def test_a_scheduler_that_is_not_there_is_told_before_anything_is_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("actlab.execution.dask._ANSWERS", 1.0)
    assert main([*CALL, "--scheduler", "tcp://127.0.0.1:1"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "actlab: error: no Dask scheduler answers at 'tcp://127.0.0.1:1' within 1 s; "
        "start one with `dask scheduler`, which prints its address\n"
    )
