from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass
from scripts import demo
from tests.e2e.conftest import ROOT, SECONDS

from kfadapter.v1 import pipeline_pb2, run_pb2

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

_SERVICES = {**pipeline_pb2.DESCRIPTOR.services_by_name, **run_pb2.DESCRIPTOR.services_by_name}


def run_demo(temporary: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the demo, without installing it, with a temporary folder of its own."""
    return subprocess.run(
        [sys.executable, "scripts/demo.py", *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONUTF8": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def test_the_demo_does_the_main_job(tmp_path: Path) -> None:
    """It succeeds, shows each step with its result and a grpcurl command, and leaves nothing behind."""
    done = run_demo(tmp_path)
    assert done.returncode == 0, done.stderr
    for number, step in enumerate(demo.STEPS, 1):
        assert f"{number}. {step.title}\n" in done.stdout
        assert f"kfadapter.v1.{step.service}/{step.method}\n" in done.stdout
    assert re.search(r"^Versions +2$", done.stdout, re.MULTILINE)
    assert re.search(r"^patience +integer +3 +optional", done.stdout, re.MULTILINE)
    assert re.search(r"^State +SUCCEEDED$", done.stdout, re.MULTILINE)
    assert re.search(r"^fit +metrics.loss +0\.\d+", done.stdout, re.MULTILINE)
    assert re.search(r"^\d\d:\d\d:\d\d  fit  FAILED .*division by zero", done.stdout, re.MULTILINE)
    assert re.search(r"^error: run 'train .*' failed\nwhy:   .*ZeroDivisionError", done.stderr, re.MULTILINE)
    assert "deleted train with 2 versions\n" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_keep_leaves_the_servers_running(tmp_path: Path) -> None:
    """With --keep the adapter keeps running, and the printed command stops it and removes its data."""
    done = run_demo(tmp_path, "--keep")
    assert done.returncode == 0, done.stderr
    output = dict(re.findall(r"^  (\w+) +(.*)$", done.stdout.partition("still running")[2], re.MULTILINE))
    target = output["adapter"].split()[0]
    try:
        with grpc.insecure_channel(target) as channel:
            grpc.channel_ready_future(channel).result(SECONDS)
    finally:
        subprocess.run(["bash", "-c", output["stop"]], check=True, timeout=SECONDS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "step",
    [step for step in demo.STEPS if isinstance(step.body, str)],
    ids=lambda step: f"{step.service}-{step.method}",
)
def test_the_grpcurl_bodies_are_requests(step: demo.Step) -> None:
    """Each request body shown by the demo is a message of the contract, and the shell passes it on unchanged."""
    words = shlex.split(demo.grpcurl(step, "127.0.0.1:1"))
    assert words[:3] == ["grpcurl", "-plaintext", "-d"]
    assert words[4:] == ["127.0.0.1:1", f"kfadapter.v1.{step.service}/{step.method}"]
    assert isinstance(json.loads(words[3]), dict)
    request = GetMessageClass(_SERVICES[step.service].methods_by_name[step.method].input_type)()
    json_format.Parse(words[3], request)
    assert (
        demo.NAME in {getattr(request, "name", None), getattr(request, "pipeline_name", None)} or demo.RUN in step.body
    )


def test_a_demo_that_cannot_start_reports_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the servers do not start, the demo shows their output, and leaves nothing behind."""
    monkeypatch.setenv("KFADAPTER_MAX_UPLOADS", "none")
    done = run_demo(tmp_path)
    assert done.returncode == 1
    assert "max_uploads" in done.stderr
    assert list(tmp_path.iterdir()) == []
