from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.broken_kfp import EVERYTHING, HEALTHY, REFUSED, answering, closed_port, healthy, untrusted, without_tls
from tests.repository.played import played
from tests.scripted_kfp import answers

from kfadapter_grpc.kfp.probes import Stage, reach
from kfadapter_grpc.kfp.transport import TransportSettings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.scripted_kfp import ScriptedKfp

STOPS = {
    "silent": (Stage.HTTP, "no response within", "overloaded"),
    "broken off": (Stage.HTTP, "closed without a response", "KFADAPTER_KFP_URL"),
    "a login page": (Stage.CREDENTIALS, "login page", "credentials"),
    "a redirect to a login": (Stage.CREDENTIALS, "login page", "credentials"),
    "another web page": (Stage.API, "web page", "KFADAPTER_KFP_URL"),
    "another API": (Stage.API, "not that of Kubeflow Pipelines", "KFADAPTER_KFP_URL"),
    "an empty server": (Stage.API, "HTTP 404", "/pipeline"),
    "unwell": (Stage.API, "HTTP 500", "log"),
    "unauthenticated": (Stage.CREDENTIALS, "HTTP 401", "credentials"),
    "forbidden": (Stage.CREDENTIALS, "HTTP 403", "access"),
    "another protocol": (Stage.HTTP, "does not speak HTTP", "port"),
}


def test_the_embedded_kfp(embedded_url: str) -> None:
    """A healthy KFP is reached; its user mode, version and clock are reported."""
    reached = reach(TransportSettings(embedded_url))
    assert (reached.stopped_at, reached.multi_user, reached.addresses) == (None, False, ("127.0.0.1",))
    assert reached.version == "embedded"
    assert reached.skew_seconds is not None
    assert abs(reached.skew_seconds) < 5


@pytest.mark.parametrize("how", EVERYTHING)
def test_where_it_ends(how: str) -> None:
    """For what is not KFP, or rejects the adapter, the stage where the request ends is reported, with what to do."""
    with answering(EVERYTHING[how]) as url:
        reached = reach(TransportSettings(url), seconds=0.5 if how == "silent" else 10)
    stage, found, advice = STOPS[how]
    assert reached.stopped_at is stage
    assert found in reached.found
    assert advice in reached.advice


def test_a_closed_port() -> None:
    """If nothing listens, the connection fails."""
    reached = reach(TransportSettings(closed_port()))
    assert reached.stopped_at is Stage.CONNECTION
    assert "refused" in reached.found
    assert "KFADAPTER_KFP_URL" in reached.advice


def test_an_unknown_name() -> None:
    """An unknown host name ends at the name."""
    reached = reach(TransportSettings("http://kfp.invalid:8888"))
    assert reached.stopped_at is Stage.NAME
    assert "kfp.invalid" in reached.found


def test_a_certificate_that_nobody_signed(tmp_path: Path) -> None:
    """An untrusted certificate ends at TLS, with the reason and a solution."""
    with untrusted(tmp_path) as url:
        reached = reach(TransportSettings(url))
    assert reached.stopped_at is Stage.TLS
    assert "is not trusted" in reached.found
    assert "set the CA" in reached.advice


def test_tls_towards_a_server_without() -> None:
    """https: instead of http: is reported as such."""
    with without_tls() as url:
        reached = reach(TransportSettings(url))
    assert reached.stopped_at is Stage.TLS
    assert (reached.found, "http: instead of https:" in reached.advice) == ("the server does not speak TLS", True)


@pytest.mark.parametrize(("status", "stage"), [(401, Stage.CREDENTIALS), (403, Stage.NAMESPACE), (500, Stage.API)])
def test_a_namespace(status: int, stage: Stage) -> None:
    """A multi-user KFP may be healthy, and deny the adapter access to the namespace."""
    with healthy(answers(status, REFUSED), multi_user=True) as url:
        reached = reach(TransportSettings(url), "team-a")
    assert (reached.stopped_at, reached.multi_user, reached.version) == (stage, True, "2.17.0")


@pytest.mark.parametrize(
    ("who", "stage"), [("nobody", Stage.CREDENTIALS), ("a bad token", Stage.CREDENTIALS), ("bob", None)]
)
def test_several_users_without_a_namespace(scripted: ScriptedKfp, who: str, stage: Stage | None) -> None:
    """KFP lists shared pipelines for everyone; whether it knows the adapter shows in a namespace, be it forbidden."""
    scripted.on("GET", "/healthz", answers(200, {**HEALTHY, "multi_user": True}))
    scripted.on("GET", r"/pipelines\?", played("list without a namespace as alice", "multi_user"))
    scripted.on("GET", r"/experiments\?.*namespace=", played(f"list team-a as {who}", "multi_user"))
    reached = reach(TransportSettings(scripted.url))
    assert (reached.stopped_at, reached.multi_user) == (stage, True)


def test_an_answer_without_a_date() -> None:
    """Without a Date header the clock is unknown."""
    with healthy(answers(200, {})) as url:
        assert reach(TransportSettings(url)).skew_seconds is None
    dated = answers(200, HEALTHY, headers={"Date": "Thu, 01 Jan 2026 00:00:00 GMT"})
    with answering(dated) as url:
        skew = reach(TransportSettings(url)).skew_seconds
    assert skew is not None
    assert abs(skew) > 60
