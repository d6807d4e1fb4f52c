"""Which namespace a resource of KFP is in, and whether a call may use it.

To a call whose caller has roles in some namespaces only, KFP appears to hold nothing of the others. Every request to
KFP passes here: lists lose what is in other namespaces, and all else gets the very failure that KFP reports for an
unknown id. So whatever is made of the responses, existence does not leak. Calls without such limits never come here.

Runs and recurring runs are in the namespace of their experiment; a single-user KFP reports another one for the latter.
A namespace never changes, so it is cached.
"""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import quote

import msgspec

from kfadapter_grpc.contract.call import Call, Limits
from kfadapter_grpc.kfp.decoding import decode
from kfadapter_grpc.kfp.failures import Failure, KfpFailureError
from kfadapter_grpc.kfp.failures import Operation as Op
from kfadapter_grpc.kfp.transport import Request, Response

MAX_CACHED = 20_000
"""How many resources' namespaces are cached."""

_V2 = "/apis/v2beta1"
_PIPELINES, _RUNS, _EXPERIMENTS, _RECURRING_RUNS = "pipelines", "runs", "experiments", "recurringruns"
_RESOURCE = re.compile(rf"/apis/v\d\w*/({_PIPELINES}|{_RUNS}|{_EXPERIMENTS}|{_RECURRING_RUNS})/([^/:]+)([/:].*)?")
_LOOKUP = {
    _PIPELINES: Op.GET_PIPELINE,
    _RUNS: Op.GET_RUN,
    _EXPERIMENTS: Op.GET_EXPERIMENT,
    _RECURRING_RUNS: Op.GET_RECURRING_RUN,
}
_NAMED_BY_KFP = {_PIPELINES: "Pipeline", _RUNS: "Run", _EXPERIMENTS: "Experiment", _RECURRING_RUNS: "Job"}
_NOT_FOUND, _FORBIDDEN = 404, 403
_DENIED_IN = re.compile(r"ResourceAttributes\{Namespace:([^,}]*),")
"""The namespace in KFP's 403, which names what its user may not do."""

OPEN = frozenset({Op.HEALTH, Op.PROBE})
"""Operations that concern no resource."""
LISTS = {
    Op.LIST_PIPELINES: _PIPELINES,
    Op.LIST_EXPERIMENTS: _EXPERIMENTS,
    Op.LIST_RUNS: _RUNS,
    Op.LIST_RECURRING_RUNS: _RECURRING_RUNS,
}
"""Lists of resources, which are filtered."""
IN_PATH = frozenset(one for one in Op if one.about)
"""Operations on a resource whose id is in the path."""
IN_QUERY = {Op.CHEAP_VERSIONS: "resource_key.id", Op.UPLOAD_VERSION: "pipelineid"}
"""Operations on a pipeline whose id is in the query."""
BY_NAMESPACE = frozenset({Op.GET_BY_NAME, Op.CREATE_PIPELINE, Op.CREATE_EXPERIMENT})
"""Operations that name a namespace; without one they concern the shared one."""
BY_EXPERIMENT = frozenset({Op.CREATE_RUN, Op.CREATE_RECURRING_RUN})
"""Operations that create something in an experiment, from a pipeline."""


class _OwnerJson(msgspec.Struct):
    """The part of any resource that shows its namespace."""

    namespace: str = ""
    experiment_id: str = ""


class _HealthJson(msgspec.Struct):
    """KFP's health; every KFP reports whether it keeps namespaces apart."""

    multi_user: bool = True


class Namespaces:
    """Limits calls to the namespaces of their callers. Safe to use from many threads."""

    def __init__(self, send: Callable[[Op, Request, Call], Response]) -> None:
        self._send = send
        self._cache: OrderedDict[tuple[str, str], str | None] = OrderedDict()
        self._lock = threading.Lock()
        self._is_multi_user: bool | None = None

    def send(self, operation: Op, request: Request, call: Call, limits: Limits) -> Response:
        """Sends a request that the limits allow; lists still need `keep_visible`.

        Raises KfpFailureError as for an unknown id, or PermissionDeniedError if the caller's role does not suffice.
        """
        match = _RESOURCE.fullmatch(request.path)
        is_lookup = request.method == "GET" and operation in _LOOKUP.values() and request.path.startswith(_V2)
        if match and is_lookup and not match[3]:
            return self._read_visible(operation, request, call, limits, (match[1], match[2]))
        self.check(operation, request, call, limits)
        query = dict(request.query)
        is_listed = operation in LISTS and "experiment_id" not in query
        requested = self._effective_namespace(query.get("namespace", ""), call) if is_listed else ""
        if requested and not limits.can_see(requested):
            return Response(200, b"{}")
        response = self._send_hiding(operation, request, call)
        if operation is Op.GET_BY_NAME and not limits.can_see(decode(response.body, _OwnerJson).namespace):
            raise _unknown(operation, request)  # a single-user KFP ignores the requested namespace
        return response

    def check(self, operation: Op, request: Request, call: Call, limits: Limits) -> None:
        """Checks a request before it is sent; raises as `send` does."""
        query = dict(request.query)
        if operation in OPEN:
            return
        if operation in LISTS:
            if experiment_id := query.get("experiment_id", ""):
                self._ensure(operation, request, call, limits, (_EXPERIMENTS, _segment(experiment_id)))
        elif operation in IN_PATH and (match := _RESOURCE.fullmatch(request.path)):
            self._ensure(operation, request, call, limits, (match[1], match[2]))
        elif operation in IN_QUERY:
            self._ensure(operation, request, call, limits, (_PIPELINES, _segment(query[IN_QUERY[operation]])))
        elif operation is Op.GET_BY_NAME:
            if not limits.can_see(self._effective_namespace(query.get("namespace", ""), call)):
                raise _unknown(operation, request)
        elif operation in BY_NAMESPACE:
            requested = query.get("namespace", "") or str(_body(request).get("namespace", ""))
            limits.ensure(self._effective_namespace(requested, call))
        elif operation in BY_EXPERIMENT:
            self._check_creation(operation, request, call, limits)
        else:
            raise NotImplementedError(f"no rule for {operation}")

    def _check_creation(self, operation: Op, request: Request, call: Call, limits: Limits) -> None:
        body = _body(request)
        reference = cast("dict[str, str]", body.get("pipeline_version_reference") or {})
        if pipeline_id := reference.get("pipeline_id", ""):
            self._ensure(operation, request, call, limits, (_PIPELINES, _segment(pipeline_id)), is_read=True)
        if experiment_id := str(body.get("experiment_id", "")):
            self._ensure(operation, request, call, limits, (_EXPERIMENTS, _segment(experiment_id)))
        else:
            limits.ensure(self._effective_namespace(str(body.get("namespace", "")), call))

    def keep_visible(self, operation: Op, request: Request, listed: object, call: Call, limits: Limits) -> None:
        """Removes what is in other namespaces from a decoded list; its total is then unknown, -1."""
        kind, page = LISTS[operation], cast("Any", listed)
        items = page.items
        namespaces = [self._namespace_in(kind, item, call) for item in items]
        visible = [item for item, namespace in zip(items, namespaces, strict=True) if limits.can_see(namespace)]
        page.items = visible
        is_scoped = any(dict(request.query).get(name) for name in ("namespace", "experiment_id"))
        if len(visible) < len(items) or not (is_scoped or not any(namespaces)):
            page.total_size = -1

    def _send_hiding(self, operation: Op, request: Request, call: Call) -> Response:
        """Sends a request; what KFP refuses to show in a namespace that the limits hide is as unknown as all there."""
        try:
            return self._send(operation, request, call)
        except KfpFailureError as error:
            is_denied = error.failure.status == _FORBIDDEN and request.method == "GET"
            match = _DENIED_IN.search(error.failure.full_text) if is_denied else None
            if match and call.limits and not call.limits.can_see(match[1]):
                raise _unknown(operation, request) from error
            raise

    def _effective_namespace(self, namespace: str, call: Call) -> str:
        """The namespace that KFP uses if a request names one: a single-user KFP ignores it."""
        if namespace and self._is_multi_user is None:
            response = self._send(Op.HEALTH, Request("GET", f"{_V2}/healthz"), call)
            self._is_multi_user = decode(response.body, _HealthJson).multi_user
        return namespace if self._is_multi_user else ""

    # --- namespaces of resources ------------------------------------------------------------------------------------

    def _ensure(
        self,
        operation: Op,
        request: Request,
        call: Call,
        limits: Limits,
        resource: tuple[str, str],
        *,
        is_read: bool = False,
    ) -> None:
        try:
            namespace = self._namespace_of(*resource, call)
        except LookupError:
            raise _unknown(operation, request, *resource) from None
        if not limits.can_see(namespace):
            raise _unknown(operation, request, *resource)
        if request.method != "GET" and not is_read:
            limits.ensure(namespace)

    def _read_visible(
        self, operation: Op, request: Request, call: Call, limits: Limits, resource: tuple[str, str]
    ) -> Response:
        """Reads a resource, which shows its own namespace."""
        try:
            response, namespace = self._read(resource, operation, request, call)
        except LookupError:
            raise _unknown(operation, request, *resource) from None
        if not limits.can_see(namespace):
            raise _unknown(operation, request, *resource)
        return response

    def _namespace_of(self, kind: str, key: str, call: Call) -> str | None:
        """The namespace of a resource by its id; None if KFP knows none. Raises LookupError if it is missing."""
        with self._lock:
            if (kind, key) in self._cache:
                self._cache.move_to_end((kind, key))
                return self._cache[kind, key]
        request = Request("GET", f"{_V2}/{kind}/{key}")
        return self._read((kind, key), _LOOKUP[kind], request, call)[1]

    def _read(
        self, resource: tuple[str, str], operation: Op, request: Request, call: Call
    ) -> tuple[Response, str | None]:
        try:
            response = self._send_hiding(operation, request, call)
        except KfpFailureError as error:
            if error.failure.status != _NOT_FOUND:
                raise
            raise LookupError from error
        namespace = self._namespace_in(resource[0], decode(response.body, _OwnerJson), call)
        self._store(resource, namespace)
        return response, namespace

    def _namespace_in(self, kind: str, item: Any, call: Call) -> str | None:  # noqa: ANN401 - a record of any kind
        if kind in {_PIPELINES, _EXPERIMENTS}:
            return cast("str", item.namespace)
        try:
            return self._namespace_of(_EXPERIMENTS, _segment(item.experiment_id), call) if item.experiment_id else None
        except LookupError:
            return None  # runs outlive their experiment

    def _store(self, resource: tuple[str, str], namespace: str | None) -> None:
        with self._lock:
            self._cache[resource] = namespace
            if len(self._cache) > MAX_CACHED:
                self._cache.popitem(last=False)


def _segment(value: str) -> str:
    return quote(value, safe="")


def _body(request: Request) -> dict[str, object]:
    return cast("dict[str, object]", json.loads(request.body)) if isinstance(request.body, bytes) else {}


def _unknown(operation: Op, request: Request, kind: str = _PIPELINES, key: str = "") -> KfpFailureError:
    """The failure with which KFP reports an unknown id."""
    name = request.path.rpartition("/")[2]
    text = f"PipelineVersion {name}" if operation.about == "version" else f"{_NAMED_BY_KFP[kind]} {key or name}"
    return KfpFailureError(operation, Failure(_NOT_FOUND, f"{text} not found", f"{text} not found"), request=request)
