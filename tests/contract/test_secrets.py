"""Secrets that are planted at every possible source, and searched for in every output.

docs/security.md defines what counts as secret. To add one, add a row to `CANARIES`.
"""

from __future__ import annotations

import json
import secrets
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from tests.contract.running import eventually
from tests.contract.secrets import ID, Stage, every_call, forms, upload
from tests.scripted_kfp import answers, head, sends

from kfadapter.v1 import experiment_pb2, pipeline_pb2, run_pb2
from kfadapter_grpc.auth.tokens import TokenEntry, digest
from kfadapter_grpc.contract.call import Authorization, Role
from kfadapter_grpc.kfp.transport import Request, Response
from kfadapter_grpc.setting_sources import SettingsError
from kfadapter_grpc.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from google.protobuf.message import Message
    from tests.scripted_kfp import Behaviour, Connection, Received

ENVIRONMENT = "canary-of-the-environment"
"""Stands in a variable that the adapter does not know, for as long as it runs."""


@dataclass(frozen=True)
class Canary:
    """A secret, or data with restricted visibility.

    Attributes:
        name: Where it comes from.
        plant: Plants it and triggers what could disclose it.
        seen_by: Where it may be seen: `caller` (the one that sent it), `kfp`, `log`.
        stage: The setup that it is planted in, one of `STAGES`.
    """

    name: str
    plant: Callable[[Stage, str], None]
    seen_by: frozenset[str] = frozenset()
    stage: str = "open"


def metadata(key: str, make: Callable[[str], str | bytes] = str) -> Callable[[Stage, str], None]:
    """A caller sends it as metadata with every RPC."""
    return lambda stage, secret: stage.call_all(((key, make(secret)),))


def option(name: str) -> Callable[[Stage, str], None]:
    """A caller's channel sends it with every RPC."""
    return lambda stage, secret: stage.call_all(options=[(name, secret)])


def kfp(make: Callable[[str], Behaviour]) -> Callable[[Stage, str], None]:
    """KFP, or a proxy in front of it, returns it in every response."""

    def plant(stage: Stage, secret: str) -> None:
        stage.behaviour = make(secret)
        stage.call_all()

    return plant


def header(status: int, name: str, **more: str) -> Callable[[Stage, str], None]:
    """KFP returns it in a header."""
    return kfp(lambda secret: answers(status, {}, headers={name: f"session={secret}", **more}))


def raw(text: str) -> Callable[[Stage, str], None]:
    """The server at KFP's address sends a malformed response."""
    return kfp(lambda secret: sends(text.format(secret).encode(), then_close=True))


def uploaded(make: Callable[[str], bytes]) -> Callable[[Stage, str], None]:
    """A caller uploads it to a KFP that has no pipelines and fails to store a version."""
    return lambda stage, secret: reaching(stage, {}, *upload(make(secret)))


def reaching(stage: Stage, found: dict[str, object], *requests: Message) -> None:
    """Makes a call to a KFP that returns `found` or 404 for reads, creates pipelines, and fails other writes."""
    read = answers(200, found) if found else answers(404, NOTHING)

    def behave(connection: Connection, asked: Received) -> bool:
        takes = asked.path.endswith("/pipelines")
        write = answers(200, {"pipeline_id": ID}) if takes else answers(500, FAILED)
        return (read if asked.method == "GET" else write)(connection, asked)

    stage.behaviour = behave
    stage.call(*requests)


def experiment(prefix: str) -> Callable[[Stage, str], None]:
    """A servicer fails with it."""
    return lambda stage, secret: stage.call(experiment_pb2.CreateExperimentRequest(name=prefix + secret))


def parameter(kind: str) -> Callable[[Stage, str], None]:
    """A run is started with it as the value of a parameter of this type."""

    def plant(stage: Stage, secret: str) -> None:
        values = Struct()
        values.update({"password": secret})
        root = {"inputDefinitions": {"parameters": {"password": {"parameterType": kind}}}}
        found: dict[str, object] = {"pipeline_id": ID, "pipeline_version_id": ID, "pipeline_spec": {"root": root}}
        request = run_pb2.CreateRunRequest(pipeline_id=ID, pipeline_version_id=ID, parameters=values)
        reaching(stage, found, request)

    return plant


def wire_bytes(make: Callable[[bytes], bytes]) -> Callable[[Stage, str], None]:
    """A caller sends bytes that are no message."""
    return lambda stage, secret: stage.call_raw(make(secret.encode()))


def health(stage: Stage, secret: str) -> None:
    """A client checks the health of a service of this name."""
    with grpc.insecure_channel(stage.address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        with pytest.raises(grpc.RpcError) as caught:
            check(health_pb2.HealthCheckRequest(service=secret), timeout=10)
        stage.hear(caught.value)


def scraped(stage: Stage, secret: str) -> None:
    """A scraper sends it."""
    stage.reported.append(stage.metrics(f"/metrics?token={secret}", {"Authorization": f"Bearer {secret}"}))


def settings(**given: str) -> Callable[[Stage, str], None]:
    """It is in a setting that is rejected."""

    def plant(stage: Stage, secret: str) -> None:
        with pytest.raises(SettingsError) as caught:
            Settings.load(config=None, **{name: value.format(secret) for name, value in given.items()})
        stage.hear(caught.value)

    return plant


def in_file(setting: str, text: str, *others: str, **more: str) -> Callable[[Stage, str], None]:
    """It is in a file that settings refer to, and whose content is not what it should be."""

    def plant(stage: Stage, secret: str) -> None:
        path = stage.folder / setting
        path.write_text(text.format(secret))
        try:
            stage.reported.append(repr(Settings.load(config=None, **dict.fromkeys((setting, *others), path), **more)))
        except SettingsError as error:
            stage.hear(error)

    return plant


def known_token(stage: Stage, secret: str) -> None:
    """A caller sends it, and is authenticated."""
    entry = TokenEntry("ci", Role.WRITER, digest(secret))
    (stage.folder / TOKENS).write_text(f"{entry.line()}\n")

    def is_let_in() -> bool:
        stage.reported.clear()
        stage.call(run_pb2.GetRunRequest(run_id=ID), metadata=(("authorization", f"Bearer {secret}"),))
        return "UNAUTHENTICATED" not in "".join(stage.reported)

    eventually(is_let_in)
    stage.call_all((("authorization", f"Bearer {secret}"),))


def token_in_the_wrong_file(stage: Stage, secret: str) -> None:
    """It is written in place of its hash while the adapter runs."""
    (stage.folder / TOKENS).write_text(f"ci writer {secret}\n")
    eventually(stage.log)


def token_for_kfp(status: int) -> Callable[[Stage, str], None]:
    """The adapter sends it to KFP, which responds with this status."""

    def plant(stage: Stage, secret: str) -> None:
        (stage.folder / KFP_TOKEN).write_text(secret)
        stage.behaviour = answers(status, FAILED)
        stage.call_all()

    return plant


def settings_file(text: str) -> Callable[[Stage, str], None]:
    """It is in a settings file that is rejected."""

    def plant(stage: Stage, secret: str) -> None:
        path = stage.folder / "kfadapter.toml"
        path.write_text(text.format(secret))
        with pytest.raises(SettingsError) as caught:
            Settings.load(config=path)
        stage.hear(caught.value)

    return plant


def shown(make: Callable[[str], object]) -> Callable[[Stage, str], None]:
    """An object that holds it is shown, as in a debugger or by an assertion."""
    return lambda stage, secret: stage.reported.append(repr(make(secret)))


def environment(stage: Stage, _: str) -> None:
    """It has been in the environment since the start."""
    stage.call_all()


def wrong_values(secret: str) -> Behaviour:
    """A response with invalid values in its fields."""
    return answers(200, dict.fromkeys(VALUES, secret))


def spec(secret: str) -> bytes:
    """A pipeline that KFP would accept, with a secret in it."""
    return f"pipelineInfo: {{name: x}}\nschemaVersion: 2.1.0\nroot: {{a: {secret}}}\n".encode()


KFP, CALLER, LOG = (frozenset({reader}) for reader in ("kfp", "caller", "log"))
NOTHING = {"code": 5, "message": "ResourceNotFoundError: Pipeline x not found"}
FAILED = {"code": 13, "message": "it failed"}
STACK = {
    "error": "it failed",
    "code": 13,
    "message": "it failed",
    "details": [{"@type": "type.googleapis.com/api.Error", "error_message": "it failed", "error_details": "{}"}],
}
VALUES = ("pipeline_id", "created_at", "pipelines", "runs", "run_id", "state", "total_size", "error", "recurringRuns")
"""Fields of KFP's responses, to be filled with what cannot be."""
PEM = "-----BEGIN PRIVATE KEY-----"
TOKENS, KFP_TOKEN = "tokens", "kfp-token"
STAGES: dict[str, Callable[[Path], dict[str, str]]] = {
    "open": lambda _: {},
    "guarded": lambda folder: {"KFADAPTER_TOKEN_FILE": f"{folder / TOKENS}"},
    "with a token": lambda folder: {
        "KFADAPTER_KFP_CREDENTIALS": "token-file",
        "KFADAPTER_KFP_TOKEN_FILE": f"{folder / KFP_TOKEN}",
    },
    "as callers": lambda _: {"KFADAPTER_KFP_CREDENTIALS": "forward"},
}
"""The settings of each set-up; files stand in a folder of its own."""
CANARIES = (
    # Callers.
    Canary("bearer token", metadata("authorization", "Bearer {}".format)),
    Canary("basic credentials", metadata("authorization", "Basic {}".format)),
    Canary("cookie", metadata("cookie", "session={}".format)),
    Canary("another user", metadata("kubeflow-userid")),
    Canary("key of a gateway", metadata("x-api-key")),
    Canary("binary metadata", metadata("token-bin", str.encode)),
    Canary("request id that is none", metadata("x-request-id", "a b {}".format)),
    Canary("user agent", option("grpc.primary_user_agent")),
    Canary("authority", option("grpc.default_authority")),
    # KFP, and proxies in front of it.
    Canary("stack trace", kfp(lambda secret: answers(500, json.loads(json.dumps(STACK).replace("{}", secret))))),
    Canary("cookie of KFP", header(500, "Set-Cookie")),
    Canary("cookie of a good answer", header(200, "Set-Cookie")),
    Canary("redirect with a token", header(302, "Location")),
    Canary("redirect to a login", header(302, "Location", **{"Set-Cookie": "login=1"})),
    Canary("challenge", header(401, "WWW-Authenticate")),
    Canary("words of a 401", kfp(lambda secret: answers(401, {"message": f"bad token {secret}"}))),
    Canary("words of a 403", kfp(lambda secret: answers(403, {"message": f"user {secret} may not"}))),
    Canary("words of a 502", kfp(lambda secret: answers(502, secret.encode(), content_type="text/plain"))),
    Canary("login page", kfp(lambda secret: answers(200, f"<p>log in {secret}".encode(), content_type="text/html"))),
    Canary("page of a fault", kfp(lambda secret: answers(500, f"<p>{secret}".encode(), content_type="text/html"))),
    Canary("answer that is no JSON", kfp(lambda secret: answers(200, f'{{"a": {secret}'.encode()))),
    Canary("answer of wrong types", kfp(lambda secret: answers(200, [secret]))),
    Canary("answer of wrong values", kfp(wrong_values), KFP | CALLER),  # valid fields of the record are used
    Canary("no HTTP", raw("SSH-2.0-{}\r\n\r\n")),
    Canary("half a header", raw("HTTP/1.1 200 OK\r\n{}\r\n\r\n")),
    Canary("reason phrase", raw("HTTP/1.1 500 {}\r\nContent-Length: 0\r\n\r\n")),
    Canary("half an answer", kfp(lambda secret: sends(head(200, {"Content-Length": "999"}) + secret.encode(),
                                                      then_close=True))),
    # Data: visible to the caller that sent them and to KFP; never in the log or in metrics.
    Canary("file that is no YAML", uploaded(lambda secret: f"a: [{secret}\nb: }}".encode())),
    Canary("file that KFP does not take", uploaded(spec), KFP),
    Canary("archive", uploaded(lambda secret: b"PK\x03\x04" + secret.encode() * 9)),
    Canary("description", lambda stage, secret: reaching(stage, {}, *upload(spec("x"), description=secret)), KFP),
    Canary("value of a parameter", parameter("STRING"), KFP),
    Canary("value of a wrong type", parameter("LIST"), CALLER),
    Canary("name", lambda stage, secret: reaching(stage, {}, pipeline_pb2.GetPipelineRequest(name=secret)),
           KFP | CALLER),
    Canary("page token", lambda stage, secret: stage.call(pipeline_pb2.ListPipelinesRequest(page_token=secret))),
    Canary("bytes that are no message", wire_bytes(lambda secret: b"\xff\xff" + secret)),
    Canary("text that is no UTF-8", wire_bytes(lambda secret: b"\x0a\x40\xff" + secret + b"\xff" * (63 - len(secret)))),
    Canary("health of a service", health, CALLER),
    Canary("words of KFP", kfp(lambda secret: answers(500, {"code": 13, "message": secret})), CALLER | LOG),
    # Credentials of either side, where they are required.
    Canary("token that nobody knows", metadata("authorization", "Bearer {}".format), stage="guarded"),
    Canary("token that is known", known_token, stage="guarded"),
    Canary("token instead of its hash", token_in_the_wrong_file, stage="guarded"),
    Canary("token for KFP", token_for_kfp(500), KFP, stage="with a token"),
    Canary("token that KFP refuses", token_for_kfp(401), KFP, stage="with a token"),
    Canary("token that a caller shows KFP", metadata("authorization", "Bearer {}".format), KFP, stage="as callers"),
    Canary("another user for KFP", metadata("kubeflow-userid"), stage="as callers"),
    Canary("file of tokens", in_file("token_file", "{}\n")),
    Canary("file of hashes", in_file("token_file", "ci reader {}\n")),
    Canary("key of TLS", in_file("tls_key", f"{PEM}\n{{}}\n{PEM}\n", "tls_certificate")),
    Canary("authorities of callers", in_file("tls_client_ca", f"{PEM}\n{{}}\n{PEM}\n")),
    Canary("file with KFP's token", in_file("kfp_token_file", "{} {{}}\n", kfp_credentials="token-file")),
    Canary("key for KFP", in_file("kfp_client_key", f"{PEM}\n{{}}\n{PEM}\n", "kfp_client_certificate")),
    # The adapter's own faults: the log is for operators, and includes an exception's text.
    Canary("text of a fault", experiment("text "), LOG),
    Canary("text of an exit", experiment("exit "), LOG),
    Canary("variable of a fault", experiment("")),
    # Operators.
    Canary("scraper", scraped),
    Canary("environment", environment),
    Canary("password in the URL of KFP", settings(kfp_url="http://me:{}@kfp")),
    Canary("user in the URL of KFP", settings(kfp_url="http://{}@kfp")),
    Canary("token in the URL of KFP", settings(kfp_url="http://kfp/?token={}")),
    Canary("unknown setting", settings_file("api_token = '{}'\n")),
    Canary("file that is no TOML", settings_file("token = {}\n")),
    # Objects that hold a secret do not show it.
    Canary("authorization of a caller", shown(Authorization)),
    Canary("body for KFP", shown(lambda secret: Request("POST", "/x", body=secret.encode()))),
    Canary("answer of KFP", shown(lambda one: Response(200, one.encode(), tail=one.encode(), location=one))),
)  # fmt: skip


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Stage]]:
    """An adapter and a KFP in each setup."""
    with ExitStack() as stack:
        made = {}
        for name, settings_in in STAGES.items():
            folder = tmp_path_factory.mktemp("secrets")
            (folder / TOKENS).write_text(f"{TokenEntry('nobody', Role.READER, digest('x')).line()}\n")
            (folder / KFP_TOKEN).write_text("none-yet")
            environment = {"CLOUD_SECRET_KEY": ENVIRONMENT, **settings_in(folder)}
            made[name] = stack.enter_context(Stage(folder, environment))
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("canary", CANARIES, ids=lambda canary: canary.name.replace(" ", "-"))
def test_a_secret_is_not_shown(stages: dict[str, Stage], canary: Canary) -> None:
    """A secret is in no log line, status, trailer, metric or repr, and data are seen only where permitted."""
    secret = ENVIRONMENT if canary.plant is environment else f"canary{secrets.token_hex(12)}"
    stage = stages[canary.stage]
    stage.clear()
    canary.plant(stage, secret)
    read: dict[str, Callable[[], str]] = {
        "caller": partial("\n".join, stage.reported),
        "log": stage.log,
        "metrics": stage.metrics,
        "kfp": stage.asked,
    }
    seen_by = {reader for reader, text in read.items() if any(form in text() for form in forms(secret))}
    assert seen_by == canary.seen_by


def test_every_rpc_reaches_kfp(stages: dict[str, Stage]) -> None:
    """Planted secrets are processed in full: each RPC is called with a request that reaches KFP."""
    stage = stages["open"]
    stage.clear()
    stage.call_all()
    named = {request.headers["x-request-id"] for request in stage.kfp.requests}
    own = {name for name in named if not name.startswith(("probe-", "watch-"))}
    # Watches are polled in the background, the experiment servicer fails by itself, and WhoAmI does not need KFP.
    watch, create, who = 1, 1, 1
    assert len(own) == len(list(every_call())) - watch - create - who
    assert any(name.startswith("watch-") for name in named)


def test_there_are_enough() -> None:
    """There are enough secrets, from different sources."""
    assert len({canary.name for canary in CANARIES}) == len(CANARIES) >= 25
