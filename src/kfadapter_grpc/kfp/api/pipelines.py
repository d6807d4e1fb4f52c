"""KFP's endpoints for pipelines and their versions, those for uploads among them."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from kfadapter_grpc.kfp import wire
from kfadapter_grpc.kfp.decoding import decode
from kfadapter_grpc.kfp.failures import Operation
from kfadapter_grpc.kfp.rest import V2, ListQuery, Rest, segment
from kfadapter_grpc.kfp.transport import Answer, Request, Sink
from kfadapter_grpc.spool import disk_faults

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.contract.pipelines import PipelineFile
    from kfadapter_grpc.kfp.rest import Predicate

_CHUNK_BYTES = 256 * 1024
_HEAD_BYTES = 256 * 1024
"""More than what stands before a spec: names and descriptions of at most 64 KiB each."""
MAX_FETCHED_BYTES = 256 * 1024 * 1024
"""More than any version takes as JSON: KFP's 32 MiB with each `<` written as `\\u003c`, and some more."""
_ERROR_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class UploadForm:
    """The query of an upload; what is empty is left out. `pipeline_id` for a version only."""

    name: str
    pipeline_id: str = ""
    display_name: str = ""
    description: str = ""
    namespace: str = ""
    code_source_url: str = ""
    tags: Mapping[str, str] | None = None

    def pairs(self) -> list[tuple[str, str]]:
        """As query parameters."""
        pairs = [
            ("name", self.name),
            ("pipelineid", self.pipeline_id),
            ("display_name", self.display_name),
            ("description", self.description),
            ("namespace", self.namespace),
            ("code_source_url", self.code_source_url),
            ("tags", json.dumps(dict(self.tags), ensure_ascii=False) if self.tags else ""),
        ]
        return [(key, value) for key, value in pairs if value]


class PipelineApi:
    """The endpoints. Safe to use from many threads."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest

    def get_pipeline(self, pipeline_id: str, call: Call) -> wire.PipelineJson:
        """Gets a pipeline by id."""
        request = Request("GET", f"{V2}/pipelines/{segment(pipeline_id)}")
        return self._rest.ask_raw(Operation.GET_PIPELINE, request, wire.PipelineJson, call)

    def get_pipeline_by_name(self, name: str, namespace: str, call: Call) -> wire.PipelineJson:
        """Gets a pipeline by name; names that do not fit into a path must be listed for."""
        query = (("namespace", namespace),) if namespace else ()
        request = Request("GET", f"{V2}/pipelines/names/{segment(name)}", query)
        return self._rest.ask_raw(Operation.GET_BY_NAME, request, wire.PipelineJson, call)

    def list_pipelines(self, query: ListQuery, namespace: str, call: Call) -> wire.PipelineListJson:
        """Lists pipelines."""
        pairs = [*query.pairs(), ("namespace", namespace)] if namespace else query.pairs()
        request = Request("GET", f"{V2}/pipelines", pairs)
        return self._rest.ask_raw(Operation.LIST_PIPELINES, request, wire.PipelineListJson, call)

    def create_pipeline(self, body: Mapping[str, object], call: Call) -> wire.PipelineJson:
        """Makes a pipeline without a version."""
        request = Request("POST", f"{V2}/pipelines", body=json.dumps(body).encode())
        return self._rest.ask_raw(Operation.CREATE_PIPELINE, request, wire.PipelineJson, call)

    def delete_pipeline(self, pipeline_id: str, call: Call, *, cascade: bool) -> None:
        """Deletes a pipeline; without `cascade` only one that has no versions."""
        query = (("cascade", "true"),) if cascade else ()
        request = Request("DELETE", f"{V2}/pipelines/{segment(pipeline_id)}", query)
        self._rest.ask_raw(Operation.DELETE_PIPELINE, request, dict[str, object], call)

    def upload(self, form: UploadForm, file: PipelineFile, call: Call) -> wire.PipelineJson:
        """Makes a pipeline with its first version, which gets the pipeline's name."""
        request = _multipart(f"{V2}/pipelines/upload", form, file)
        return self._rest.ask_raw(Operation.UPLOAD, request, wire.PipelineJson, call)

    def upload_version(self, form: UploadForm, file: PipelineFile, call: Call) -> wire.VersionJson:
        """Makes a version. The answer holds its whole spec again, which is dropped unread."""
        request = _multipart(f"{V2}/pipelines/upload_version", form, file)
        return _version_of(self._rest.send_raw(Operation.UPLOAD_VERSION, request, call))

    def get_version(self, pipeline_id: str, version_id: str, call: Call) -> wire.FullVersionJson:
        """Gets a version with its spec."""
        request = Request("GET", f"{_versions(pipeline_id)}/{segment(version_id)}")
        return self._rest.ask_raw(Operation.GET_VERSION, request, wire.FullVersionJson, call)

    def get_version_facts(self, pipeline_id: str, version_id: str, call: Call) -> wire.VersionJson:
        """Gets a version; its spec is dropped unread."""
        path = f"{_versions(pipeline_id)}/{segment(version_id)}"
        answer = self._rest.send_raw(Operation.GET_VERSION, Request("GET", path, keep=_HEAD_BYTES), call)
        return _version_of(answer)

    def fetch_version(self, pipeline_id: str, version_id: str, into: Sink, call: Call) -> None:
        """Gets a version with its spec, as the bytes that KFP answers."""
        path = f"{_versions(pipeline_id)}/{segment(version_id)}"
        request = Request("GET", path, keep=_ERROR_BYTES, limit=MAX_FETCHED_BYTES, into=into)
        self._rest.send_raw(Operation.GET_VERSION, request, call)

    def list_versions(self, pipeline_id: str, query: ListQuery, call: Call) -> wire.VersionListJson:
        """Lists versions; KFP sends all their specs, which are skipped."""
        request = Request("GET", _versions(pipeline_id), query.pairs())
        return self._rest.ask_raw(Operation.LIST_VERSIONS, request, wire.VersionListJson, call)

    def list_full_versions(self, pipeline_id: str, query: ListQuery, call: Call) -> wire.FullVersionListJson:
        """Lists versions with their specs."""
        request = Request("GET", _versions(pipeline_id), query.pairs())
        return self._rest.ask_raw(Operation.LIST_VERSIONS, request, wire.FullVersionListJson, call)

    def find_version(self, pipeline_id: str, predicates: tuple[Predicate, ...], call: Call) -> wire.VersionJson | None:
        """Finds one version by a filter; its spec is dropped unread."""
        query = ListQuery(page_size=1, predicates=predicates)
        request = Request("GET", _versions(pipeline_id), query.pairs(), keep=_HEAD_BYTES)
        answer = self._rest.send_raw(Operation.LIST_VERSIONS, request, call)
        if not answer.tail:
            found = decode(answer.body, wire.VersionListJson).pipeline_versions
            return found[0] if found else None
        cut, version_tags = wire.decode_around_spec(answer.body, answer.tail, b"}]}", wire.VersionListJson)
        version = cut.pipeline_versions[0]
        version.tags = version.tags or version_tags
        return version

    def list_cheap_versions(self, pipeline_id: str, query: ListQuery, call: Call) -> wire.CheapVersionListJson:
        """Lists versions without specs, display names and tags: fast."""
        key = [("resource_key.type", "PIPELINE"), ("resource_key.id", pipeline_id)]
        request = Request("GET", "/apis/v1beta1/pipeline_versions", [*key, *query.pairs()])
        return self._rest.ask_raw(Operation.CHEAP_VERSIONS, request, wire.CheapVersionListJson, call)

    def delete_version(self, pipeline_id: str, version_id: str, call: Call) -> None:
        """Deletes a version."""
        request = Request("DELETE", f"{_versions(pipeline_id)}/{segment(version_id)}")
        self._rest.ask_raw(Operation.DELETE_VERSION, request, dict[str, object], call)


def _versions(pipeline_id: str) -> str:
    return f"{V2}/pipelines/{segment(pipeline_id)}/versions"


def _version_of(answer: Answer) -> wire.VersionJson:
    """Reads a version of which the spec may have been dropped."""
    if not answer.tail:
        return decode(answer.body, wire.VersionJson)
    version, version_tags = wire.decode_around_spec(answer.body, answer.tail, b"}", wire.VersionJson)
    version.tags = version.tags or version_tags
    return version


def _multipart(path: str, form: UploadForm, file: PipelineFile) -> Request:
    boundary = secrets.token_hex(16)
    head = (
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="uploadfile"; filename="{file.kind.value}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    end = f"\r\n--{boundary}--\r\n".encode()
    return Request(
        "POST",
        path,
        form.pairs(),
        body=_Stream(head, file.stream, end),
        content_type=f"multipart/form-data; boundary={boundary}",
        content_length=len(head) + file.size + len(end),
        keep=_HEAD_BYTES,
    )


@dataclass(frozen=True, slots=True)
class _Stream:
    """A file as a multipart body; each time it is sent, it begins anew."""

    head: bytes
    file: BinaryIO
    end: bytes

    def __iter__(self) -> Iterator[bytes]:
        with disk_faults():
            self.file.seek(0)
        yield self.head
        while chunk := self._read():
            yield chunk
        yield self.end

    def _read(self) -> bytes:
        with disk_faults():  # else it would pass for a fault of the line to KFP
            return self.file.read(_CHUNK_BYTES)
