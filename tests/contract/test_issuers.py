"""Callers with signed tokens, together with token files, client certificates, and a multi-user KFP."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from structlog.testing import capture_logs
from tests.certificates import CertificateAuthority
from tests.contract.running import eventually, failure
from tests.contract.test_authorization import OWN, guarded
from tests.contract.tokens import TOKENS, bearer, token_file, token_lines
from tests.oidc import claims, issuers_file, serving, token
from tests.scripted_kfp import ScriptedKfp, answers, drips, stalls

from kfadapter.v1 import identity_pb2, pipeline_pb2, run_pb2
from kfadapter.v1.identity_pb2_grpc import IdentityServiceStub
from kfadapter.v1.pipeline_pb2_grpc import PipelineServiceStub
from kfadapter.v1.run_pb2_grpc import RunServiceStub
from kfadapter_grpc.auth import issuer_keys
from kfadapter_grpc.doctor.issuers import examine
from kfadapter_grpc.doctor.verdict import Status
from kfadapter_grpc.server.process import servicers
from kfadapter_grpc.setting_sources import SettingsError
from kfadapter_grpc.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.running import Reported
    from tests.scripted_kfp import Behaviour

WHO = identity_pb2.WhoAmIRequest()


def who(channel: grpc.Channel, text: str) -> identity_pb2.WhoAmIResponse:
    """Asks with a bearer token who it is."""
    answer: identity_pb2.WhoAmIResponse = IdentityServiceStub(channel).WhoAmI(WHO, metadata=bearer(text), timeout=30)
    return answer


def refusal(channel: grpc.Channel, *metadata: tuple[str, str | bytes]) -> Reported:
    """Calls WhoAmI, which must be refused."""
    return failure(lambda: IdentityServiceStub(channel).WhoAmI(WHO, metadata=metadata, timeout=30))


@contextmanager
def issued(
    folder: Path, *names: str, keys: Behaviour | None = None, **settings: str
) -> Iterator[tuple[ScriptedKfp, Path]]:
    """An issuer, and the file that accepts it."""
    with serving(*names, keys=keys) as issuer:
        yield issuer, issuers_file(folder, issuer.url, **settings)


def test_signed_tokens_beside_a_token_file(tmp_path: Path) -> None:
    """Tokens of an issuer and of the token file are both valid; WhoAmI returns what is known of each."""
    tokens = token_file(tmp_path, token_lines("reader"))
    settings: dict[str, Any] = {"name_claim": "email", "name_prefix": "oidc:", "role": "reader"}
    with issued(tmp_path, "rsa", **settings) as (issuer, file), guarded(issuers=file, token_file=tokens) as adapter:
        with grpc.insecure_channel(adapter.server.address, OWN) as channel:
            signed = token(claims(iss=issuer.url, email="앨리스@example.org"))
            found = who(channel, signed)
            assert (found.name, found.way) == ("oidc:앨리스@example.org", identity_pb2.WAY_ISSUER)
            assert (found.issuer, found.subject, *found.groups) == (issuer.url, "alice", "ml", "한국어")
            assert [(one.namespace, one.role) for one in found.grants] == [("*", identity_pb2.ROLE_READER)]
            assert (who(channel, TOKENS["reader"]).name, who(channel, TOKENS["reader"]).way) == ("reader", 2)
            for text in (TOKENS["writer"], "x"):
                assert refusal(channel, *bearer(text)).reason == "UNAUTHENTICATED"
            assert refusal(channel, *bearer(signed), *bearer(TOKENS["reader"])).reason == "UNAUTHENTICATED"
            unverified = token(claims(iss=issuer.url, email="a@example.org", email_verified=False))
            assert refusal(channel, *bearer(unverified)).metadata["fault"] == "CLAIMS"
            stub = PipelineServiceStub(channel)
            what = failure(
                lambda: stub.Delete(pipeline_pb2.DeletePipelineRequest(pipeline_id="x"), metadata=bearer(signed))
            )
            assert (what.reason, what.metadata["role"]) == ("PERMISSION_DENIED", "reader")
        assert len(issuer.paths("GET")) == 2


def test_without_a_role(tmp_path: Path) -> None:
    """Callers of an issuer without a role may ask who they are, and nothing else."""
    with issued(tmp_path, "rsa", role="reader") as (issuer, file):
        file.write_text(file.read_text().replace('role = "reader"\n', ""))
        with guarded(issuers=file) as adapter, grpc.insecure_channel(adapter.server.address, OWN) as channel:
            signed = token(claims(iss=issuer.url))
            assert (who(channel, signed).name, len(who(channel, signed).grants)) == ("alice", 0)
            listed = pipeline_pb2.ListPipelinesRequest()
            what = failure(lambda: PipelineServiceStub(channel).List(listed, metadata=bearer(signed)))
            assert (what.reason, what.metadata["role"]) == ("PERMISSION_DENIED", "none")


def test_a_changed_file(tmp_path: Path) -> None:
    """Changes of the file apply while the server runs; a mistake in it changes nothing."""
    with (
        issued(tmp_path, "rsa") as (issuer, file),
        guarded(issuers=file) as adapter,
        capture_logs() as lines,
        grpc.insecure_channel(adapter.server.address, OWN) as channel,
    ):
        signed, text = token(claims(iss=issuer.url)), file.read_text()
        assert who(channel, signed).grants[0].role == identity_pb2.ROLE_WRITER
        file.write_text("x")
        eventually(lambda: [one for one in lines if one["event"].startswith("the issuers: invalid")])
        assert who(channel, signed).grants[0].role == identity_pb2.ROLE_WRITER
        file.write_text(text.replace("writer", "reader"))
        eventually(lambda: who(channel, signed).grants[0].role == identity_pb2.ROLE_READER)
        file.write_text(text.replace(issuer.url, "https://127.0.0.1:1"))
        eventually(lambda: fails(channel, signed))
        assert refusal(channel, *bearer(signed)).metadata["fault"] == "UNKNOWN_ISSUER"


def fails(channel: grpc.Channel, text: str) -> bool:
    """Whether a token is refused."""
    try:
        who(channel, text)
    except grpc.RpcError:
        return True
    return False


HUGE = b"x" * (issuer_keys.MAX_BYTES + 1)
FAULTS: dict[str, Behaviour] = {
    "503": answers(503),
    "redirect": answers(302, headers={"Location": "http://127.0.0.1:1/evil"}),
    "huge": answers(200, HUGE),
    "stall": stalls(),
    "drip": drips(b"HTTP/1.1 200 X\r\nContent-Length: 9999\r\n\r\n" + b"x" * 9999),
    "a page": answers(200, b"<html>", content_type="text/html"),
    "other content": answers(200, {"keys": "none"}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_without_keys(tmp_path: Path, fault: str) -> None:
    """While the keys cannot be fetched, signed tokens are UNAVAILABLE, in bounded time; other tokens are valid."""
    tokens = token_file(tmp_path, token_lines("writer"))
    with (
        capture_logs() as lines,
        issued(tmp_path, keys=FAULTS[fault]) as (issuer, file),
        guarded(issuers=file, token_file=tokens) as adapter,
        grpc.insecure_channel(adapter.server.address, OWN) as channel,
    ):
        signed, started = token(claims(iss=issuer.url)), time.monotonic()
        what = refusal(channel, *bearer(signed))
        assert (what.code, what.reason) == (grpc.StatusCode.UNAVAILABLE, "ISSUER_UNAVAILABLE")
        assert time.monotonic() - started < issuer_keys.WAIT_SECONDS + 8
        assert who(channel, TOKENS["writer"]).name == "writer"
        if fault not in ("stall", "drip"):
            line = eventually(lambda: [one for one in lines if one.get("issuer") == issuer.url])[0]
            assert line["event"] == "the keys of an issuer cannot be fetched"
        assert not any(part in repr(lines) + repr(what) for part in signed.split("."))


def test_a_token_larger_than_metadata(tmp_path: Path) -> None:
    """A token of 64 KiB is refused by gRPC itself."""
    with (
        issued(tmp_path, "rsa") as (_, file),
        guarded(issuers=file) as adapter,
        grpc.insecure_channel(adapter.server.address, OWN) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        who(channel, "x" * 65536)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_the_doctor(tmp_path: Path) -> None:
    """The doctor shows for each issuer how many keys there are and for whom tokens are; or why there are none."""
    with issued(tmp_path, "rsa", "ec") as (_, file):
        (verdict,) = examine(Settings.load(issuers=file))
        assert verdict.status is Status.OK
        assert verdict.what == "2 keys; tokens for kfadapter are valid, and their bearers are writers"
    (verdict,) = examine(Settings.load(issuers=file))
    assert (verdict.status, "Connection refused" in verdict.what) == (Status.FAILED, True)


@pytest.mark.parametrize(
    ("settings", "output"),
    [
        ({"tls_client_proxies": "gateway"}, "token_file or issuers must be set"),
        ({"kfp_user_header": "kubeflow-userid"}, "needs authenticated callers"),
        ({"kfp_user_header": "kubeflow userid"}, "the name of a header"),
        ({"kfp_user_header": "Authorization"}, "the name of a header"),
        ({"kfp_user_header": "x", "kfp_credentials": "forward"}, "use one of the two"),
        ({"kfp_user_header": "x", "kfp_url": "http://kfp.example.org"}, "over http"),
        ({"kfp_user_prefix": "x"}, "has no effect"),
        ({"issuers": "/nowhere"}, "cannot be read"),
    ],
)
def test_mistakes_in_settings(settings: dict[str, Any], output: str) -> None:
    """Settings that would not do what they seem to are refused."""
    with pytest.raises(SettingsError, match=output):
        Settings.load(**{name: Path(one) if name == "issuers" else one for name, one in settings.items()})


def test_forwarded_tokens(tmp_path: Path) -> None:
    """Tokens for the adapter are not forwarded to KFP."""
    with issued(tmp_path, "rsa") as (_, file), pytest.raises(SettingsError, match="tokens of issuers"):
        Settings.load(issuers=file, kfp_credentials="forward")


# --- certificates and tokens -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "readers", "proxies", "certificate", "outcome"),
    [
        ("alice", "", "", "alice", "WRITER"),
        ("", "alice", "", "alice", "READER"),
        ("bob", "", "", "bob", "TWO_IDENTITIES"),
        ("*", "", "", "bob", "WRITER"),
        ("", "*", "", "bob", "READER"),
        ("bob, *", "", "", "bob", "TWO_IDENTITIES"),
        ("", "", "gateway", "gateway", "WRITER"),
        ("gateway", "", "gateway", "gateway", "WRITER"),
        ("", "", "gateway", "bob", "PERMISSION_DENIED"),
    ],
)
def test_a_certificate_and_a_token(  # noqa: PLR0917 - the columns of a table
    tmp_path: Path, names: str, readers: str, proxies: str, certificate: str, outcome: str
) -> None:
    """A certificate's name and a token's must be the same, unless the certificate is a proxy's or `*` allows it."""
    ca = CertificateAuthority()
    server, server_key = ca.issue("localhost", "127.0.0.1").write(tmp_path, "server")
    listed = {"tls_client_names": names, "tls_client_readers": readers, "tls_client_proxies": proxies}
    tls = {"tls_certificate": server, "tls_key": server_key, "tls_client_ca": ca.write(tmp_path)}
    with issued(tmp_path, "rsa") as (issuer, file), guarded(issuers=file, **tls, **listed) as adapter:
        pair = ca.issue(certificate)
        credentials = grpc.ssl_channel_credentials(ca.certificate, pair.key, pair.certificate)
        with grpc.secure_channel(adapter.server.address, credentials, OWN) as channel:
            signed = token(claims(iss=issuer.url))
            if outcome in ("READER", "WRITER"):
                found = who(channel, signed)
                assert (found.name, identity_pb2.Role.Name(found.grants[0].role)) == ("alice", f"ROLE_{outcome}")
                assert ("alice" in found.certificate_names) is (certificate == "alice")
                assert bool(found.certificate_names) is (certificate == "alice")
                assert refusal(channel).reason == "UNAUTHENTICATED"
            else:
                what = refusal(channel, *bearer(signed))
                assert outcome in (what.reason, what.metadata.get("fault"))


# --- impersonation ---------------------------------------------------------------------------------------------------


@contextmanager
def impersonating(folder: Path, kfp: ScriptedKfp, prefix: str = "") -> Iterator[tuple[str, grpc.Channel]]:
    """An adapter that impersonates its callers; yields its issuer and a channel."""
    from kfadapter_grpc.server import AdapterServer  # noqa: PLC0415
    from kfadapter_grpc.server.kfp import connect_kfp  # noqa: PLC0415
    from kfadapter_grpc.upload.limits import UploadLimits  # noqa: PLC0415
    from kfadapter_grpc.watch.poller import WatchPoller  # noqa: PLC0415

    with ExitStack() as stack:
        issuer, file = stack.enter_context(issued(folder, "rsa", name_claim="email"))
        loaded = Settings.load(
            listen="127.0.0.1:0",
            kfp_url=kfp.url,
            issuers=file,
            kfp_user_header="kubeflow-userid",
            kfp_user_prefix=prefix,
        )
        backend = stack.enter_context(closing(connect_kfp(loaded, UploadLimits().place)))
        watches = stack.enter_context(closing(WatchPoller(backend.runs)))
        served = servicers(backend, watches, UploadLimits(), "")
        server = stack.enter_context(AdapterServer(loaded, served, backend.is_alive, watches.drain))
        yield issuer.url, stack.enter_context(grpc.insecure_channel(server.address, OWN))


def test_impersonation(tmp_path: Path) -> None:
    """KFP gets the verified name of the caller, with the prefix, whatever header a caller sends."""
    with ScriptedKfp() as kfp, impersonating(tmp_path, kfp, "accounts:") as (issuer, channel):
        kfp.on("GET", "/runs", answers(200, {"runs": [], "total_size": 0}))
        kfp.on("GET", "/pipelines", answers(200, {}))
        alice = token(claims(iss=issuer, email="alice@example.org"))
        bob = token(claims(iss=issuer, email="bob@example.org"))
        forged = ("kubeflow-userid", "root@example.org")
        stub = PipelineServiceStub(channel)
        for text in (alice, bob):
            stub.List(pipeline_pb2.ListPipelinesRequest(), metadata=(*bearer(text), forged), timeout=30)
        seen = [one.headers["kubeflow-userid"] for one in kfp.requests if "/pipelines" in one.path]
        assert seen == ["accounts:alice@example.org", "accounts:bob@example.org"]
        assert not any("authorization" in one.headers for one in kfp.requests)
        assert who(channel, alice).kfp_user == "accounts:alice@example.org"
        assert not any("root" in repr(one) for one in kfp.requests)
        korean = token(claims(iss=issuer, email="앨리스@example.org"))
        what = failure(lambda: stub.List(pipeline_pb2.ListPipelinesRequest(), metadata=bearer(korean), timeout=30))
        assert what.reason == "PERMISSION_DENIED"
        assert refusal(channel, forged).reason == "UNAUTHENTICATED"
        watch = RunServiceStub(channel).Watch(
            run_pb2.WatchRunsRequest(runs=run_pb2.RunIds(run_ids=["r"])), metadata=bearer(alice), timeout=30
        )
        eventually(lambda: [one for one in kfp.requests if "/runs" in one.path])
        watch.cancel()
        assert {one.headers["kubeflow-userid"] for one in kfp.requests if "/runs" in one.path} == {
            "accounts:alice@example.org"
        }


def test_what_kfp_denies_to_an_impersonated_caller(tmp_path: Path) -> None:
    """A 403 is about the caller, who is notified; a 401 is about the adapter."""
    with ScriptedKfp() as kfp, impersonating(tmp_path, kfp) as (issuer, channel):
        kfp.on("GET", "/pipelines", answers(403, {"code": 7, "message": "denied"}), answers(401, {"code": 16}))
        alice = bearer(token(claims(iss=issuer, email="alice@example.org")))
        stub, listed = PipelineServiceStub(channel), pipeline_pb2.ListPipelinesRequest()
        reasons = [failure(lambda: stub.List(listed, metadata=alice, timeout=30)).reason for _ in range(2)]
        assert reasons == ["PERMISSION_DENIED", "KFP_REJECTED_CREDENTIALS"]
        probes = [one for one in kfp.requests if "healthz" in one.path]
        assert not any("kubeflow-userid" in one.headers for one in probes)
