"""load_data of tables by name: those of scikit-learn, and those of openml.org from a local server."""

from __future__ import annotations

import hashlib
import json
import threading
import urllib.request
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pytest

from actlab import DataWarning
from actlab.cli import main
from actlab.data import load_data
from tests.command_line import in_empty_folder
from tests.command_line import refused as refused_in_one_line
from tests.datasets import refused

__all__ = ["in_empty_folder"]

# ---- scikit-learn ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [
        ("iris", (150, 4), ("setosa", "versicolor", "virginica")),
        ("wine", (178, 13), ("class_0", "class_1", "class_2")),
        ("breast_cancer", (569, 30), ("benign", "malignant")),
    ],
)
def test_load_data_reads_the_tables_of_scikit_learn(name, shape, classes):
    import sklearn.datasets

    bunch = getattr(sklearn.datasets, f"load_{name}")(as_frame=True)
    data = load_data(name)
    assert (data.name, data.X.shape, data.shape, data.classes) == (name, shape, (), classes)
    assert [data.classes[label] for label in data.y] == [bunch.target_names[i] for i in bunch.target]
    frame = bunch.data.assign(kind=bunch.target_names[bunch.target])
    assert data.fingerprint == load_data(frame, target="kind").fingerprint


@pytest.mark.parametrize(
    "arguments", [{"target": "target"}, {"regression": True}, {"data_dir": "."}, {"channels": "first"}]
)
def test_load_data_refuses_arguments_of_other_sources_for_a_bundled_table(arguments):
    refused(f"{next(iter(arguments))}.* is not used with 'iris'.*; omit it", "iris", **arguments)


def test_compare_verb_compares_on_bundled_tables(capsys):
    call = "compare relu tanh --no-tune --epochs 1 --folds 2 --json --data iris --data breast_cancer"
    assert main(call.split()) == 0
    assert list(json.loads(capsys.readouterr().out)["datasets"]) == ["iris", "breast_cancer"]


# ---- openml.org --------------------------------------------------------------------------------------------

FRAME = pd.DataFrame(
    {
        "heat": [i / 8 for i in range(30)],
        "rain": [30 - i for i in range(30)],
        "yield": [i * i for i in range(30)],
        "wind": ["low" if i % 3 else "high" for i in range(30)],
    }
)
PIXELS = np.random.default_rng(0).integers(0, 256, (10, 4))
# Name and ID -> the table and its default targets.
TABLES = {
    ("weather", 7): (FRAME, ["wind"]),
    ("untargeted", 8): (FRAME[["rain", "wind"]], []),
    ("sparse", 11): (FRAME[["rain", "wind"]], ["wind"]),
    ("double", 9): (FRAME[["heat", "rain", "yield"]], ["rain", "yield"]),
    ("mnist_784", 10): (
        pd.DataFrame(PIXELS, columns=[f"pixel{i}" for i in range(1, 5)]).assign(digit=["0", "1"] * 5),
        ["digit"],
    ),
}


def describe_type(column: pd.Series) -> str:
    """Return the type of a column in ARFF."""
    return "numeric" if column.dtype.kind in "if" else f"{{{','.join(sorted(set(column)))}}}"


def encode_arff(frame: pd.DataFrame) -> bytes:
    columns = [f"@ATTRIBUTE {name} {describe_type(frame[name])}" for name in frame]
    return "\n".join(["@RELATION t", *columns, "@DATA", frame.to_csv(index=False, header=False)]).encode()


def answer(path: str) -> bytes | None:
    """Return the answer of openml.org to a request; None for an unknown dataset."""
    for (name, number), (frame, targets) in TABLES.items():
        arff = encode_arff(frame)
        features = [
            {"index": str(i), "name": column, "is_target": str(column in targets).lower()}
            | {"data_type": "numeric" if describe_type(frame[column]) == "numeric" else "nominal"}
            | {"is_ignore": "false", "is_row_identifier": "false", "number_of_missing_values": "0"}
            for i, column in enumerate(frame)
        ]
        about = {"id": str(number), "name": name, "version": "1", "status": "active"}
        about |= {"format": "Sparse_ARFF" if name == "sparse" else "ARFF"}
        about |= {"description": "", "url": f"https://www.openml.org/data/v1/download/{number}/t.arff"}
        about |= {"md5_checksum": hashlib.md5(arff).hexdigest(), "file_id": str(number)}
        versions = [{"did": number, "name": name, "version": 1, "status": "active"}]
        versions += [{**versions[0], "did": 99, "version": 2}] * (name == "double")
        qualities = [{"name": "NumberOfInstances", "value": str(len(frame))}]
        answers = {
            f"/api/v1/json/data/list/data_name/{name}/limit/2/status/active/": {
                "data": {"dataset": versions}
            },
            f"/api/v1/json/data/{number}": {"data_set_description": about},
            f"/api/v1/json/data/features/{number}": {"data_features": {"feature": features}},
            f"/api/v1/json/data/qualities/{number}": {"data_qualities": {"quality": qualities}},
        }
        if path in answers:
            return json.dumps(answers[path]).encode()
        if path == urlsplit(about["url"]).path:
            return arff
    return None


class OpenML(BaseHTTPRequestHandler):
    def do_GET(self):
        content = answer(self.path)
        self.send_response(412 if content is None else 200)  # the status that openml.org uses
        self.end_headers()
        self.wfile.write(content or b'{"error": {"code": "372", "message": "No results"}}')

    def log_message(self, *arguments):
        """Print nothing."""


@pytest.fixture
def openml(monkeypatch, tmp_path) -> Iterator[str]:
    """Send the requests of scikit-learn's client to a server on this machine; yield its address."""
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "cache"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), OpenML)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    send_to(monkeypatch, address := f"http://127.0.0.1:{server.server_port}")
    yield address
    server.shutdown()
    thread.join()
    server.server_close()


def send_to(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    def urlopen(request):
        path = urlsplit(request.full_url).path
        return urllib.request.urlopen(urllib.request.Request(address + path, headers=request.headers))

    monkeypatch.setattr("sklearn.datasets._openml.urlopen", urlopen)


@pytest.mark.parametrize("source", ["openml:7", "openml:weather", "openml:Weather"])
def test_load_data_downloads_a_table_with_its_default_target(openml, source):
    data = load_data(source)
    assert (data.name, data.classes) == (source, ("high", "low"))
    assert data.fingerprint == load_data(FRAME, target="wind").fingerprint


def test_load_data_downloads_a_table_once(openml, monkeypatch):
    fingerprint = load_data("openml:7").fingerprint
    send_to(monkeypatch, "http://127.0.0.1:9")  # no server has this port
    assert load_data("openml:7").fingerprint == fingerprint


def test_load_data_uses_another_target_of_a_table(openml):
    expected = load_data(FRAME.drop(columns="wind"), target="yield", regression=True)
    assert load_data("openml:9", target="yield", regression=True).fingerprint == expected.fingerprint


def test_load_data_reads_an_image_table_of_openml(openml):
    data = load_data("openml:mnist_784")
    expected = load_data((PIXELS.reshape(10, 2, 2), ["0", "1"] * 5))
    assert (data.shape, data.classes, data.y.tolist()) == ((1, 2, 2), ("0", "1"), [0, 1] * 5)
    np.testing.assert_allclose(data.X, expected.X, rtol=1e-6)


def test_load_data_notes_that_a_name_has_several_versions(openml):
    text = "openml:double: Multiple active versions of the dataset matching the name double exist"
    with pytest.warns(DataWarning, match=f"^{text}. .*, returning version 1.$") as caught:
        load_data("openml:double", target="yield", regression=True)
    assert [one.filename for one in caught] == [__file__]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "openml:777",
            "cannot download 'openml:777': Dataset with data_id 777 not found.; check the name or ID",
        ),
        ("openml:wether", "cannot download 'openml:wether': No active dataset wether found.; check the name"),
        ("openml:a table", "cannot download 'openml:a table': .*; check the name or ID on www.openml.org"),
        (
            "openml:8",
            "openml:8 has no default target; set target .--target COLUMN.; its columns are rain, wind$",
        ),
        (
            "openml:9",
            "openml:9 has several default targets: rain, yield; set target .* are heat, rain, yield$",
        ),
        (
            "openml:11",
            "cannot download 'openml:11': it is sparse; read it with scikit-learn's fetch_openml, and",
        ),
        ("openml:", "unknown data 'openml:'; pass one of .*, openml:NAME"),
    ],
)
def test_load_data_refuses_a_table_without_data_or_target(openml, source, message):
    refused(message, source)


def test_load_data_suggests_the_name_of_a_target_of_openml(openml):
    refused(
        "openml:7: no column 'yeild' .did you mean 'yield'..; the target column",
        "openml:7",
        target="yeild",
        regression=True,
    )


def test_load_data_without_network_states_the_reason(openml, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client tries again after a second
    send_to(monkeypatch, "http://127.0.0.1:9")  # no server has this port
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refused("cannot download 'openml:7': .*Connection refused.*; check .*, and the network", "openml:7")


def test_train_verb_trains_on_a_table_of_openml(openml, capsys):
    call = "train --epochs 1 --hidden 4 --json --data".split()
    assert main([*call, "openml:9", "--target", "yield", "--regression"]) == 0
    assert json.loads(capsys.readouterr().out)["data"] == "openml:9"
    assert "openml:wether" in refused_in_one_line(capsys, *call, "openml:wether")
