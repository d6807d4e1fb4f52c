"""Any HTTP input gets a proper response or a closed connection, and the server keeps running."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.legacy_http.calling import FORM, JSON, Caller, adapter, form
from tests.legacy_http.test_routes import NOBODY
from tests.scripted_kfp import ScriptedKfp, answers

from kfadapter_oran.legacy_http import limits

if TYPE_CHECKING:
    from collections.abc import Iterator

few = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["pipeline_name", "experiment_name", "pipeline_version", "arguments", "x"])


@pytest.fixture(scope="module")
def caller() -> Iterator[Caller]:
    """A client of an adapter whose KFP has one pipeline, and rejects everything else."""
    patched = pytest.MonkeyPatch()
    for name in ("HEAD_SECONDS", "IDLE_SECONDS", "LINGER_SECONDS"):
        patched.setattr(limits, name, 0.2)
    version = {"pipeline_id": NOBODY, "pipeline_version_id": NOBODY, "display_name": "x", "pipeline_spec": {}}
    refused = answers(400, {"code": 3, "message": "no"})
    with ScriptedKfp() as kfp, adapter(kfp.url) as server:
        kfp.on("GET", "/pipelines/names/", answers(200, {"pipeline_id": NOBODY, "display_name": "x"}))
        kfp.on("GET", "/v1beta1/pipeline_versions", answers(200, {"versions": [{"id": NOBODY, "name": "x"}]}))
        kfp.on("GET", "/versions", answers(200, {"pipeline_versions": [version], "total_size": 1}))
        for method in ("GET", "POST", "DELETE"):
            kfp.on(method, "", refused)
        yield server.caller
    patched.undo()


def test_the_server_is_there(caller: Caller) -> None:
    """With the KFP of these tests a job request reaches the start of a run."""
    job = {"pipeline_name": "x", "experiment_name": "x", "arguments": {}}
    assert caller.execute("1", job).json()["reason"] not in {"INTERNAL", "PIPELINE_NOT_FOUND"}


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("NaN", "NaN is no number"),
        ("-Infinity", "is no number"),
        ('"\\ud800"', "surrogates not allowed"),
        ("[" * 9000, "deeply"),
    ],
)
def test_values_that_are_no_json(caller: Caller, argument: str, words: str) -> None:
    """Values that Python parses as JSON but JSON does not allow are rejected before any call."""
    body = f'{{"pipeline_name": "x", "experiment_name": "x", "arguments": {{"a": {argument}}}}}'.encode()
    reply = caller.say("POST", "/trainingjobs/1/execution", body, content_type=JSON)
    assert words in reply.refusal(400, "BAD_REQUEST")["message"]


def test_paths_that_are_no_text(caller: Caller) -> None:
    """A path that is not UTF-8 is rejected."""
    assert "UTF-8" in caller.get("/pipelines/%FF").refusal(400, "BAD_REQUEST")["message"]


def in_words(answer: bytes) -> None:
    """Asserts that a response is complete and not an internal error; it may be empty, or 501 for an unknown coding."""
    if answer:
        head, _, body = answer.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        assert status < 500 or json.loads(body)["reason"].startswith(("KFP_", "NOT_IMPLEMENTED")), answer
        if status >= 400:
            assert json.loads(body)["message"], answer


@few
@given(st.binary(max_size=400))
@example(b"\r\n\r\n")
@example(b"GET / HTTP/1.1\r\n" + b"a:b\r\n" * 2000)
@example(b"GET /runs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
@example(b"POST /pipelineIds/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n")
def test_any_bytes(caller: Caller, sent: bytes) -> None:
    """Any bytes get a proper response, or the connection is closed."""
    in_words(caller.raw(sent, end=True))
    assert caller.get("/liveness").status == 200


@few
@given(st.sampled_from(["GET", "POST", "DELETE", "PUT", "X"]), st.text(st.characters(codec="utf-8"), max_size=60))
@example("GET", "/pipelines/%2e%2e%2f%00")
@example("DELETE", "/runs/../../x")
@example("GET", "/pipelines//versions")
def test_any_path(caller: Caller, method: str, path: str) -> None:
    """Any path gets a proper response."""
    reply = caller.say(method, f"/{path}")
    assert reply.json()["message"] or path.startswith("liveness")


@few
@given(st.text(min_size=1, max_size=40))
@example("../../../etc/passwd")
@example("한글 이름")
@example("\x00")
@example("a" * 3000)
def test_any_name(caller: Caller, name: str) -> None:
    """Any name is looked up or rejected, without an internal error."""
    try:
        quoted = "".join(f"%{byte:02X}" for byte in name.encode())
    except UnicodeEncodeError:
        return
    for path in (
        f"/pipelineIds/{quoted}",
        f"/pipelines/{quoted}/versions",
        f"/runs/{quoted}",
        f"/experiments/{quoted}",
    ):
        reported = caller.get(path).json()
        assert reported.get("reason") != "INTERNAL", reported


@few
@given(st.binary(max_size=200) | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
@example(b"[" * 100_000)
@example(b'{"pipeline_name": NaN}')
@example(b'{"pipeline_name": "\\ud800"}')
@example(b"\xff\xfe")
@example(b"1" * 10_000)
def test_any_body(caller: Caller, body: bytes) -> None:
    """Any body is rejected with a message."""
    reply = caller.say("POST", "/trainingjobs/1/execution", body, content_type=JSON)
    assert reply.status == 400
    assert reply.json()["message"]


@few
@given(
    st.dictionaries(KEYS, JSON_VALUES)
    | st.fixed_dictionaries({"pipeline_name": st.just("x"), "experiment_name": JSON_VALUES, "arguments": JSON_VALUES})
)
def test_any_job(caller: Caller, job: dict[str, object]) -> None:
    """Any job is rejected by the adapter or by KFP, without an internal error."""
    reported = caller.say("POST", "/trainingjobs/1/execution", json.dumps(job).encode(), content_type=JSON).json()
    assert reported["reason"] != "INTERNAL", reported


@few
@given(st.binary(max_size=300), st.booleans())
@example(b"", True)
@example(b"pipelineInfo: {name: x}", True)
def test_any_form(caller: Caller, data: bytes, whole: bool) -> None:
    """Any form and any file are rejected, without an internal error."""
    body = form(("file", data)) if whole else data
    reply = caller.say("POST", "/pipelineIds/x", body, content_type=FORM)
    assert 400 <= reply.status < 500
    assert reply.json()["reason"] != "INTERNAL"
