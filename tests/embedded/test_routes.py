from __future__ import annotations

import asyncio
import json
import uuid
from typing import TYPE_CHECKING

import pytest
from starlette.requests import Request
from tests.embedded.conftest import Caller, unique

from kfadapter_embedded import uploads

if TYPE_CHECKING:
    from starlette.types import Message


@pytest.mark.parametrize("path", ["/jobs", "/runs/", "/runs/a/b", "/pipelines/", "/pipelines/names/a/b"])
def test_unknown_routes(caller: Caller, path: str) -> None:
    """Unknown routes are 404 in the words of KFP's gateway."""
    reply = caller.get(path)
    assert (reply.status, reply.json) == (404, {"code": 5, "message": "Not Found"})


@pytest.mark.parametrize(("method", "path"), [("PUT", "/pipelines"), ("POST", "/pipelines/x"), ("PATCH", "/runs/x")])
def test_unknown_methods(caller: Caller, method: str, path: str) -> None:
    """A known route does not accept every method."""
    reply = caller.call(method, path)
    assert (reply.status, reply.json) == (501, {"code": 12, "message": "Method Not Allowed"})


@pytest.mark.parametrize(
    ("origin", "status"),
    [("https://example.org", 403), ("null", 403), ("http://[", 403), ("http://localhost:3000", 200)],
)
def test_foreign_pages(caller: Caller, origin: str, status: int) -> None:
    """A page of another origin in a browser on this machine has no access."""
    reply = caller.pool.request("GET", f"{caller.url}/apis/v2beta1/healthz", headers={"origin": origin})
    assert reply.status == status


@pytest.mark.parametrize(
    ("host", "status"),
    [("rebound.example.org:8888", 403), ("[", 403), ("localhost", 200), ("127.0.0.1:1", 200), ("[::1]:8888", 200)],
)
def test_names_of_this_machine(caller: Caller, host: str, status: int) -> None:
    """A name that was pointed at this machine is rejected; the machine's addresses and localhost are accepted."""
    reply = caller.pool.request("GET", f"{caller.url}/apis/v2beta1/healthz", headers={"host": host})
    assert reply.status == status


def test_names_in_any_script(caller: Caller) -> None:
    """Names may contain spaces, capitals and any script, and are found regardless of letter case."""
    name = unique("Ünï 파이프라인 ✓ %41 + ?#")
    made = caller.upload(name=name)
    assert made["name"] == name
    found = caller.pool.request("GET", f"{caller.url}/apis/v2beta1/pipelines/names/{quoted(name.upper())}").json()
    assert found["pipeline_id"] == made["pipeline_id"]


def quoted(name: str) -> str:
    """A name as a segment of a path."""
    return "".join(f"%{byte:02X}" for byte in name.encode())


@pytest.mark.parametrize(
    ("name", "status"), [("n" * 127, 200), ("n" * 128, 500), ("n" * 129, 400), ("한" * 42, 200), ("한" * 43, 400)]
)
def test_length_of_names(caller: Caller, name: str, status: int) -> None:
    """A pipeline's name may have 128 bytes, its first version's 127, so that 128 is a 500 as in KFP."""
    suffix = uuid.uuid4().hex[:12]
    assert caller.upload(name=name[: -len(suffix.encode()) // len(name[0].encode())] + suffix).status == status


def test_length_of_version_names(caller: Caller) -> None:
    """A version's name may have 127 bytes; longer ones are rejected in plain text."""
    pipeline = caller.upload()["pipeline_id"]
    assert caller.upload(pipelineid=pipeline, name="v" * 127).status == 200
    reply = caller.upload(pipelineid=pipeline, name="v" * 128)
    words = "Invalid input error: PipelineVersion.Name length cannot exceed 127\n"
    assert (reply.status, reply.text) == (400, words)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "name is required"),
        ({"name": "x" * 129}, "Pipeline.Name length cannot exceed 128"),
        ({"name": 5}, "invalid value for string field name"),
        ({"name": "x", "tags": {"a": 1}}, "invalid value for field tags"),
        ({"name": "x", "tags": {"a.b": "c"}}, "tag key \"a.b\" must not contain '.' character"),
        ([1], "the body is no JSON object"),
    ],
)
def test_bad_pipelines(caller: Caller, body: object, words: str) -> None:
    """An invalid pipeline is rejected with the reason."""
    reply = caller.call("POST", "/pipelines", json_body=body)
    assert (reply.status, reply.json["code"]) == (400, 3)
    assert words in reply["message"]


@pytest.mark.parametrize("tags", ['{"": "x"}', f'{{"{"k" * 64}": "x"}}', '{"a": 1}', "5", "[" * 5000])
def test_bad_tags(caller: Caller, tags: str) -> None:
    """Tags that KFP does not accept are rejected, and nothing is created."""
    name = unique("tags")
    assert caller.upload(name=name, tags=tags).status == 400
    assert caller.get(f"/pipelines/names/{name}").status == 404


def test_half_a_surrogate_pair(caller: Caller) -> None:
    """Characters that UTF-8 cannot encode are replaced, wherever they occur."""
    name = unique("half")
    made = caller.call("POST", "/pipelines", json_body={"name": name + "\ud800", "tags": {"a": "\udfff"}})
    assert (made["name"], made.json["tags"]) == (name + "\ufffd", {"a": "\ufffd"})
    same = json.dumps({"predicates": [{"operation": "EQUALS", "key": "name", "string_value": name + "\ud800"}]})
    assert caller.get("/pipelines", filter=same).json["total_size"] == 1


def test_update_keeps_the_rest(caller: Caller) -> None:
    """An update without tags keeps them, one without a display name keeps that, empty tags remove them."""
    made = caller.upload(tags='{"a": "b"}', display_name="Shown")
    path = f"/pipelines/{made['pipeline_id']}"
    assert caller.call("PATCH", path, json_body={"display_name": "New"}).json["tags"] == {"a": "b"}
    cleared = caller.call("PATCH", path, json_body={"tags": {}}).json
    assert "tags" not in cleared
    assert cleared["display_name"] == "New"
    assert caller.get(path).json == cleared


def test_update_of_what_is_gone(caller: Caller) -> None:
    """An update of an unknown pipeline or version is 404."""
    gone = uuid.uuid4()
    assert caller.call("PATCH", f"/pipelines/{gone}", json_body={"display_name": "x"}).status == 404
    assert caller.call("PATCH", f"/pipelines/{gone}/versions/{gone}", json_body={"display_name": "x"}).status == 404


def test_large_specs_in_a_list(caller: Caller) -> None:
    """A list has every version's whole spec, however many and large they are."""
    pipeline = caller.call("POST", "/pipelines", json_body={"name": unique("large")})["pipeline_id"]
    spec = "pipelineInfo: {name: x, description: %s}\nroot: {dag: {}}\nschemaVersion: 2.1.0\n"
    for number in range(5):
        content = (spec % (str(number) + "x" * (1 << 20))).encode()
        assert caller.upload(content, name=f"v{number}", pipelineid=pipeline).status == 200
    listed = caller.get(f"/pipelines/{pipeline}/versions", sort_by="name").json["pipeline_versions"]
    assert isinstance(listed, list)
    assert [each["pipeline_spec"]["pipelineInfo"]["description"][0] for each in listed] == list("01234")
    assert {len(each["pipeline_spec"]["pipelineInfo"]["description"]) for each in listed} == {(1 << 20) + 1}


def test_sender_that_falls_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender that announced more data and stalls times out."""
    monkeypatch.setattr(uploads, "_IDLE_SECONDS", 0.01)

    async def silent() -> Message:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    async def receive() -> None:
        headers = [(b"content-type", b"multipart/form-data; boundary=b")]
        request = Request({"type": "http", "method": "POST", "headers": headers}, silent)
        async with uploads.received_file(request):
            raise AssertionError("there is no file")

    with pytest.raises(uploads.NoFileError):
        asyncio.run(receive())
