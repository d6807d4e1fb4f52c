"""Versions of pipelines in KFP: by name, by id, in lists, and the latest one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

import msgspec

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.listing import Page, PageRequest
from kfadapter_grpc.contract.pipelines import PipelineRef, PipelineVersion, VersionRef
from kfadapter_grpc.kfp import tags
from kfadapter_grpc.kfp.decoding import known_time
from kfadapter_grpc.kfp.error_table import NO_SUCH_VERSION, Context
from kfadapter_grpc.kfp.failures import KfpFailureError, Operation
from kfadapter_grpc.kfp.rest import (
    MAX_KFP_PAGE,
    V2,
    ListJson,
    ListQuery,
    Predicate,
    Rest,
    equals,
    explained,
    non_empty,
    paginate,
    segment,
    smaller,
)
from kfadapter_grpc.kfp.spec import summarize
from kfadapter_grpc.kfp.transport import MAX_RESPONSE_BYTES, Request, ResponseTooLargeError
from kfadapter_grpc.kfp.writes import ensure_deleted
from kfadapter_grpc.spool import Spool

T = TypeVar("T")

MAX_FULL_PAGE = 20
"""Specs may be large: how many versions are read at once if their specs are included."""
LATEST_ATTEMPTS = 3
"""How often the latest version is searched for again if it is deleted between finding and getting it."""
HEAD_BYTES = 256 * 1024
"""More than what precedes a spec: names and descriptions of at most 64 KiB each."""

MAX_FETCHED_BYTES = 256 * 1024 * 1024
"""More than any version takes as JSON: KFP's 32 MiB with each `<` written as `\\u003c`, and some more."""

_ERROR_BYTES = 16 * 1024
_CHEAP_LIST_GONE_SECONDS = 300.0
_NO_ROUTE = frozenset({404, 405, 501})
_MAX_DIGITS = 18


class VersionJson(msgspec.Struct):
    """A version without its spec."""

    pipeline_version_id: str
    pipeline_id: str = ""
    name: str = ""
    display_name: str = ""
    description: str = ""
    created_at: datetime | None = None
    code_source_url: str = ""
    tags: dict[str, str] = {}

    def record(self, spec: bytes = b"") -> PipelineVersion:
        return PipelineVersion(
            pipeline_version_id=self.pipeline_version_id,
            pipeline_id=self.pipeline_id,
            name=self.name or self.display_name,
            display_name=self.display_name,
            description=self.description,
            created_at=known_time(self.created_at),
            tags=tags.visible(self.tags),
            sha256=tags.digest_of(self.tags),
            code_source_url=self.code_source_url,
            spec=summarize(spec) if spec else None,
        )


class FullVersionJson(VersionJson):
    pipeline_spec: msgspec.Raw = msgspec.Raw()


class VersionListJson(ListJson[VersionJson]):
    """A list of versions; their specs are skipped."""

    items: list[VersionJson] = msgspec.field(default_factory=list, name="pipeline_versions")


class _FullVersionListJson(ListJson[FullVersionJson]):
    items: list[FullVersionJson] = msgspec.field(default_factory=list, name="pipeline_versions")


class _CheapVersionJson(VersionJson, kw_only=True):
    """A version in the v1beta1 list, which has no display names and no tags, and names its pipeline elsewhere."""

    pipeline_version_id: str = msgspec.field(name="id")


class CheapVersionListJson(ListJson[_CheapVersionJson]):
    items: list[_CheapVersionJson] = msgspec.field(default_factory=list, name="versions")


class Versions:
    """The versions of pipelines that are given by id. Safe to use from many threads."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest
        self._cheap_list_gone_until = 0.0

    def find(self, pipeline_id: str, ref: VersionRef, call: Call) -> VersionJson:
        """Finds a version by id or by name, without its spec."""
        context = version_context(pipeline_id, ref)
        try:
            if ref.pipeline_version_id:
                request = Request("GET", version_path(pipeline_id, ref.pipeline_version_id), keep=HEAD_BYTES)
                version: VersionJson | None = self.write(Operation.GET_VERSION, request, call, context)
            else:
                version = self.find_where(pipeline_id, (equals("name", ref.name),), call, context)
        except errors.VersionNotFoundError:
            self.ensure_pipeline(pipeline_id, call)
            raise
        # KFP finds a version by its id alone, whichever pipeline the path names.
        if version is None or version.pipeline_id != pipeline_id:
            raise context.error(errors.VersionNotFoundError, NO_SUCH_VERSION)
        return version

    def find_where(
        self, pipeline_id: str, predicates: tuple[Predicate, ...], call: Call, context: Context | None = None
    ) -> VersionJson | None:
        """Finds the newest version by a filter; its spec is dropped unread."""
        query = ListQuery(1, sort_by="created_at desc", predicates=predicates).pairs()
        request = Request("GET", _versions_path(pipeline_id), query, keep=HEAD_BYTES)
        listed = self._rest.ask(Operation.LIST_VERSIONS, request, VersionListJson, call, context or Context())
        return next(iter(listed.items), None)

    def ensure_pipeline(self, pipeline_id: str, call: Call) -> None:
        """Checks whether it is the pipeline that is missing: for a missing version KFP does not report that."""
        request = Request("GET", f"{V2}/pipelines/{segment(pipeline_id)}")
        self._rest.ask(Operation.GET_PIPELINE, request, object, call, Context.by_id("pipeline_id", pipeline_id))

    def get(self, pipeline_id: str, version_id: str, call: Call) -> PipelineVersion:
        version = self._get(pipeline_id, version_id, call, MAX_RESPONSE_BYTES)
        return version.record(bytes(version.pipeline_spec))

    def spec(self, pipeline_id: str, version_id: str, call: Call, limit: int = MAX_RESPONSE_BYTES) -> bytes:
        """Gets the spec of a version as JSON. Raises ResponseTooLargeError if there are more than `limit` bytes."""
        return bytes(self._get(pipeline_id, version_id, call, limit).pipeline_spec)

    def _get(self, pipeline_id: str, version_id: str, call: Call, limit: int) -> FullVersionJson:
        request = Request("GET", version_path(pipeline_id, version_id), limit=limit)
        context = version_context(pipeline_id, VersionRef(version_id))
        return self._rest.ask(Operation.GET_VERSION, request, FullVersionJson, call, context)

    def write(self, operation: Operation, request: Request, call: Call, context: Context) -> VersionJson:
        return self._rest.ask(operation, request, VersionJson, call, context)

    def fetch(self, pipeline_id: str, version_id: str, into: Spool, call: Call) -> None:
        path = version_path(pipeline_id, version_id)
        request = Request("GET", path, keep=_ERROR_BYTES, limit=MAX_FETCHED_BYTES, into=into)
        with explained(version_context(pipeline_id, VersionRef(version_id))):
            self._rest.send_raw(Operation.GET_VERSION, request, call)

    def list(
        self, pipeline_id: str, sort: str, page: PageRequest, call: Call, *, with_specs: bool
    ) -> Page[PipelineVersion]:
        query = ListQuery(page.size, page.token, sort)
        if not with_specs:
            return paginate(lambda one: self._page(pipeline_id, one, call), _records, query)

        def fetch(query: ListQuery) -> _FullVersionListJson:
            request = Request("GET", _versions_path(pipeline_id), query.pairs())
            context = Context.by_id("pipeline_id", pipeline_id)
            return self._rest.ask(Operation.LIST_VERSIONS, request, _FullVersionListJson, call, context)

        def read(items: list[FullVersionJson]) -> Iterator[PipelineVersion]:
            return (version.record(bytes(version.pipeline_spec)) for version in items)

        return paginate(fetch, read, query, MAX_FULL_PAGE)

    def every(self, pipeline_id: str, call: Call) -> Iterator[PipelineVersion]:
        for page in self._newest_pages(pipeline_id, call):
            yield from _records(page.items)

    def newest(self, pipeline_id: str, size: int, call: Call) -> tuple[Sequence[PipelineVersion], int]:
        """Returns up to `size` versions, without specs, and how many there are."""
        page = self._page(pipeline_id, ListQuery(page_size=size), call)
        return _records(page.items), page.total_size

    def latest(self, pipeline_id: str, call: Call) -> tuple[PipelineVersion | None, int]:
        """Returns the latest version, without its spec, and how many there are.

        KFP's times have whole seconds and ties are broken by id, so of the versions of one second the one with the
        highest number is the latest.
        """
        pages = self._newest_pages(pipeline_id, call)
        page = next(pages)
        items = _records(page.items)
        newest: list[PipelineVersion] = []
        while same := [item for item in items if item.created_at == (newest or items)[0].created_at]:
            newest += same
            if len(same) < len(items):
                break
            items = _records(next(pages, VersionListJson()).items)
        return max(newest, key=lambda item: version_number(item.name), default=None), page.total_size

    def get_latest(self, pipeline_id: str, call: Call) -> tuple[PipelineVersion | None, int]:
        return self.with_latest(lambda version_id: self.get(pipeline_id, version_id, call), pipeline_id, call)

    def with_latest(self, read: Callable[[str], T], pipeline_id: str, call: Call) -> tuple[T | None, int]:
        """Reads the latest version by its id, if there is one; also returns how many versions there are."""
        for attempt in range(1, LATEST_ATTEMPTS + 1):
            latest, count = self.latest(pipeline_id, call)
            if latest is None:
                break
            try:
                return read(latest.pipeline_version_id), count
            except errors.VersionNotFoundError:
                if attempt == LATEST_ATTEMPTS:
                    raise
        return None, 0

    def delete(self, pipeline_id: str, version_id: str, call: Call) -> None:
        """Deletes a version; after a broken response, checks whether it still exists."""
        ref = VersionRef(version_id)
        path = version_path(pipeline_id, version_id)
        context = version_context(pipeline_id, ref)
        ensure_deleted(
            lambda: self._rest.delete(Operation.DELETE_VERSION, path, call, context),
            lambda: self.find(pipeline_id, ref, call),
            errors.VersionNotFoundError,
        )

    def _newest_pages(self, pipeline_id: str, call: Call) -> Iterator[VersionListJson]:
        token = ""
        while True:
            page = self._page(pipeline_id, ListQuery(MAX_KFP_PAGE, token, "created_at desc"), call)
            yield page
            token = page.next_page_token
            if not token:
                return

    def _page(self, pipeline_id: str, query: ListQuery, call: Call) -> VersionListJson:
        """Reads a page of versions without their specs.

        Uses the v1beta1 list, or the other one if KFP no longer has it; its pages are smaller than requested.
        """
        context = Context.by_id("pipeline_id", pipeline_id)
        if time.monotonic() >= self._cheap_list_gone_until:
            request = cheap_list_request(pipeline_id, query)
            try:
                cheap = self._rest.ask_raw(Operation.CHEAP_VERSIONS, request, CheapVersionListJson, call)
            except KfpFailureError as error:
                if not _route_is_gone(error):
                    with explained(context):
                        raise
                self._cheap_list_gone_until = time.monotonic() + _CHEAP_LIST_GONE_SECONDS
            else:
                for version in cheap.items:
                    version.pipeline_id = pipeline_id
                return VersionListJson(
                    items=list(cheap.items), total_size=cheap.total_size, next_page_token=cheap.next_page_token
                )
        size = min(query.page_size, MAX_FULL_PAGE)
        while True:  # KFP includes the specs: fewer versions while the response is too large
            request = Request("GET", _versions_path(pipeline_id), replace(query, page_size=size).pairs())
            try:
                return self._rest.ask(Operation.LIST_VERSIONS, request, VersionListJson, call, context)
            except ResponseTooLargeError:
                if size == 1:
                    raise
                size = smaller(size)


def _records(items: Iterable[VersionJson]) -> list[PipelineVersion]:
    return [item.record() for item in items]


def cheap_list_request(pipeline_id: str, query: ListQuery) -> Request:
    key = [("resource_key.type", "PIPELINE"), ("resource_key.id", pipeline_id)]
    return Request("GET", "/apis/v1beta1/pipeline_versions", [*key, *query.pairs()])


def version_context(pipeline_id: str, ref: VersionRef) -> Context:
    values = {"pipeline_id": pipeline_id, "pipeline_version_id": ref.pipeline_version_id, "version_name": ref.name}
    return Context(subject=str(ref), resource=ref.pipeline_version_id or ref.name, values=non_empty(values))


def no_version_yet(pipeline_id: str, ref: PipelineRef) -> errors.AdapterError:
    context = Context(str(ref), resource="latest", values={"pipeline_id": pipeline_id})
    return context.error(errors.VersionNotFoundError, "pipeline {subject} has no version yet; upload one")


def version_number(name: str) -> int:
    """The number in a version's name; 0 if it is not a number."""
    is_number = name.isascii() and name.isdigit() and len(name) <= _MAX_DIGITS
    return int(name) if is_number else 0


def _route_is_gone(error: KfpFailureError) -> bool:
    """Whether a KFP, or a proxy with its page, does not know the address."""
    failure = error.failure
    status = failure.page.status if failure.page else failure.status
    return status in _NO_ROUTE and "pipeline" not in failure.full_text.lower()


def _versions_path(pipeline_id: str) -> str:
    return f"{V2}/pipelines/{segment(pipeline_id)}/versions"


def version_path(pipeline_id: str, version_id: str) -> str:
    return f"{_versions_path(pipeline_id)}/{segment(version_id)}"
