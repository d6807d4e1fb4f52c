"""KFP's API with its failures explained: what the repository and the upload are written on."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.pipelines import PipelineRef
from kfadapter_grpc.kfp.error_table import (
    KFP_FILE_LIMIT,
    KFP_PACKET_LIMIT,
    NO_SUCH_PIPELINE,
    NO_SUCH_VERSION,
    Context,
    Look,
    Seen,
)
from kfadapter_grpc.kfp.failures import KfpFailureError, NotAnApiError
from kfadapter_grpc.kfp.rest import MAX_KFP_PAGE, ListQuery, equals, explained, smaller
from kfadapter_grpc.kfp.transport import AnswerTooLargeError
from kfadapter_grpc.kfp.writes import spare_call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.contract.pipelines import PipelineVersion, VersionRef
    from kfadapter_grpc.kfp.api import PipelineApi
    from kfadapter_grpc.kfp.wire import PipelineJson, VersionJson, VersionListJson

MAX_FULL_PAGE = 20
"""Specs may be large: so many versions are read at once where their specs come along."""

_FITS_INTO_PATH = re.compile(r"[\w .-]*[\w -][\w .-]*")
_CHEAP_LIST_GONE_SECONDS = 300.0


def context_of(ref: PipelineRef) -> Context:
    """The context of a call about a pipeline."""
    values = {"pipeline_id": ref.pipeline_id} if ref.pipeline_id else {"name": ref.name}
    if ref.namespace:
        values["namespace"] = ref.namespace
    return Context(subject=str(ref), resource=ref.pipeline_id or ref.name, values=values)


def context_of_version(pipeline_id: str, ref: VersionRef) -> Context:
    """The context of a call about a version."""
    values = {"pipeline_id": pipeline_id, "pipeline_version_id": ref.pipeline_version_id, "version_name": ref.name}
    return Context(
        subject=str(ref),
        resource=ref.pipeline_version_id or ref.name,
        values={key: value for key, value in values.items() if value},
    )


def no_such_version(context: Context) -> errors.VersionNotFoundError:
    """The error for a version that is not there."""
    text = NO_SUCH_VERSION.format(subject=context.subject)
    return errors.VersionNotFoundError(text, metadata=context.values, resource_name=context.resource)


def no_version_yet(pipeline_id: str, ref: PipelineRef) -> errors.VersionNotFoundError:
    """The error for a pipeline without versions."""
    text = f"pipeline {ref} has no version yet; upload one"
    return errors.VersionNotFoundError(text, metadata={"pipeline_id": pipeline_id}, resource_name="latest")


class Gateway:
    """Finds pipelines and versions in KFP."""

    def __init__(self, api: PipelineApi) -> None:
        self.api = api
        self._cheap_list_gone_until = 0.0

    def find(self, ref: PipelineRef, call: Call) -> PipelineJson:
        """Finds a pipeline by id, or by name in its namespace and then in the shared space.

        Raises:
            PipelineNotFoundError: There is none.
        """
        if ref.pipeline_id:
            with explained(context_of(ref)):
                return self.api.get_pipeline(ref.pipeline_id, call)
        found = self.find_by_name(ref.name, ref.namespace, call)
        if found is None and ref.namespace:
            found = self.find_by_name(ref.name, "", call)
        if found is None:
            context = context_of(ref)
            text = NO_SUCH_PIPELINE.format(subject=context.subject)
            raise errors.PipelineNotFoundError(text, metadata=context.values, resource_name=context.resource)
        return found

    def find_by_name(self, name: str, namespace: str, call: Call) -> PipelineJson | None:
        """Finds a pipeline by name in exactly this namespace; the empty one is the shared space."""
        if _FITS_INTO_PATH.fullmatch(name):
            try:
                with explained(Context(subject=f"named '{name}'")):
                    found = self.api.get_pipeline_by_name(name, namespace, call)
            except errors.PipelineNotFoundError:
                return None
            # Without a namespace a multi-user KFP gives any namespace's pipeline of that name.
            if namespace or not found.namespace:
                return found
        return self._list_for_name(name, namespace, call)

    def _list_for_name(self, name: str, namespace: str, call: Call) -> PipelineJson | None:
        query = ListQuery(page_size=1, predicates=(equals("name", name),))
        with explained():
            found = self.api.list_pipelines(query, namespace, call).pipelines
        return found[0] if found else None

    def list_cheap(self, pipeline_id: str, query: ListQuery, call: Call) -> tuple[list[PipelineVersion], str, int]:
        """Lists versions without their specs: items, next token, total.

        Takes the v1beta1 list, or the other one where that is gone; its pages are smaller than asked for.
        """
        context = Context(subject=f"with id {pipeline_id}", resource=pipeline_id, values={"pipeline_id": pipeline_id})
        if time.monotonic() >= self._cheap_list_gone_until:
            try:
                cheap = self.api.list_cheap_versions(pipeline_id, query, call)
            except (KfpFailureError, NotAnApiError) as error:
                if not _route_is_gone(error):
                    with explained(context):
                        raise
                self._cheap_list_gone_until = time.monotonic() + _CHEAP_LIST_GONE_SECONDS
            else:
                versions = [version.to_domain(pipeline_id) for version in cheap.versions]
                return versions, cheap.next_page_token, cheap.total_size
        with explained(context):
            full = self._list_with_specs(pipeline_id, query, call)
        return [version.to_domain() for version in full.pipeline_versions], full.next_page_token, full.total_size

    def _list_with_specs(self, pipeline_id: str, query: ListQuery, call: Call) -> VersionListJson:
        """Lists versions though KFP sends their specs along: fewer at once while the answer is too large."""
        size = min(query.page_size, MAX_FULL_PAGE)
        while True:
            try:
                return self.api.list_versions(pipeline_id, replace(query, page_size=size), call)
            except AnswerTooLargeError:
                if size == 1:
                    raise
                size = smaller(size)

    def every_version(self, pipeline_id: str, call: Call) -> Iterator[PipelineVersion]:
        """Yields all versions of a pipeline, the newest first, without specs."""
        for items, _ in self._newest_pages(pipeline_id, call):
            yield from items

    def _newest_pages(self, pipeline_id: str, call: Call) -> Iterator[tuple[list[PipelineVersion], int]]:
        """Yields pages of versions, the newest first, each with the total."""
        token = ""
        while True:
            query = ListQuery(MAX_KFP_PAGE, token, "created_at desc")
            items, token, total = self.list_cheap(pipeline_id, query, call)
            yield items, total
            if not token:
                return

    def count_versions(self, pipeline_id: str, call: Call) -> int:
        """Counts the versions of a pipeline."""
        _, _, total = self.list_cheap(pipeline_id, ListQuery(page_size=1), call)
        return total

    def latest_version(self, pipeline_id: str, call: Call) -> tuple[PipelineVersion | None, int]:
        """Tells the latest version, without its spec, and how many there are.

        KFP's times have whole seconds and ties are broken by id, so of the versions of one second the one with the
        highest number is taken.
        """
        pages = self._newest_pages(pipeline_id, call)
        items, total = next(pages)
        newest: list[PipelineVersion] = []
        while same := [item for item in items if item.created_at == (newest or items)[0].created_at]:
            newest += same
            if len(same) < len(items):
                break
            items, _ = next(pages, ([], 0))
        return max(newest, key=lambda item: version_number(item.name), default=None), total

    def latest_version_or_raise(self, pipeline_id: str, ref: PipelineRef, call: Call) -> PipelineVersion:
        """Tells the latest version, without its spec.

        Raises:
            VersionNotFoundError: There is none; `ref` says of which pipeline.
        """
        latest, _ = self.latest_version(pipeline_id, call)
        if latest is None:
            raise no_version_yet(pipeline_id, ref)
        return latest

    def find_version(self, pipeline_id: str, ref: VersionRef, call: Call) -> VersionJson:
        """Finds a version of a pipeline by id or by name, without its spec.

        Raises:
            PipelineNotFoundError: There is no such pipeline.
            VersionNotFoundError: It has no such version.
        """
        context = context_of_version(pipeline_id, ref)
        try:
            with explained(context):
                if not ref.pipeline_version_id:
                    found = self.api.find_version(pipeline_id, (equals("name", ref.name),), call)
                else:
                    found = self.api.get_version_facts(pipeline_id, ref.pipeline_version_id, call)
        except errors.VersionNotFoundError:
            self.find(PipelineRef(pipeline_id=pipeline_id), call)  # KFP does not say that it is the pipeline
            raise
        # KFP finds a version by its id alone, whichever pipeline the path names.
        if found is None or found.pipeline_id != pipeline_id:
            raise no_such_version(context)
        return found

    def look_for(self, pipeline_id: str, namespace: str, size: int, call: Call) -> Callable[[Look], Seen]:
        """Makes what the error table asks after a failed upload."""

        def look(what: Look) -> Seen:
            return _size_seen(size) if what is Look.SIZE else self._look_at_target(pipeline_id, namespace, call)

        return look

    def _look_at_target(self, pipeline_id: str, namespace: str, call: Call) -> Seen:
        spare = spare_call(call)
        try:
            if pipeline_id:
                self.api.get_pipeline(pipeline_id, spare)
            else:
                self.api.list_pipelines(ListQuery(page_size=1), namespace, spare)
        except KfpFailureError as error:
            return _TARGET_SEEN.get(error.failure.status, Seen.THERE)
        except (NotAnApiError, errors.AdapterError):
            return Seen.THERE
        return Seen.THERE


_NO_ROUTE = frozenset({404, 405, 501})
_TARGET_SEEN = {401: Seen.UNKNOWN_USER, 403: Seen.FORBIDDEN, 404: Seen.MISSING}
_MAX_DIGITS = 18


def version_number(name: str) -> int:
    """The number that a version's name is; 0 if it is none."""
    is_number = name.isascii() and name.isdigit() and len(name) <= _MAX_DIGITS
    return int(name) if is_number else 0


def _size_seen(size: int) -> Seen:
    if size > KFP_FILE_LIMIT:
        return Seen.OVER_LIMIT
    return Seen.OVER_PACKET if size >= KFP_PACKET_LIMIT else Seen.SMALL


def _route_is_gone(error: KfpFailureError | NotAnApiError) -> bool:
    """Whether a KFP, or a proxy with its page, does not know the address."""
    if isinstance(error, NotAnApiError):
        return error.answer.status in _NO_ROUTE
    return error.failure.status in _NO_ROUTE and "pipeline" not in error.failure.full_text.lower()
