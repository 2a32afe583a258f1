"""Training on a real Dask cluster on loopback gives the same bits, even if its processes are killed."""

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
from tests.fleet_runs import WILD, assert_equal, make_noisy, make_perceptron, one_thread, run
from tests.fleets import make_table
from tests.test_fleet_killed_workers import create_killing_run

distributed = pytest.importorskip("distributed", reason="the extra dask is not installed")

from actlab.execution.dask import Cluster  # noqa: E402
from tests.dask_cluster import loopback_cluster  # noqa: E402

__all__ = ["one_thread"]
# distributed does not close its sockets and loops when its scheduler is killed.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

X, Y = make_table(80)


@pytest.fixture(scope="module")
def cluster_of_three(tmp_path_factory):
    with loopback_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        for _ in range(3):
            cluster.start_worker()
        yield cluster


@pytest.fixture
def cluster(tmp_path):
    with loopback_cluster(tmp_path) as cluster:
        yield cluster


@functools.cache
def runs_of_all_kinds():
    models = [make_perceptron(name) for name in ("relu", "tanh", "gelu", "prelu")]
    return [
        *(run(model, seed=seed, shuffle=True) for seed in (0, 1) for model in models),
        run(make_noisy),
        run(make_perceptron("elu"), optimizer=WILD, epochs=4),
    ]


def long_runs(number=6):
    return [
        run(make_perceptron(name), seed=seed, epochs=500)
        for seed in range(2)
        for name in NAMES[: number // 2]
    ]


NAMES = ("relu", "tanh", "gelu")


class RunOnce:
    """Run an action once, after one fleet has ended and while another trains."""

    def __init__(self, action):
        self.action, self.ended, self.thread = action, 0, None

    def __call__(self, state):
        self.ended += state.results is not None
        if self.thread is None and self.ended and state.results is None and 0 < state.epoch < state.epochs:
            self.thread = threading.Thread(target=self.action)
            self.thread.start()


# -- results --------------------------------------------------------------------------------------


def test_cluster_gives_the_same_bits_and_sends_the_data_once(cluster_of_three):
    expected = train_runs(runs_of_all_kinds(), X, Y)
    with Cluster(cluster_of_three.address) as executor:
        assert_equal(train_runs(runs_of_all_kinds(), X, Y, executor=executor), expected)
        files = sorted(cluster_of_three.folder.rglob("actlab-*/X.npy"))
        assert len(files) == 3
        before = [file.stat().st_mtime_ns for file in files]
        assert_equal(train_runs(runs_of_all_kinds(), X, Y, executor=executor), expected)
        assert sorted(cluster_of_three.folder.rglob("actlab-*/X.npy")) == files
        assert [file.stat().st_mtime_ns for file in files] == before


def test_cluster_accepts_a_client_and_keeps_it_open(cluster_of_three):
    with distributed.Client(cluster_of_three.address, set_as_default=False) as client:
        with Cluster(client) as executor:
            assert_equal(
                train_runs(runs_of_all_kinds()[:2], X, Y, executor=executor),
                train_runs(runs_of_all_kinds()[:2], X, Y),
            )
        assert client.submit(int, "3").result() == 3


def test_cluster_reports_progress_of_local_workers(cluster_of_three):
    states = []
    with Cluster(cluster_of_three.address) as executor:
        train_runs(long_runs(4), X, Y, executor=executor, watch=states.append)
    assert any(0 < state.epoch < state.epochs for state in states)


def test_cluster_cancels_interrupted_runs(cluster_of_three):
    def interrupt(state):
        raise KeyboardInterrupt

    with Cluster(cluster_of_three.address) as executor, pytest.raises(KeyboardInterrupt):
        train_runs(
            [run(seed=seed, epochs=10**6) for seed in range(4)], X, Y, executor=executor, watch=interrupt
        )
    with Cluster(cluster_of_three.address) as executor:  # the workers are free again
        assert_equal(
            train_runs(runs_of_all_kinds()[:2], X, Y, executor=executor),
            train_runs(runs_of_all_kinds()[:2], X, Y),
        )


# -- killed processes -----------------------------------------------------------------------------


@pytest.mark.slow
def test_cluster_continues_after_a_worker_is_replaced(cluster):
    def change():
        cluster.kill(cluster.workers[0])
        cluster.start_worker()

    for _ in range(3):
        cluster.start_worker()
    run_once = RunOnce(change)
    with Cluster(cluster.address) as executor:
        results = train_runs(long_runs(), X, Y, executor=executor, watch=run_once)
    run_once.thread.join()
    assert_equal(results, train_runs(long_runs(), X, Y))


@pytest.mark.slow
def test_cluster_continues_after_a_restart_of_the_scheduler(cluster, caplog):
    def change():
        for process in (cluster.scheduler, *cluster.workers):
            cluster.kill(process)
        cluster.start_scheduler()
        cluster.start_worker()

    for _ in range(3):
        cluster.start_worker()
    run_once = RunOnce(change)
    with Cluster(cluster.address) as executor:
        results = train_runs(long_runs(), X, Y, executor=executor, watch=run_once)
    run_once.thread.join()
    assert_equal(results, train_runs(long_runs(), X, Y))
    assert f"the scheduler at {cluster.address} does not respond; waiting for it" in caplog.messages


def test_cluster_reports_a_lost_scheduler_in_one_line(cluster, monkeypatch):
    monkeypatch.setattr("actlab.execution.dask.PATIENCE", 1.0)
    cluster.start_worker()
    run_once = RunOnce(lambda: cluster.kill(cluster.scheduler))
    with Cluster(cluster.address) as executor:
        message = f"^the scheduler at {cluster.address} has not responded for 1 seconds$"
        with pytest.raises(UsageError, match=message):
            train_runs(long_runs(), X, Y, executor=executor, watch=run_once)


@pytest.mark.slow
def test_cluster_fails_only_the_run_that_kills_workers(cluster, tmp_path):
    cluster.start_worker()
    cluster.start_worker()
    others = long_runs(2)
    killing_run = create_killing_run(tmp_path / "lives", 99)
    with Cluster(cluster.address) as executor:
        *results, last = train_runs([*others, killing_run], X, Y, executor=executor)
    assert_equal(results, train_runs(others, X, Y))
    assert last.failure == "the training process died 3 times: 4 Dask workers died"


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "tcp://127.0.0.1:1",
            "^no Dask scheduler responded at 'tcp://127.0.0.1:1' within 1 s; start one with `dask scheduler`",
        ),
        ("tcp://nowhere.invalid:8786", "^no Dask scheduler responded at 'tcp://nowhere.invalid:8786'"),
        ("tpc://127.0.0.1:8786", "^scheduler is 'tpc://127.0.0.1:8786', not an address such as tcp://"),
        ("", "^scheduler is '', not an address such as tcp://"),
        ("foo", "^scheduler is 'foo', not an address such as tcp://"),
        ("tcp://", "^scheduler is 'tcp://', not an address such as tcp://"),
        ("tcp://127.0.0.1:abc", "^scheduler is 'tcp://127.0.0.1:abc', not an address such as tcp://"),
        ("http://127.0.0.1:8786", "^scheduler is 'http://127.0.0.1:8786', not an address such as tcp://"),
    ],
)
def test_cluster_rejects_a_wrong_address_in_one_line(address, message, monkeypatch):
    monkeypatch.setattr("actlab.execution.dask._CONNECT_SECONDS", 1.0)
    with pytest.raises(UsageError, match=message) as caught:
        Cluster(address)
    assert "\n" not in str(caught.value)


def other_version(folder):
    """Return environment variables that give a process another version of skorch."""
    about = folder / "skorch-0.1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: skorch\nVersion: 0.1\n")
    return {"PYTHONPATH": str(folder)}


def test_cluster_rejects_workers_with_other_versions(cluster, tmp_path):
    cluster.start_worker(environment=other_version(tmp_path / "other"))
    message = (
        r"^worker tcp://127.0.0.1:\d+: its versions differ from those of this process: skorch 0.1, here "
    )
    with pytest.raises(UsageError, match=message):
        Cluster(cluster.address)
    cluster.kill(cluster.workers[0])
    with distributed.Client(cluster.address, set_as_default=False) as client:
        while client.nthreads():
            time.sleep(0.05)
    with Cluster(cluster.address) as executor:
        cluster.start_worker(environment={"PYTHONPATH": str(tmp_path / "other")})
        with pytest.raises(UsageError, match=message):
            train_runs(runs_of_all_kinds()[:1], X, Y, executor=executor)


def test_cluster_rejects_work_after_shutdown(cluster_of_three):
    executor = Cluster(cluster_of_three.address)
    executor.shutdown()
    with pytest.raises(UsageError, match=r"^the Cluster accepts no more tasks: it is shut down$"):
        train_runs(runs_of_all_kinds()[:1], X, Y, executor=executor)


# -- the command line -----------------------------------------------------------------------------

CALL = ["compare", "--no-tune", "relu", "tanh", "--data", "digits", "--epochs", "2"]


def test_compare_scheduler_option_gives_the_same_output(cluster_of_three, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*CALL, "--out", "here"]) == 0
    local_output = capsys.readouterr().out
    assert main([*CALL, "--out", "there", "--scheduler", cluster_of_three.address]) == 0
    assert capsys.readouterr().out.split() == local_output.replace("here/", "there/").split()
    tables = [pd.read_csv(f"{where}/results.csv").drop(columns="seconds") for where in ("here", "there")]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    with Ledger("there/ledger.sqlite", readonly=True) as ledger:
        assert len(ledger.runs()) == 6


def test_compare_scheduler_option_rejects_a_missing_scheduler(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("actlab.execution.dask._CONNECT_SECONDS", 1.0)
    assert main([*CALL, "--scheduler", "tcp://127.0.0.1:1"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "actlab: error: no Dask scheduler responded at 'tcp://127.0.0.1:1' within 1 s; "
        "start one with `dask scheduler`, which prints its address\n"
    )
