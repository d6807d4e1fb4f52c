from __future__ import annotations

import gzip
import io
import json
import os
import re
import signal
import socket
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest
import yaml
from tests.e2e.conftest import ROOT, SECONDS, dev, serve, spawned

from kfadapter_embedded.dev import LAST_LINES
from kfadapter_grpc.cli.errors import ExitCode

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Adapter

pytestmark = pytest.mark.slow

TRAIN = "examples/train.yaml"
TRAIN_V2 = "examples/train_v2.yaml"


def test_the_main_job(adapter: Adapter, name: str) -> None:
    """The main job of this project: upload, a second version, get with parameters, list versions, delete."""
    first = json.loads(adapter.printed("upload", TRAIN, "--name", name, "-o", "json"))
    assert (first["pipeline_created"], first["version_created"], first["version"]["name"]) == (True, True, name)
    assert first["bytes"] == (ROOT / TRAIN).stat().st_size
    second = json.loads(adapter.printed("upload", TRAIN_V2, "--name", name, "-o", "json"))
    assert (second["pipeline_created"], second["version_created"], second["version"]["name"]) == (False, True, "2")

    got = json.loads(adapter.printed("get", name, "-o", "json"))
    assert (got["name"], got["version_count"], got["latest_version"]["name"]) == (name, 2, "2")
    spec = got["latest_version"]["spec"]
    assert (spec["format"], spec["schema_version"], spec["sdk_version"]) == ("kfp_v2", "2.1.0", "kfp-2.17.3")
    parameters = {p["name"]: (p["type"], p.get("default_value"), p["optional"]) for p in spec["parameters"]}
    assert parameters == {
        "dataset_seed": ("NUMBER_INTEGER", None, False),
        "rows": ("NUMBER_INTEGER", 100, True),
        "epochs": ("NUMBER_INTEGER", 20, True),
        "learning_rate": ("NUMBER_DOUBLE", 0.01, True),
        "patience": ("NUMBER_INTEGER", 3, True),
        "title": ("STRING", "첫 번째 모델", True),
        "layers": ("LIST", [64, 32], True),
        "options": ("STRUCT", {"dropout": 0.1, "optimizer": "sgd"}, True),
        "verbose": ("BOOLEAN", True, True),
    }
    assert adapter.printed("get", got["pipeline_id"], "-o", "name") == f"{name}\n"
    assert set(adapter.printed("versions", name, "-o", "name").split()) == {name, "2"}
    assert adapter.printed("list", "--contains", name, "-o", "name") == f"{name}\n"

    refused = adapter.run("delete", name)
    assert (refused.returncode, b"--force" in refused.stderr) == (ExitCode.REFUSED, True)
    assert adapter.printed("delete", name, "--force") == f"deleted {name} with 2 versions\n"
    assert adapter.run("get", name).returncode == ExitCode.NOT_FOUND


def test_get_for_a_person(adapter: Adapter, name: str) -> None:
    """The table shows Korean text and every parameter."""
    adapter.printed("upload", TRAIN, "--name", name, "--description", "학습 파이프라인")
    shown = adapter.printed("get", name)
    assert "학습 파이프라인" in shown
    assert "KFP v2 (schema 2.1.0, kfp-2.17.3)" in shown
    assert re.search(r'^title +string +"첫 번째 모델" +optional +What the report', shown, re.MULTILINE)
    assert re.search(r"^dataset_seed +integer +required", shown, re.MULTILINE)


def test_the_same_file_is_not_stored_twice(adapter: Adapter, name: str) -> None:
    """An upload returns the version with the same bytes; another file becomes a new version."""
    arguments = ("--name", name, "-o", "json")
    first = json.loads(adapter.printed("upload", TRAIN, *arguments))
    done = adapter.run("upload", TRAIN, *arguments)
    again = json.loads(done.stdout)
    assert not again["version_created"] or again["duplicate_check_skipped"]
    if not again["duplicate_check_skipped"]:
        assert again["version"]["pipeline_version_id"] == first["version"]["pipeline_version_id"]
        assert b"has the same bytes" in done.stderr
    assert json.loads(adapter.printed("upload", TRAIN_V2, *arguments))["version_created"]


def test_a_repeated_request_is_served_as_the_first(adapter: Adapter, name: str) -> None:
    """The same request id and file return the first version; another file with that request id is rejected."""
    arguments = ("--name", name, "--request-id", name, "-o", "json")
    first, again = (json.loads(adapter.printed("upload", TRAIN, *arguments)) for _ in range(2))
    if again["duplicate_check_skipped"]:
        pytest.skip("this KFP keeps no tags")
    assert again["version"]["pipeline_version_id"] == first["version"]["pipeline_version_id"]
    refused = adapter.run("upload", TRAIN_V2, *arguments)
    assert (refused.returncode, b"REQUEST_ID_REUSED" in refused.stderr) == (ExitCode.REFUSED, True)


def test_if_exists_fail(adapter: Adapter, name: str) -> None:
    """With --if-exists fail, an existing name is rejected."""
    adapter.printed("upload", TRAIN, "--name", name)
    refused = adapter.run("upload", TRAIN, "--name", name, "--if-exists", "fail")
    assert refused.returncode == ExitCode.REFUSED
    assert b"PIPELINE_EXISTS" in refused.stderr


def test_every_kind_of_file(adapter: Adapter, name: str, tmp_path: Path) -> None:
    """YAML, JSON, zip, tar.gz and Python files are accepted, whatever the file's name, and stdin too."""
    text = (ROOT / TRAIN).read_bytes()
    as_json = json.dumps(yaml.safe_load(text)).encode()
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("pipeline.yaml", text)
    with tarfile.open(fileobj=tarred, mode="w:gz") as tar:
        member = tarfile.TarInfo("pipeline.yaml")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text))
    for body in (text, as_json, zipped.getvalue(), tarred.getvalue()):
        file = tmp_path / "anything"
        file.write_bytes(body)
        receipt = json.loads(adapter.printed("upload", str(file), "--name", name, "-o", "json"))
        assert receipt["bytes"] == len(body)
    adapter.printed("upload", "examples/train.py", "--name", name, "--new-version")
    adapter.printed("upload", "-", "--name", name, "--new-version", stdin=text)
    assert json.loads(adapter.printed("get", name, "-o", "json"))["version_count"] == 6


@pytest.mark.parametrize(
    ("body", "output"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(100), b"INVALID_PIPELINE_FILE"),
        (b"a: 1\nb: [\n", b"Line 3, column 1"),
        (b"", b"error"),
        (gzip.compress(b"no tar at all"), b"INVALID_PIPELINE_FILE"),
    ],
    ids=["png", "yaml", "empty", "gzip"],
)
def test_what_is_no_pipeline_is_refused(
    body: bytes, output: bytes, adapter: Adapter, name: str, tmp_path: Path
) -> None:
    """A file that is not a pipeline is rejected with a reason, and no pipeline is created."""
    file = tmp_path / "bad.yaml"
    file.write_bytes(body)
    refused = adapter.run("upload", str(file), "--name", name)
    assert (refused.returncode, refused.stdout) == (ExitCode.REFUSED, b"")
    assert output in refused.stderr
    assert adapter.run("get", name).returncode == ExitCode.NOT_FOUND


@pytest.mark.parametrize("bad", ["", "x" * 300, "a\tb"], ids=["empty", "long", "control"])
def test_a_name_that_cannot_be(bad: str, adapter: Adapter) -> None:
    """Empty, too long and unprintable names are rejected with the field and the request id."""
    refused = adapter.run("upload", TRAIN, "--name", bad)
    assert refused.returncode == ExitCode.REFUSED
    assert re.search(rb"name.*\nwhy:   INVALID_FIELD, request \S+\n", refused.stderr, re.DOTALL)


def test_a_path_as_a_name_is_only_a_name(adapter: Adapter) -> None:
    """A name that looks like a path is only a name; nothing is read or written there."""
    name = "../../etc/passwd"
    try:
        adapter.printed("upload", TRAIN, "--name", name)
        assert adapter.printed("get", name, "-o", "name") == f"{name}\n"
    finally:
        adapter.run("delete", name, "--allow-missing")


def test_a_deadline_that_cannot_be_met(adapter: Adapter) -> None:
    """A call with a timeout of a millisecond ends as timed out."""
    refused = adapter.run("list", "--timeout", "0.001")
    assert refused.returncode == ExitCode.TIMED_OUT


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_dev_stops_cleanly(number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C or SIGTERM ends both servers with exit code 0 and without output."""
    with dev(tmp_path) as running:
        running.process.send_signal(number)
        out, err = running.process.communicate(timeout=SECONDS)
        assert (running.process.returncode, out, err) == (0, "", "")
        for address in (running.target, _kfp(running)):
            assert not _answers(address)


def test_dev_ends_with_its_kfp(tmp_path: Path) -> None:
    """When the embedded KFP is killed, dev stops the adapter, reports that, and ends with exit code 8."""
    with dev(tmp_path) as running:
        os.kill(int((tmp_path / "lock").read_text()), signal.SIGKILL)
        out, err = running.process.communicate(timeout=SECONDS)
        assert (running.process.returncode, out) == (ExitCode.REFUSED, "")
        assert err == (
            "error: the embedded Kubeflow Pipelines ended unexpectedly (signal 9)\n"
            "why:   it wrote no message\n"
            f"next:  kfadapter dev --port 0 --kfp-port 0 --data {tmp_path} --no-page\n"
            f"       the data is in {tmp_path}\n"
        )
        assert not _answers(running.target)


def test_dev_reports_the_last_words_of_its_kfp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last lines that the embedded KFP wrote to stderr before it died are shown."""
    monkeypatch.setenv("PYTHONFAULTHANDLER", "1")
    with dev(tmp_path) as running:
        os.kill(int((tmp_path / "lock").read_text()), signal.SIGABRT)
        err = running.process.communicate(timeout=SECONDS)[1]
        assert running.process.returncode == ExitCode.REFUSED
        assert "ended unexpectedly (signal 6)\nwhy:   " in err
        assert ", line " in err
        assert len(err.splitlines()) == LAST_LINES + 3


def test_dev_keeps_its_data(tmp_path: Path) -> None:
    """Uploads are kept across kill -9 and a restart on the same folder."""
    with dev(tmp_path) as before:
        before.printed("upload", TRAIN)
        before.process.kill()
        before.process.wait(SECONDS)
    with dev(tmp_path) as after:
        assert after.printed("list", "-o", "name") == "train\n"


def test_one_folder_is_for_one_dev(tmp_path: Path) -> None:
    """A second dev on the same folder is rejected with an error, and the first continues."""
    with dev(tmp_path) as first:
        with spawned("dev", "--port", "0", "--kfp-port", "0", "--data", str(tmp_path)) as second:
            out, err = second.communicate(timeout=SECONDS)
        assert (second.returncode, out) == (ExitCode.REFUSED, "")
        assert f"the data folder {tmp_path} is in use" in err
        assert "next:  stop the other kfadapter dev, or name another folder with --data" in err
        assert first.printed("list", "-o", "json") == "[]\n"


def test_the_banner_is_true(tmp_path: Path) -> None:
    """The command in the banner works when pasted."""
    with dev(tmp_path) as running:
        lines = dict(line.split(maxsplit=1) for line in running.output)
        assert list(lines) == ["adapter", "KFP", "data", "try", "grpcurl", "stop"]
        assert lines["data"] == str(tmp_path)
        assert lines["try"].split()[:3] == ["kfadapter", "--target", running.target]
        assert running.printed(*lines["try"].split()[3:], "-o", "json") == "[]\n"
        assert _answers(_kfp(running))


def test_a_stopped_kfp_is_reported() -> None:
    """If KFP is unreachable, the command reports KFP_UNAVAILABLE, and exits with the code for connection failures."""
    with serve("http://127.0.0.1:1") as running:
        refused = running.run("get", "train")
        assert refused.returncode == ExitCode.CANNOT_CONNECT
        assert b"KFP_UNAVAILABLE" in refused.stderr


def _kfp(running: Adapter) -> str:
    line = next(line for line in running.output if line.startswith("KFP"))
    return line.split()[1].removeprefix("http://")


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0
