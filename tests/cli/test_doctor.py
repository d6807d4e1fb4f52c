from __future__ import annotations

import dataclasses
import json
import socket
import time
from contextlib import ExitStack, closing, contextmanager
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from grpc import StatusCode
from prometheus_client import CollectorRegistry, Gauge
from tests.broken_kfp import EVERYTHING, HEALTHY, REFUSED, answering, closed_port, healthy, untrusted
from tests.certificates import CertificateAuthority
from tests.cli.conftest import Kfadapter
from tests.connecting import connect
from tests.embedded.stand_in_engine import StandInEngine
from tests.old_kfp import OldKfp
from tests.recorded_runs import in_v1beta1, recorded
from tests.scripted_kfp import Connection, Received, ScriptedKfp, answers, resets

from kfadapter_grpc.auth.tokens import TokenEntry, digest, new_token
from kfadapter_grpc.cli import errors as extras
from kfadapter_grpc.cli.errors import ExitCode
from kfadapter_grpc.client import CallFailedError, CannotConnectError, Client, HealthStatus
from kfadapter_grpc.contract.call import Role
from kfadapter_grpc.contract.errors import PermissionDeniedError
from kfadapter_grpc.contract.watches import RunGone
from kfadapter_grpc.daemon.metrics_endpoint import MetricsEndpoint
from kfadapter_grpc.doctor.caller import CHECKS, container_engine, examine
from kfadapter_grpc.doctor.server import (
    access_rules,
    callers,
    file_system,
    listening,
    listening_for_health,
    listening_for_metrics,
    server_certificate,
    upload_folder,
)
from kfadapter_grpc.doctor.verdict import Status, certificate
from kfadapter_grpc.kfp.probes import PROBES
from kfadapter_grpc.methods import SERVICES
from kfadapter_grpc.server import AdapterServer
from kfadapter_grpc.server.process import servicers
from kfadapter_grpc.settings import Settings
from kfadapter_grpc.upload.limits import UploadLimits
from kfadapter_grpc.version import installed_version
from kfadapter_grpc.watch.poller import WatchPoller

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from tests.scripted_kfp import Behaviour

TOLD_BY_RUNS = {"KFP default-retry", "KFP plugins", "KFP log-archive"}
"""What only a run that has ended tells."""


@pytest.fixture
def adapter(embedded_url: str) -> Iterator[str]:
    """The address of an adapter connected to the embedded KFP."""
    with running(embedded_url) as address:
        yield address


@contextmanager
def running(embedded_url: str, **more: Any) -> Iterator[str]:  # noqa: ANN401  as settings are
    """Runs an adapter; yields its address."""
    settings = Settings.load(listen="127.0.0.1:0", kfp_url=embedded_url, **more)
    with ExitStack() as stack:
        backend = stack.enter_context(closing(connect(embedded_url)))
        watches = stack.enter_context(closing(WatchPoller(backend.runs)))
        served = servicers(backend, watches, UploadLimits(), "")
        server = stack.enter_context(AdapterServer(settings, served, backend.is_alive, watches.drain))
        with Client(server.address) as client:
            until = time.monotonic() + 30
            while client.health("kfp") is not HealthStatus.SERVING:
                assert time.monotonic() < until
        yield server.address


class FakeClient(Client):
    """A client whose adapter responds as scripted by the test, and is healthy otherwise."""

    def __init__(self, target: str = "adapter.example:50051", **answers: object) -> None:
        super().__init__(target)
        self._answers = answers
        self.runs.watch = self._watch  # type: ignore[method-assign]

    def _answer(self, what: str, well: object) -> object:
        answer = self._answers.get(what, well)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def health(self, service: str = "") -> HealthStatus:
        """Returns the response set for the service."""
        answer = self._answer(service or "whole", HealthStatus.SERVING)
        assert isinstance(answer, HealthStatus)
        return answer

    def adapter_version(self) -> str:
        """Returns the version that was set."""
        return str(self._answer("version", installed_version()))

    def reflects(self) -> bool:
        """Returns the response that was set."""
        return bool(self._answer("reflects", True))

    def _watch(self, run_ids: object = (), **_: object) -> Generator[RunGone, None, None]:
        """Yields one run that is gone, at a time ahead of now by the seconds that were set."""
        ahead = self._answer("ahead", 0)
        assert isinstance(ahead, int)
        yield RunGone(str(run_ids), datetime.now(timezone.utc) + timedelta(seconds=ahead))


def statuses(out: str) -> dict[str, str]:
    """Returns the status of each check in the JSON output."""
    return {verdict["check"]: verdict["status"] for verdict in json.loads(out)}


def verdicts(out: str, status: str) -> dict[str, dict[str, str]]:
    """Returns the verdicts with this status, by check."""
    return {verdict["check"]: verdict for verdict in json.loads(out) if verdict["status"] == status}


# --- from the client's side ---------------------------------------------------------------------------------------


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A container engine."""
    with StandInEngine() as found:
        monkeypatch.setenv("DOCKER_HOST", found.url)
        yield


@pytest.mark.usefixtures("engine")
def test_a_caller_with_nothing_to_complain_of(adapter: str) -> None:
    """A healthy adapter passes all checks, with exit code 0."""
    ended = Kfadapter(adapter)("doctor", "-o", "json")
    assert (ended.code, ended.err) == (ExitCode.OK, "")
    assert statuses(ended.out) == dict.fromkeys((*(check.name for check in CHECKS), "container engine"), "ok")
    assert all(set(verdict) == {"status", "check", "what", "why", "next"} for verdict in json.loads(ended.out))


@pytest.mark.usefixtures("engine")
def test_a_line_for_each_check(adapter: str) -> None:
    """The table has a header and a line for each check."""
    lines = Kfadapter(adapter)("doctor").out.splitlines()
    assert lines[0].split() == ["STATUS", "CHECK", "WHAT", "WHY", "NEXT"]
    assert [line.split()[1] for line in lines[1:]] == [*(check.name for check in CHECKS), "container"]


def test_no_container_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """For an adapter on this machine, a missing engine is a warning with the remedy; others need none."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    (found,) = container_engine(FakeClient("localhost:50051"))
    assert (found.status, f"{tmp_path}/docker.sock does not respond" in found.what) == (Status.WARNING, True)
    assert "install and start Docker or Podman" in found.advice()
    assert list(container_engine(FakeClient("adapter.example:50051"))) == []


def test_unreachable_adapter() -> None:
    """If the adapter is unreachable, the other checks are skipped; exit code and next step are those of any command."""
    ended = Kfadapter("127.0.0.1:1")("doctor", "-o", "json")
    assert (ended.code, ended.err) == (ExitCode.CANNOT_CONNECT, "")
    (failed,) = verdicts(ended.out, "failed").values()
    assert failed["what"] == "cannot connect to 127.0.0.1:1"
    assert failed["why"].startswith("CANNOT_CONNECT")
    assert failed["next"].startswith("kfadapter dev --port 1: ")
    assert len(verdicts(ended.out, "skipped")) == len(CHECKS) - 1


UNKNOWN_SERVICE = CallFailedError("no", status=StatusCode.NOT_FOUND, request_id="r", metadata={})


@pytest.mark.parametrize(
    ("answer", "check", "status", "what", "step"),
    [
        ({}, "encryption", Status.WARNING, "not encrypted", "TLS"),
        ({"target": "127.0.0.1:1"}, "encryption", Status.OK, "stays on this machine", ""),
        ({"whole": HealthStatus.NOT_SERVING}, "health", Status.FAILED, "NOT_SERVING", "shows whether KFP is reachable"),
        ({SERVICES[1]: HealthStatus.NOT_SERVING}, "services", Status.FAILED, SERVICES[1], "KFP"),
        ({SERVICES[1]: UNKNOWN_SERVICE}, "services", Status.WARNING, SERVICES[1], "pip install"),
        ({"kfp": HealthStatus.NOT_SERVING}, "kfp", Status.FAILED, "cannot reach", "kfadapter doctor --server"),
        ({"version": PermissionDeniedError("who?")}, "read", Status.FAILED, "who?", "access"),
        ({"version": "9.9"}, "version", Status.WARNING, "9.9", "==9.9"),
        ({"version": ""}, "version", Status.WARNING, "too old to report", "update"),
        ({"ahead": 3600}, "clock", Status.WARNING, "3600 s ahead of", "NTP"),
        ({"ahead": -3600}, "clock", Status.WARNING, "3600 s behind", "NTP"),
        ({"reflects": False}, "reflection", Status.OK, "off", ""),
    ],
)
def test_what_may_be_wrong(answer: dict[str, object], check: str, status: Status, what: str, step: str) -> None:
    """Each possible problem has its verdict, and advice that fits."""
    with FakeClient(**answer) as client:  # type: ignore[arg-type]
        found = {verdict.check: verdict for verdict in examine(client)}
    assert list(found) == [one.name for one in CHECKS]
    assert found[check].status is status
    assert what in found[check].what
    output = found[check].next_step
    assert step in (output if isinstance(output, str) else output.text)


def test_what_needs_a_read_that_failed() -> None:
    """Checks that need a read are skipped if it fails; the others are run."""
    with FakeClient(version=PermissionDeniedError("who?")) as client:
        found = {verdict.check: verdict for verdict in examine(client)}
    assert found["read"].exit_code is ExitCode.NOT_ALLOWED
    assert {name for name, one in found.items() if one.status is Status.SKIPPED} == {"version", "clock"}


def test_an_adapter_that_disconnects_meanwhile() -> None:
    """A later call that fails is a failure of its check, not of the command."""
    with FakeClient(kfp=CannotConnectError("cannot connect", metadata={"cause": "refused"})) as client:
        found = {verdict.check: verdict for verdict in examine(client)}
    assert (found["kfp"].status, found["kfp"].exit_code) == (Status.FAILED, ExitCode.CANNOT_CONNECT)
    assert found["reflection"].status is Status.OK


def test_reflection_can_be_off(embedded_url: str) -> None:
    """The client reports that an adapter has no reflection."""
    settings = Settings.load(listen="127.0.0.1:0", kfp_url=embedded_url, reflection=False)
    with AdapterServer(settings, [], lambda: True) as server, Client(server.address) as client:
        assert client.reflects() is False


@pytest.mark.parametrize("options", [["--write-probes"], ["--kfp-url", "http://x"], ["--config", "x.toml"]])
def test_options_of_the_other_end(options: list[str]) -> None:
    """Options that apply only with `--server` are not ignored."""
    ended = Kfadapter("127.0.0.1:1")("doctor", *options)
    assert (ended.code, ended.out) == (ExitCode.USAGE, "")
    assert "--server" in ended.err


# --- from the server's side ---------------------------------------------------------------------------------------


def at_server(*options: str) -> tuple[int, str]:
    """Runs `doctor --server` with a free port to listen on."""
    ended = Kfadapter("127.0.0.1:1")("doctor", "--server", "-o", "json", *options)
    assert ended.err == ""
    return ended.code, ended.out


@pytest.fixture
def free_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets listen addresses with free ports."""
    monkeypatch.setenv("KFADAPTER_LISTEN", "127.0.0.1:0")
    monkeypatch.setenv("KFADAPTER_METRICS_LISTEN", "127.0.0.1:0")


@pytest.mark.slow
@pytest.mark.usefixtures("free_port")
def test_a_server_with_nothing_to_complain_of(embedded_url: str) -> None:
    """With a KFP that supports everything every check is ok, including those that write."""
    code, out = at_server("--kfp-url", embedded_url, "--write-probes")
    assert verdicts(out, "failed") == {}
    assert set(verdicts(out, "skipped")) <= TOLD_BY_RUNS
    assert set(verdicts(out, "warning")) <= {"upload folder"}  # the upload folder of a test machine may be in memory
    assert {f"KFP {probe.name}" for probe in PROBES} < set(statuses(out))
    assert code == ExitCode.OK


@pytest.mark.usefixtures("free_port")
def test_a_kfp_as_2_17_installs_it() -> None:
    """Default retries that override a task's own, and a failed plugin, are warnings that say what to change."""
    stage = recorded("set_retry_not_retried")[-1]
    with ScriptedKfp() as scripted:
        scripted.on("GET", "/healthz", answers(200, HEALTHY))
        scripted.on("GET", "/v1beta1/runs/", answers(200, in_v1beta1(stage)))
        scripted.on("GET", r"/v2beta1/runs\?", answers(200, {"runs": [stage["run"]]})).on("GET", "", answers(200, {}))
        _, out = at_server("--kfp-url", scripted.url)
    warned = verdicts(out, "warning")
    assert "OnError" in warned["KFP default-retry"]["what"]
    assert "set_retry" in warned["KFP default-retry"]["why"]
    assert "workflow-controller-configmap" in warned["KFP default-retry"]["next"]
    assert "mlflow" in warned["KFP plugins"]["what"]
    assert "not affected" in warned["KFP plugins"]["why"]
    assert "KFP log-archive" in verdicts(out, "ok")


@pytest.mark.usefixtures("free_port")
def test_an_older_kfp_is_a_warning(embedded_url: str) -> None:
    """Features that 2.5 lacks are warnings that name the workaround, with exit code 0."""
    with OldKfp(embedded_url) as old:
        code, out = at_server("--kfp-url", old.url, "--write-probes")
    assert code == ExitCode.OK
    warned = verdicts(out, "warning")
    assert {"KFP version-tags", "KFP tag-filter", "KFP names-apart", "KFP cascade"} <= set(warned)
    assert "one by one" in warned["KFP cascade"]["why"]
    assert "2.17" in warned["KFP cascade"]["next"]


@pytest.mark.usefixtures("free_port")
def test_what_would_write_is_skipped(embedded_url: str) -> None:
    """Without `--write-probes` the checks that need to write are named, with the command that runs them."""
    _, out = at_server("--kfp-url", embedded_url)
    skipped = verdicts(out, "skipped")["KFP facts that need writing"]
    assert "cascade" in skipped["why"]
    assert "chosen-run-id" in skipped["why"]
    assert "doctor --server -o json --kfp-url" in skipped["next"]
    assert "--write-probes" in skipped["next"]


ENDS = {
    "closed": ("KFP connection", ExitCode.CANNOT_CONNECT),
    "bad certificate": ("KFP TLS", ExitCode.CANNOT_CONNECT),
    "another protocol": ("KFP HTTP", ExitCode.CANNOT_CONNECT),
    "another web page": ("KFP API", ExitCode.REFUSED),
    "a login page": ("KFP credentials", ExitCode.NOT_ALLOWED),
    "unauthenticated": ("KFP credentials", ExitCode.NOT_ALLOWED),
    "forbidden": ("KFP credentials", ExitCode.NOT_ALLOWED),
}


@pytest.mark.slow
@pytest.mark.usefixtures("free_port")
@pytest.mark.parametrize("how", ENDS)
def test_a_broken_kfp(how: str, tmp_path: Path) -> None:
    """The check of the broken layer fails, those before it are ok, those after it are skipped; the exit code fits."""
    with ExitStack() as stack:
        if how == "closed":
            url = closed_port()
        elif how == "bad certificate":
            url = stack.enter_context(untrusted(tmp_path))
        else:
            url = stack.enter_context(answering(EVERYTHING[how]))
        code, out = at_server("--kfp-url", url)
    check, exit_code = ENDS[how]
    found = statuses(out)
    way = [name for name in found if name.startswith("KFP ")]
    at = way.index(check)
    assert [found[name] for name in way] == ["ok"] * at + ["failed"] + ["skipped"] * (len(way) - at - 1)
    assert url in verdicts(out, "failed")[check]["why"]
    assert verdicts(out, "failed")[check]["next"]
    assert code == exit_code


@pytest.mark.slow
@pytest.mark.usefixtures("free_port")
def test_a_certificate_that_ends_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate of KFP that is accepted, but expires in two days, is a warning with the date."""
    with untrusted(tmp_path) as url:
        monkeypatch.setenv("KFADAPTER_KFP_CA_FILE", str(tmp_path / "ca.pem"))
        _, out = at_server("--kfp-url", url)
    assert "is accepted, and expires 20" in verdicts(out, "warning")["KFP TLS"]["what"]
    assert "in 2 days" in verdicts(out, "warning")["KFP TLS"]["why"]


@pytest.mark.parametrize(("days", "status"), [(-1, Status.FAILED), (13, Status.WARNING), (15, Status.OK)])
def test_when_a_certificate_is_due(days: int, status: Status) -> None:
    """A certificate is due for renewal two weeks before it expires, and a failure afterwards."""
    assert certificate("TLS", "it", time.time() + days * 24 * 3600).status is status


@pytest.mark.usefixtures("free_port")
def test_what_could_not_be_deleted() -> None:
    """A resource that a probe created and KFP did not delete is a failure that names it."""
    with ScriptedKfp() as kfp:
        kfp.on("GET", "/healthz", answers(200, HEALTHY)).on("POST", "/pipelines$", answers(200, {"pipeline_id": "p"}))
        kfp.on("GET", "/names/", answers(200, {"pipeline_id": "p"})).on("GET", "", answers(200, {}))
        kfp.on("POST", "", answers(500)).on("DELETE", "", answers(500))
        code, out = at_server("--kfp-url", kfp.url, "--write-probes")
    assert "pipeline kfadapter-probe-" in verdicts(out, "failed")["KFP cleanup"]["what"]
    assert code == ExitCode.REFUSED


@pytest.mark.usefixtures("free_port")
@pytest.mark.parametrize(
    ("multi_user", "namespace", "status", "output"),
    [
        (True, "", "warning", "no namespace is set"),
        (True, "team-a", "ok", "'team-a' can be listed"),
        (False, "team-a", "ok", "ignored"),
        (False, "", "ok", "none is needed"),
    ],
)
def test_namespaces(multi_user: bool, namespace: str, status: str, output: str) -> None:
    """A multi-user KFP requires a namespace; a single-user KFP ignores it."""
    options = ["--namespace", namespace] if namespace else []
    with healthy(answers(200, {}), multi_user=multi_user) as url:
        _, out = at_server("--kfp-url", url, *options)
    assert statuses(out)["KFP namespace"] == status
    assert output in verdicts(out, status)["KFP namespace"]["what"]


@pytest.mark.usefixtures("free_port")
def test_a_namespace_that_is_closed() -> None:
    """A namespace that the adapter is not allowed to access is a failure of its own."""
    with healthy(answers(403, REFUSED), multi_user=True) as url:
        code, out = at_server("--kfp-url", url, "--namespace", "team-a")
    assert code == ExitCode.NOT_ALLOWED
    assert "KFADAPTER_NAMESPACE" in verdicts(out, "failed")["KFP namespace"]["next"]


@pytest.mark.usefixtures("free_port")
def test_a_kfp_whose_clock_is_wrong() -> None:
    """A clock that is years behind is a warning."""
    late = answers(200, {"tag_name": "2.17.0"}, headers={"Date": "Thu, 01 Jan 2015 00:00:00 GMT"})
    with ScriptedKfp() as kfp:
        kfp.on("GET", "/healthz", late).on("GET", "", answers(200, {}))
        _, out = at_server("--kfp-url", kfp.url)
    assert "behind" in verdicts(out, "warning")["KFP clock"]["what"]


@pytest.mark.usefixtures("free_port")
def test_what_the_adapter_cannot_do_without() -> None:
    """A KFP without a behavior that calls depend on is a failure."""
    with healthy(answers(200, {"runs": [{"run_id": "r"}]})) as url:
        code, out = at_server("--kfp-url", url)
    assert verdicts(out, "failed")["KFP run-filter"]["why"] == "runs cannot be watched"
    assert code == ExitCode.REFUSED


def test_wrong_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All mistakes in the settings are reported, one line each, and nothing else is checked."""
    monkeypatch.setenv("KFADAPTER_LISTN", "x")
    config = tmp_path / "kfadapter.toml"
    config.write_text("max_uploads = 0\n")
    code, out = at_server("--config", str(config), "--kfp-url", "kfp")
    reported = json.loads(out)
    assert [one["status"] for one in reported] == ["failed"] * 3 + ["skipped"]
    assert "did you mean KFADAPTER_LISTEN?" in reported[0]["what"]
    assert code == ExitCode.USAGE


def test_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """`doctor --server` requires the server's packages; the error names the command that installs them."""
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    ended = Kfadapter("127.0.0.1:1")("doctor", "--server")
    assert (ended.code, ended.out) == (ExitCode.USAGE, "")
    assert "pip install 'kfadapter-grpc[server]'" in ended.err


# --- this machine -------------------------------------------------------------------------------------------------


def test_a_free_address() -> None:
    """An address without a listener is free."""
    assert listening(Settings.load(listen="127.0.0.1:0")).status is Status.OK


def test_an_address_of_a_stranger() -> None:
    """An address with a listener other than an adapter fails."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        verdict = listening(Settings.load(listen=f"127.0.0.1:{stranger.getsockname()[1]}"))
    assert verdict.status is Status.FAILED
    assert "not by an adapter" in verdict.what


def test_an_address_of_an_adapter(adapter: str) -> None:
    """An address on which an adapter already listens is ok: it is the adapter under examination."""
    verdict = listening(Settings.load(listen=adapter))
    assert verdict.status is Status.OK
    assert "already" in verdict.what


def test_an_address_of_another_machine() -> None:
    """The server cannot listen on an address of another machine."""
    verdict = listening(Settings.load(listen="192.0.2.1:50051", insecure_listen=True))
    assert verdict.status is Status.FAILED
    assert "cannot listen on" in verdict.what


def test_an_address_for_health(adapter: str) -> None:
    """The address of health checks is checked like the other one."""
    assert listening_for_health(Settings.load()).status is Status.OK
    assert "already" in listening_for_health(Settings.load(health_listen=adapter)).what
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        verdict = listening_for_health(Settings.load(health_listen=f"127.0.0.1:{stranger.getsockname()[1]}"))
    assert verdict.status is Status.FAILED


@pytest.mark.slow
def test_an_address_for_metrics() -> None:
    """The metrics address is ok if metrics are off, if it is free, and if an adapter already serves metrics there."""
    assert "off" in listening_for_metrics(Settings.load(metrics_listen="off")).what
    assert "free" in listening_for_metrics(Settings.load(metrics_listen="127.0.0.1:0")).what
    registry = CollectorRegistry()
    Gauge("kfadapter_build_info", "What runs.", registry=registry)
    with MetricsEndpoint("127.0.0.1:0", registry) as endpoint:
        verdict = listening_for_metrics(Settings.load(metrics_listen=endpoint.address))
    assert (verdict.status, "already" in verdict.what) == (Status.OK, True)


@pytest.mark.parametrize(
    "behaviour", [answers(200, b"node_cpu_seconds_total 1"), answers(404, b"kfadapter_build_info"), resets()]
)
def test_an_address_for_metrics_of_a_stranger(behaviour: Behaviour) -> None:
    """An address with another listener, or one that does not respond, fails: the server would not start."""
    with ScriptedKfp().on("GET", "/metrics", behaviour) as stranger:
        verdict = listening_for_metrics(Settings.load(metrics_listen=stranger.url.removeprefix("http://")))
    assert verdict.status is Status.FAILED
    assert "KFADAPTER_METRICS_LISTEN" in str(verdict)


@pytest.fixture
def secured(tmp_path: Path) -> dict[str, Any]:
    """Settings of a server with TLS, whose certificate expires in two days."""
    authority = CertificateAuthority()
    certificate, key = authority.issue("127.0.0.1").write(tmp_path, "server")
    authority.write(tmp_path)
    return {"listen": "127.0.0.1:0", "tls_certificate": certificate, "tls_key": key}


def test_the_servers_certificate(secured: dict[str, Any]) -> None:
    """The expiry of the server's own certificate is reported in time."""
    verdict = server_certificate(Settings.load(**secured))
    assert (verdict.check, verdict.status) == ("certificate", Status.WARNING)
    assert "server.pem expires 20" in verdict.what
    assert server_certificate(Settings.load()).status is Status.OK
    assert server_certificate(Settings.load(listen="0.0.0.0:1", insecure_listen=True)).status is Status.WARNING


def test_authentication(tmp_path: Path, secured: dict[str, Any]) -> None:
    """Unauthenticated callers, and a token file in which all tokens have expired, are reported."""
    assert callers(Settings.load()).status is Status.OK
    assert callers(Settings.load(listen="0.0.0.0:1", insecure_listen=True)).status is Status.WARNING
    mutual = Settings.load(**secured, tls_client_ca=tmp_path / "ca.pem", tls_client_names="*")
    assert callers(mutual).status is Status.OK
    tokens = tmp_path / "tokens"
    old = TokenEntry("old", Role.READER, digest("a" * 43), date(2020, 1, 1)).line()
    tokens.write_text(old + "\n")
    assert callers(Settings.load(token_file=tokens)).status is Status.FAILED
    tokens.write_text(old + "\n" + TokenEntry("new", Role.READER, digest("b" * 43)).line() + "\n")
    verdict = callers(Settings.load(token_file=tokens))
    assert (verdict.status, "2 tokens" in verdict.what, "1 of them expired" in verdict.what) == (Status.OK, True, True)


def test_rules_that_match_no_caller(tmp_path: Path) -> None:
    """Rules whose conditions no configured way of authentication makes known are a warning that names the settings."""
    rules, tokens = tmp_path / "rules.yaml", tmp_path / "tokens"
    tokens.write_text(TokenEntry("ci", Role.READER, digest("a" * 43)).line())
    of_tokens = "rules:\n- {match: everyone, grants: {a: reader}}\n- {match: {token: ci}, grants: {b: writer}}\n"
    rules.write_text(of_tokens)
    settings = Settings.load(token_file=tokens, access_rules=rules)
    assert (access_rules(settings).status, "its 2 rules" in access_rules(settings).what) == (Status.OK, True)
    rules.write_text(
        of_tokens
        + "- {match: {claims: {team: a}}, grants: {c: writer}}\n"
        + "- {match: {way: certificate}, grants: {d: writer}}\n"
    )
    verdict = access_rules(settings)
    assert (verdict.status, "2 of the 4 rules" in verdict.what) == (Status.WARNING, True)
    assert "callers with issuers and tls_client_ca" in verdict.why


@pytest.mark.parametrize(
    ("match", "also", "status"),
    [
        ("{groups: ml}", '[token_review]\naudiences = ["a"]', Status.WARNING),
        ("{groups: ml}", "", Status.OK),
        ("{groups: ml, issuer: 'https://i.example'}", '[token_review]\naudiences = ["a"]', Status.OK),
        ("{claims: {a: b}, way: issuer}", '[token_review]\naudiences = ["a"]', Status.OK),
        ("everyone", '[token_review]\naudiences = ["a"]', Status.OK),
    ],
)
def test_rules_for_any_issuer(tmp_path: Path, match: str, also: str, status: Status) -> None:
    """With several issuers, a rule about groups that names none is a warning: each of them can give the role."""
    rules, issuers = tmp_path / "rules.yaml", tmp_path / "issuers.toml"
    issuers.write_text(f'[[issuers]]\nissuer = "https://i.example"\naudiences = ["a"]\n{also}\n')
    rules.write_text(f"rules: [{{match: {match}, grants: {{a: writer}}}}]")
    verdict = access_rules(Settings.load(issuers=issuers, access_rules=rules))
    assert (verdict.status, "1 of the 1 rules" in verdict.what) == (status, status is Status.WARNING)


def test_a_caller_with_tls(secured: dict[str, Any], tmp_path: Path) -> None:
    """The client reports when the adapter's certificate expires; `--server` cannot check an adapter with TLS."""
    settings = Settings.load(**secured)
    with AdapterServer(settings, [], lambda: True) as server:
        ended = Kfadapter(server.address)("--ca", str(tmp_path / "ca.pem"), "doctor", "-o", "json")
        again = listening(dataclasses.replace(settings, listen=server.address))
    assert "certificate expires 20" in verdicts(ended.out, "warning")["encryption"]["what"]
    assert (again.status, "in use" in again.what) == (Status.WARNING, True)


def test_callers_with_tokens(embedded_url: str, tmp_path: Path) -> None:
    """Every call of the doctor sends the token; without it the read fails, with an exit code that fits."""
    tokens, token = tmp_path / "tokens", new_token()
    tokens.write_text(TokenEntry("reader", Role.READER, digest(token)).line() + "\n")
    (tmp_path / "token").write_text(token)
    with running(embedded_url, token_file=tokens) as address:
        let_in = Kfadapter(address)("--token-file", str(tmp_path / "token"), "doctor", "-o", "json")
        refused = Kfadapter(address)("doctor", "-o", "json")
    assert (let_in.code, verdicts(let_in.out, "failed")) == (ExitCode.OK, {})
    assert statuses(let_in.out)["reflection"] == "ok"
    assert "on: grpcurl" in verdicts(let_in.out, "ok")["reflection"]["what"]
    assert refused.code == ExitCode.NOT_ALLOWED
    assert verdicts(refused.out, "failed")["read"]["why"].startswith("UNAUTHENTICATED")
    assert token not in let_in.out + let_in.err + refused.out


MOUNTS = """\
22 1 8:1 / / rw - ext4 /dev/sda1 rw
24 22 8:2 / /tmp/a\\040b rw - xfs /dev/sda2 rw
23 22 0:20 / /tmp rw,nosuid shared:5 - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [("/tmp/x", "tmpfs"), ("/tmp", "tmpfs"), ("/var/x", "ext4"), ("/tmp/a b/c", "xfs"), ("/tmpx", "ext4")],  # noqa: S108
)
def test_the_file_system_of_a_folder(folder: str, kind: str) -> None:
    """The innermost mount determines the file system, also if its path has a space."""
    assert file_system(Path(folder), MOUNTS) == kind


def test_an_unknown_file_system() -> None:
    """If the mounts are unknown, the file system is unknown."""
    assert file_system(Path("/x"), "") == ""


def test_uploads_in_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An upload folder in memory is a warning."""
    mounts = tmp_path / "mounts"
    mounts.write_text("22 1 0:20 / / rw - tmpfs tmpfs rw\n")
    monkeypatch.setattr("kfadapter_grpc.doctor.server._MOUNTS", mounts)
    verdict = upload_folder(Settings.load(upload_dir=tmp_path))
    assert (verdict.status, "in memory" in verdict.what) == (Status.WARNING, True)


def test_uploads_without_space(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder without space for the allowed number of concurrent uploads is a warning with the figures."""
    monkeypatch.setattr("kfadapter_grpc.doctor.server._MOUNTS", tmp_path / "none")
    verdict = upload_folder(Settings.load(upload_dir=tmp_path, max_uploads=1000, max_upload_bytes=2**45))
    assert verdict.status is Status.WARNING
    assert "1000 uploads" in verdict.why
    assert upload_folder(Settings.load(upload_dir=tmp_path, max_upload_bytes=1)).status is Status.OK


# --- how the doctor authenticates to Kubeflow Pipelines -----------------------------------------------------------


def _with_token(connection: Connection, received: Received) -> bool:
    """Answers as a KFP that accepts one token."""
    known = received.headers.get("authorization") == "Bearer canary"
    return answers(*((200, HEALTHY) if known else (401, REFUSED)))(connection, received)


def test_the_doctor_uses_the_adapters_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The doctor sends the same credentials to Kubeflow Pipelines as the adapter, and never prints them."""
    token = tmp_path / "token"
    token.write_text("canary")
    with answering(_with_token) as url:
        monkeypatch.setenv("KFADAPTER_LISTEN", "127.0.0.1:0")
        before = Kfadapter("127.0.0.1:1")("doctor", "--server", "--kfp-url", url, "-o", "json")
        assert verdicts(before.out, "failed")["KFP credentials"]["what"].endswith("(HTTP 401)")
        monkeypatch.setenv("KFADAPTER_KFP_CREDENTIALS", "token-file")
        monkeypatch.setenv("KFADAPTER_KFP_TOKEN_FILE", str(token))
        ended = Kfadapter("127.0.0.1:1")("doctor", "--server", "--kfp-url", url, "-o", "json")
    assert statuses(ended.out)["KFP credentials"] == "ok"
    assert "canary" not in ended.out + ended.err


@pytest.mark.parametrize("healthz", [answers(200, HEALTHY), EVERYTHING["unauthenticated"]], ids=["well", "401"])
def test_the_doctor_has_no_caller(monkeypatch: pytest.MonkeyPatch, healthz: Behaviour) -> None:
    """If callers' credentials are forwarded, the checks that need one are skipped, which is not a failure."""
    monkeypatch.setenv("KFADAPTER_LISTEN", "127.0.0.1:0")
    monkeypatch.setenv("KFADAPTER_KFP_CREDENTIALS", "forward")
    with ScriptedKfp() as server:
        server.on("GET", "/healthz", healthz)
        ended = Kfadapter("127.0.0.1:1")("doctor", "--server", "--kfp-url", server.url, "-o", "json")
        asked = [request.path for request in server.requests]
    assert ended.code == ExitCode.OK
    assert statuses(ended.out)["KFP API"] == "ok"
    assert list(verdicts(ended.out, "skipped")) == ["KFP credentials and facts"]
    assert asked == ["/apis/v2beta1/healthz"]
