"""The clients in Go and Node.js of examples/: built from the protos, run against `kfadapter dev`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from tests.certificates import CertificateAuthority
from tests.e2e.conftest import ROOT, SECONDS, dev, spawned
from tests.e2e.test_security import make_token
from tests.system.between import CuttingProxy

from kfadapter.v1 import pipeline_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Adapter

pytestmark = pytest.mark.slow

SAMPLE = "examples/passing_files.yaml"
COLLECTOR = "opentelemetry.proto.collector.trace.v1"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adapter]:
    """`kfadapter dev`."""
    with dev(tmp_path_factory.mktemp("languages")) as adapter:
        yield adapter


@dataclass(frozen=True)
class Example:
    """A client of examples/.

    Attributes:
        words: The command that runs it.
        target: The adapter that it calls.
    """

    words: list[str]
    target: str

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Runs it; `environment` are variables without their prefix KFADAPTER_."""
        named = {f"KFADAPTER_{key}": value for key, value in {"TARGET": self.target, **environment}.items()}
        return subprocess.Popen(
            [*self.words, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **named},
        )

    def run(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        """Runs it to its end; returns exit code, stdout and stderr."""
        with self.start(*arguments, **environment) as process:
            out, err = process.communicate(timeout=SECONDS)
            return process.returncode, out, err


@pytest.fixture(scope="module", params=["go", "node"])
def example(request: pytest.FixtureRequest, running: Adapter) -> Example:
    """An example, built; without its language, tests are skipped, in CI they fail."""
    if not shutil.which(request.param) and not os.environ.get("CI"):
        pytest.skip(f"{request.param} is missing")
    environment = {**os.environ, "XDG_CONFIG_HOME": ""}  # that of tests is no folder, and buf wants one
    command = [ROOT / "scripts" / "example", request.param]
    built = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return Example(built.stdout.split(), running.target)


def test_upload_run_watch_download(example: Example, tmp_path: Path) -> None:
    """A file is uploaded with progress, its run is watched across a broken connection, and its artifacts arrive."""
    name = f"예제-{uuid.uuid4().hex[:12]}"
    code, out, err = example.run("upload", SAMPLE, name)
    assert (code, err) == (0, "sending 7029 of 7029 bytes (100 %)\n")
    assert re.fullmatch(rf"uploaded [0-9a-f]{{64}} as {name} of {name}\n", out)
    assert example.run("upload", SAMPLE, name)[1].endswith(f" as 2 of {name}\n")
    code, out, _ = example.run("get", name)
    assert (code, out.splitlines()[1:]) == (0, ["  count PARAMETER_TYPE_NUMBER_INTEGER = 10"])
    assert re.fullmatch(rf"{name} [0-9a-f-]{{36}}, versions: 2", out.splitlines()[0])

    with CuttingProxy(example.target) as proxy, example.start("run", name, '{"count": 6}', TARGET=proxy.target) as run:
        assert run.stdout
        run_id, state, *_ = run.stdout.readline().split()
        assert state in {"RUN_STATE_PENDING", "RUN_STATE_RUNNING"}
        proxy.cut()
        out, err = run.communicate(timeout=SECONDS)
    assert (run.returncode, out.splitlines()[-1].split()) == (0, [run_id, "RUN_STATE_SUCCEEDED"]), err
    assert err.startswith("watching again: ")

    code, out, err = example.run("download", run_id, str(tmp_path))
    assert (code, err) == (0, "")
    files = {line.split()[0]: line.split()[-1] for line in out.splitlines()}
    contents = {key: Path(path).read_text() for key, path in files.items()}
    assert contents == {"numbers": "1\n2\n3\n4\n5\n6\n", "kept": "2\n4\n6\n"}


def test_errors(example: Example) -> None:
    """A failed call is explained by its reason, its violations and its request id."""
    code, out, err = example.run("get", "없음")
    assert (code, out) == (1, "")
    assert "not found: pipeline '없음'" in err
    assert "\n  reason: PIPELINE_NOT_FOUND\n  request id: " in err
    code, _, err = example.run("get", "")
    assert (code, "\n  reason: INVALID_FIELD\n  field pipeline: set pipeline_id or name" in err) == (1, True), err
    assert example.run("watch", "nothing") == (1, "", "run nothing does not exist\n")


def test_a_refused_upload(example: Example, tmp_path: Path) -> None:
    """A file that is refused before it was sent ends with the reason, and is not sent to its end."""
    huge = tmp_path / "huge.yaml"
    with huge.open("wb") as file:
        file.truncate(64 * 2**20)
    code, _, err = example.run("upload", str(huge), "huge")
    assert (code, "reason: UPLOAD_TOO_LARGE" in err, "(100 %)" in err) == (1, True, False), err


def test_a_trace(example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a collector, the span of the command is exported, and the adapter receives its trace."""
    spans, contexts = {}, []

    def export(request: ExportTraceServiceRequest, _: grpc.ServicerContext) -> ExportTraceServiceResponse:
        for resource in request.resource_spans:
            (service,) = (one.value.string_value for one in resource.resource.attributes if one.key == "service.name")
            spans.update(
                {span.span_id.hex(): (service, span) for scope in resource.scope_spans for span in scope.spans}
            )
        return ExportTraceServiceResponse()

    def get(_: pb.GetPipelineRequest, context: grpc.ServicerContext) -> pb.Pipeline:
        contexts.append(str(dict(context.invocation_metadata())["traceparent"]))
        return pb.Pipeline(name="one")

    exported = grpc.unary_unary_rpc_method_handler(
        export, ExportTraceServiceRequest.FromString, ExportTraceServiceResponse.SerializeToString
    )
    got = grpc.unary_unary_rpc_method_handler(get, pb.GetPipelineRequest.FromString, pb.Pipeline.SerializeToString)
    collector = grpc.method_handlers_generic_handler(f"{COLLECTOR}.TraceService", {"Export": exported})
    adapter = grpc.method_handlers_generic_handler("kfadapter.v1.PipelineService", {"Get": got})
    server = grpc.server(ThreadPoolExecutor(2), handlers=[collector, adapter])
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{target}")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    code, _, err = example.run("get", "one", TARGET=target)
    server.stop(None)
    assert code == 0, err
    ((_, trace_id, parent, _),) = (one.split("-") for one in contexts)
    assert {(service, span.trace_id.hex()) for service, span in spans.values()} == {("mine", trace_id)}
    assert parent in spans
    assert "get" in {span.name for _, span in spans.values()}


def test_tls_and_token(example: Example, embedded_url: str, tmp_path: Path) -> None:
    """With a CA and a token file the call is made over TLS; without the token it is refused."""
    ca = CertificateAuthority()
    authority = str(ca.write(tmp_path))
    certificate, key = ca.issue("localhost").write(tmp_path, "server")
    make_token(tmp_path, "reader", "reader")
    words = ("--listen", "localhost:0", "--metrics-listen", "off", "--kfp-url", embedded_url, "--log-format", "json")
    more = ("--tls-certificate", str(certificate), "--tls-key", str(key), "--token-file", str(tmp_path / "tokens"))
    with spawned("serve", *words, *more) as server:
        assert server.stderr
        target = next(line["address"] for line in map(json.loads, server.stderr) if line["event"] == "serving")
        refused = example.run("get", "nothing", TARGET=target, CA=authority)
        token = str(tmp_path / "reader.token")
        passed = example.run("get", "nothing", TARGET=target, CA=authority, CLIENT_TOKEN_FILE=token)
        unsafe = example.run("get", "nothing", CLIENT_TOKEN_FILE=token)
    assert "reason: UNAUTHENTICATED" in refused[2]
    assert "reason: PIPELINE_NOT_FOUND" in passed[2]
    assert unsafe[0] == 1
    assert "reason" not in unsafe[2]
