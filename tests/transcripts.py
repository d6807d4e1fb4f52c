"""Recorded exchanges with KFP (tests/data/transcripts), and a replayer that checks a server against them.

The comparison follows the recordings' own rules: status, keys, types and every value that is not a placeholder. The
order of items created within one second is free, so a page in the order of time may hold any of the recorded items.
"""

from __future__ import annotations

import base64
import io
import json
import re
import tarfile
import uuid
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote

import urllib3
from urllib3.filepost import encode_multipart_formdata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = "dict[str, JsonValue]"

DATA = Path(__file__).parent / "data"
PIPELINES = DATA / "pipelines"

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_TIME = r"(?!1970)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
_ANYTHING = {"{uuid}": _UUID, "{time}": _TIME, "{stack}": r".+"}
_PLACEHOLDER = re.compile(r"\{[A-Z][A-Z0-9_]*\}")
_TOKEN = re.compile(r"eyJ[A-Za-z0-9+/]+=*")
_FREE_KEYS = {"commit_sha", "tag_name"}
_LISTS = ("pipelines", "pipeline_versions", "versions", "experiments", "runs", "recurringRuns")


@dataclass(frozen=True)
class Step:
    """One request and KFP's response."""

    number: int
    note: str
    request: JsonObject
    response: JsonObject

    @property
    def path(self) -> str:
        """The path, with placeholders."""
        return str(self.request["path"])

    @property
    def query(self) -> dict[str, str]:
        """The query parameters, with placeholders."""
        query = self.request.get("query")
        return {key: str(value) for key, value in query.items()} if isinstance(query, dict) else {}

    @property
    def was_answered(self) -> bool:
        """Whether KFP answered at all; some files make it hang."""
        return self.response["status"] != 0


@dataclass(frozen=True)
class Transcript:
    """A recorded scenario."""

    name: str
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Answer:
    """A server's response to a step."""

    status: int
    content_type: str
    body: JsonValue


def load(name: str) -> Transcript:
    """Loads a recording, for example "pipelines" or "kfp-2.5/pipelines"."""
    data = json.loads((DATA / "transcripts" / f"{name}.json").read_text(encoding="utf-8"))
    steps = (
        Step(number, str(each["note"]), each["request"], each["response"]) for number, each in enumerate(data["steps"])
    )
    return Transcript(name, tuple(steps))


@dataclass
class Replayer:
    """Sends recorded requests to a server and compares its responses with KFP's.

    Pipeline names are made unique by a suffix, as they were in the recordings, so the server may have other
    content.

    Attributes:
        url: the server.
        transcript: the steps to replay, in order.
        ignored: keys that are not compared and may be missing or added.
        suffix: six characters that occur in no other pipeline name of the server.
    """

    url: str
    transcript: Transcript
    ignored: frozenset[str] = frozenset()
    suffix: str = field(default_factory=lambda: uuid.uuid4().hex[:6])
    _bound: dict[str, str] = field(default_factory=dict)
    _tokens_in_time_order: set[str] = field(default_factory=set)
    _spec: JsonValue = None
    _http: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(retries=False, timeout=60))

    def differences(self, step: Step) -> list[str]:
        """Replays a step; returns the differences from the recorded response."""
        answer = self.send(step)
        status, kind, recorded = (step.response.get(key) for key in ("status", "content_type", "json"))
        found = [] if answer.status == status else [f".status: {answer.status}, recorded {status}"]
        found += [] if answer.content_type == kind else [f".content_type: {answer.content_type}, recorded {kind}"]
        if self._is_in_time_order(step):
            return found + self._list_differences(recorded, answer.body)
        return found + list(self._compare("", recorded, answer.body))

    def send(self, step: Step) -> Answer:
        """Sends a step's request with its placeholders filled in."""
        query = self._query(step)
        path = re.sub(r"(?<=/names/)[^/]+", lambda match: self._named(match[0]), step.path)
        url = self.url + quote(self._filled(path)) + ("?" if query else "")
        url += "&".join(f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in query.items())
        body, headers = self._content(step)
        answer = self._http.request(str(step.request["method"]), url, body=body, headers=headers)
        text = answer.data.decode().replace(f"-{self.suffix}", "")
        try:
            output: JsonValue = json.loads(text)
        except ValueError:
            output = {"_text": text}
        self._remember(output)
        return Answer(answer.status, answer.headers.get("content-type", ""), output)

    def _content(self, step: Step) -> tuple[bytes | None, dict[str, str]]:
        """Returns the body and the headers of a step's request."""
        if "field" in step.request:
            name = str(step.request["filename"]).replace(_recorded_suffix(step), f"-{self.suffix}")
            body, content_type = encode_multipart_formdata({str(step.request["field"]): (name, self._file(step))})
            return body, {"content-type": content_type}
        if "json" not in step.request:
            return None, {}
        text = json.dumps(step.request["json"], ensure_ascii=False)
        if step.path == "/apis/v2beta1/pipelines":
            text = re.sub(r'(?<="name": ")[^"]+', lambda match: self._named(match[0]), text)
        for chosen in set(_PLACEHOLDER.findall(text)) - self._bound.keys():
            self._bound[chosen] = str(uuid.uuid4())
        return self._filled(text).encode(), {"content-type": "application/json"}

    def _file(self, step: Step) -> bytes:
        if "file" in step.request:
            return (PIPELINES / str(step.request["file"])).read_bytes()
        if step.note == "JSON of a version's spec, uploaded as a file":
            return json.dumps(self._spec).encode()
        return made_file(step.note)

    def _query(self, step: Step) -> dict[str, str]:
        query = {key: self._filled(value) for key, value in step.query.items()}
        if step.path.endswith("/pipelines/upload") and "name" in query:
            query["name"] = self._named(step.query["name"])
        if step.path == "/apis/v2beta1/pipelines" and query.get("filter", "").startswith("{"):
            query["filter"] = self._named_in_filter(query["filter"])
        return query

    def _named_in_filter(self, text: str) -> str:
        document = json.loads(text)
        for predicate in document["predicates"]:
            if predicate["key"] == "name" and predicate["operation"] == "EQUALS":
                predicate["string_value"] = self._named(predicate["string_value"])
        return json.dumps(document)

    def _named(self, name: str) -> str:
        return self._filled(name) if "{suffix}" in name else f"{name}-{self.suffix}"

    def _filled(self, text: str) -> str:
        text = text.replace("{suffix}", self.suffix)
        text = re.sub(r"\{uuid\}", lambda _: str(uuid.uuid4()), text)
        return _PLACEHOLDER.sub(lambda match: self._bound.get(match[0], match[0]), text)

    def _remember(self, body: JsonValue) -> None:
        """Keeps the last spec without a platform spec, which a later step uploads again."""
        spec = body.get("pipeline_spec") if isinstance(body, dict) else None
        if self._spec is None and isinstance(spec, dict) and "root" in spec:
            self._spec = spec

    def _is_in_time_order(self, step: Step) -> bool:
        """Whether the step lists in the order of time, where ties are free; a page token keeps the order."""
        if step.request["method"] != "GET" or not _items(step.response.get("json")):
            return False
        if token := step.query.get("page_token"):
            return self._bound.get(token, "") in self._tokens_in_time_order
        return "name" not in step.query.get("sort_by", "")

    def _list_differences(self, recorded: JsonValue, actual: JsonValue) -> list[str]:
        """Compares a list whose order is free: each item must match a recorded one, and none may occur twice."""
        wanted, got = _items(recorded), _items(actual)
        if not isinstance(recorded, dict) or not isinstance(actual, dict) or len(wanted) != len(got):
            return [f"{len(got)} items, recorded {len(wanted)}: {actual}"]
        found = list(self._compare("", _without_items(recorded), _without_items(actual)))
        self._tokens_in_time_order.add(str(actual.get("next_page_token")))
        candidates = wanted if len(wanted) == recorded.get("total_size") else self._all_recorded_like(wanted[0])
        for number, item in enumerate(got):
            candidates, lines = self._match(candidates, item)
            found += [f"item {number}{line}" for line in lines]
        return found

    def _match(self, candidates: list[JsonObject], item: JsonObject) -> tuple[list[JsonObject], list[str]]:
        """Finds the recorded form of an item; returns the others, or the differences from the one with its name."""
        nearest: list[str] = [f": no such item was recorded: {item}"]
        for candidate in candidates:
            before = dict(self._bound)
            lines = list(self._compare("", candidate, item))
            if not lines:
                return [each for each in candidates if each is not candidate], []
            self._bound = before
            if _name(candidate) == _name(item):
                nearest = lines
        return candidates, nearest

    def _all_recorded_like(self, example: JsonObject) -> list[JsonObject]:
        """Returns every item of the transcript of the same kind as the example, each once."""
        found: dict[str, JsonObject] = {}
        for step in self.transcript.steps:
            body = step.response.get("json")
            for item in [body, *_items(body)]:
                if isinstance(item, dict) and _name(item) and _kind(item) == _kind(example):
                    found.setdefault(_name(item), item)
        return list(found.values())

    def _compare(self, where: str, recorded: JsonValue, actual: JsonValue) -> Iterator[str]:
        if isinstance(recorded, dict) and isinstance(actual, dict):
            for key in sorted((recorded.keys() | actual.keys()) - self.ignored):
                if key not in recorded or key not in actual:
                    yield f"{where}.{key}: {'missing' if key in recorded else f'added, {actual[key]!r}'}"
                elif key not in _FREE_KEYS:
                    yield from self._compare(f"{where}.{key}", recorded[key], actual[key])
        elif isinstance(recorded, list) and isinstance(actual, list) and len(recorded) == len(actual):
            for number, (one, other) in enumerate(zip(recorded, actual, strict=True)):
                yield from self._compare(f"{where}[{number}]", one, other)
        elif isinstance(recorded, str) and isinstance(actual, str):
            if not self._same_text(recorded, actual):
                yield f"{where}: {actual!r}, recorded {recorded!r}"
        elif type(recorded) is not type(actual) or recorded != actual:
            yield f"{where}: {actual!r}, recorded {recorded!r}"

    def _same_text(self, recorded: str, actual: str) -> bool:
        if recorded == "{TOKEN}" or (_PLACEHOLDER.fullmatch(recorded) and recorded not in self._bound):
            self._bound[recorded] = actual
            return True
        if _TOKEN.fullmatch(recorded):
            return _token_shape(recorded) == _token_shape(actual)
        # Go's protojson writes one or the other at random, so that its exact output is not relied on.
        recorded = recorded.replace("\u00a0", " ")
        pattern = "".join(_ANYTHING.get(part) or re.escape(self._filled(part)) for part in _split(recorded))
        return re.fullmatch(pattern, actual, re.DOTALL) is not None


def made_file(note: str) -> bytes:
    """Returns the file of a step that names no file, by the step's note."""
    return _MADE_FILES[note]()


def _hello() -> bytes:
    return (PIPELINES / "hello_world.yaml").read_bytes()


def _zip(*names: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name in names:
            archive.writestr(name, _hello())
    return target.getvalue()


def _tar_gz() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        archive.add(PIPELINES / "hello_world.yaml", "pipeline.yaml")
    return target.getvalue()


_MADE_FILES: dict[str, Callable[[], bytes]] = {
    "empty file": lambda: b"\n",
    "not YAML": lambda: b"{[}",
    "YAML but not a pipeline": lambda: b"hello",
    "YAML list": lambda: b"- a\n- b\n",
    "binary": lambda: bytes(range(256)),
    "wrong extension": _hello,
    "JSON file": lambda: b"{}",
    "pipeline without name": lambda: b"pipelineInfo: {}\nroot: {}\nschemaVersion: 2.1.0\n",
    "pipeline without root": lambda: b"pipelineInfo: {name: x}\nschemaVersion: 2.1.0\n",
    "unknown schema version": lambda: _hello().replace(b"schemaVersion: 2.1.0", b"schemaVersion: 9.9.9"),
    "capitals in the spec's name": lambda: _hello().replace(b"name: hello-world", b"name: Hello-World"),
    "zip": lambda: _zip("pipeline.yaml"),
    "tar.gz": _tar_gz,
    "zip with another member name": lambda: _zip("x.yaml"),
    "zip with two members, none named pipeline.yaml": lambda: _zip("a.yaml", "b.yaml"),
    "zip without members": _zip,
    "broken zip": lambda: b"PK\x03\x04broken",
    "Argo workflow (KFP v1)": (PIPELINES / "argo_v1_workflow.yaml").read_bytes,
    "33 MiB": lambda: _hello() + b"#" * (33 << 20),
    "100 characters in name are fine; see status": lambda: b"a: b",
    "the wrapper of two specs, uploaded as a file": lambda: b'{"pipeline_spec": {"a": {}}, "platform_spec": {"b": {}}}',
}


def _items(body: JsonValue) -> list[JsonObject]:
    for key in _LISTS:
        items = body.get(key) if isinstance(body, dict) else None
        if isinstance(items, list):
            return [item for item in items if isinstance(item, dict)]
    return []


def _without_items(body: JsonObject) -> JsonObject:
    return {key: value for key, value in body.items() if key not in _LISTS}


def _kind(item: JsonObject) -> tuple[bool, ...]:
    return tuple(key in item for key in ("id", "pipeline_id", "pipeline_version_id", "run_id", "trigger"))


def _name(item: JsonObject) -> str:
    return str(item.get("name") or item.get("display_name") or "")


def _split(text: str) -> list[str]:
    return re.split(r"(\{[a-z]+\})", text)


def _recorded_suffix(step: Step) -> str:
    """Returns the suffix of the recording, which remains in file names only."""
    match = re.search(r"-[0-9a-f]{6}(?=\.yaml$)", str(step.request.get("filename", "")))
    return match[0] if match else "-no-suffix-here"


def _token_shape(token: str) -> JsonValue:
    """Returns the content of a page token without the item it points to and the values it filters by."""
    fields = json.loads(base64.b64decode(token))
    filters = fields.get("Filter") or {}
    shape = {key: sorted(columns) for key, columns in filters.items()} if filters else None
    return {**fields, "SortByFieldValue": "", "KeyFieldValue": "", "Filter": shape}
