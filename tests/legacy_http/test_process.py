"""`kfadapter legacy-http` as a process: shutdown, metrics, and rejected options."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.contract.running import eventually
from tests.legacy_http.calling import FORM, WAIT_SECONDS, Caller, Gateway, form, process

from kfadapter_grpc.metrics.catalog import LEGACY_HTTP_CATALOG
from kfadapter_oran.legacy_http.app import NO_ROUTE

PROGRAM = str(Path(sys.executable).parent / "kfadapter")
FILE = (Path(__file__).parents[1] / "data" / "pipelines" / "hello_world.yaml").read_bytes()


@pytest.mark.slow
def test_sigterm_in_the_middle_of_an_upload(server: Gateway) -> None:
    """On SIGTERM an upload in flight is completed, and the process exits with 0."""
    name = f"sigterm-{time.time_ns()}"
    body = form(("description", b""), ("file", FILE))
    with process(server.adapter.address) as (running, address, _):
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), WAIT_SECONDS) as connection:
            head = f"POST /pipelineIds/{name} HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\n"
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:-200])
            eventually(lambda: server.adapter.admission.count() == 1)
            running.send_signal(signal.SIGTERM)
            eventually(lambda: Caller(address).get("/experiments").status == 503)
            assert running.poll() is None
            connection.sendall(body[-200:])
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert running.wait(WAIT_SECONDS) == 0
    assert server.caller.get(f"/pipelineIds/{name}").status == 200


@pytest.mark.slow
def test_requests_are_counted(server: Gateway) -> None:
    """The metrics count requests by route and status, and match the catalog."""
    with process(server.adapter.address) as (_, address, metrics):
        caller = Caller(address)
        caller.get("/experiments/Default")
        caller.get("/experiments/nobody")
        caller.get("/nowhere")
        (expected,) = LEGACY_HTTP_CATALOG

        def counted() -> list[tuple[str, str]]:
            families = text_string_to_metric_families(Caller(metrics).get("/metrics").body.decode())
            found = {one.name: one for one in families}[expected.name.removesuffix("_total")]
            assert (found.documentation, found.type) == (expected.text, expected.kind)
            return sorted((one.labels["route"], one.labels["status"]) for one in found.samples if one.value)

        wanted = [("/experiments/{name}", "200"), ("/experiments/{name}", "404"), (NO_ROUTE, "404")]
        eventually(lambda: counted() == wanted)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--listen", "0.0.0.0:0"], "without TLS calls and their tokens can be read"),
        (["--listen", "nowhere"], "must be HOST:PORT"),
        (["--tls-key", "x"], "go together"),
        (["--tls-certificate", "/nowhere", "--tls-key", "/nowhere"], "No such file"),
    ],
)
def test_options_that_are_wrong(options: list[str], words: str) -> None:
    """Invalid options are rejected before the server listens, with exit code 2."""
    done = subprocess.run([PROGRAM, "legacy-http", *options], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert words in re.sub(r"\s+", " ", done.stderr)


@pytest.mark.parametrize("way", ["flag", "variable"])
def test_the_option_of_serve_has_gone(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`serve --legacy-http` and its variable are rejected, with the command that replaces them."""
    arguments = ["--legacy-http", "5001"] if way == "flag" else []
    monkeypatch.setenv("KFADAPTER_LEGACY_HTTP", "5001" if way == "variable" else "")
    done = subprocess.run([PROGRAM, "serve", *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "kfadapter legacy-http --target" in re.sub(r"\s+", " ", done.stderr)
