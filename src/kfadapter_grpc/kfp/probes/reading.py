"""The probes that only read."""

from __future__ import annotations

import json
import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING

from kfadapter_grpc.kfp import wire
from kfadapter_grpc.kfp.decoding import decode
from kfadapter_grpc.kfp.probes.bench import TAG
from kfadapter_grpc.kfp.probes.probe import SAYS_NOTHING, CannotTellError, DiffersError
from kfadapter_grpc.kfp.rest import V2, ListQuery, segment

if TYPE_CHECKING:
    from kfadapter_grpc.kfp.probes.bench import Bench
    from kfadapter_grpc.kfp.rest import Predicate
    from kfadapter_grpc.kfp.transport import Answer


def names_and_display_names(bench: Bench) -> str:
    """Whether pipelines have a name besides their display name."""
    if not bench.sample.has_name:
        raise DiffersError("only display_name")
    return "name and display_name"


def lookup_by_name(bench: Bench) -> str:
    """Whether a pipeline is found by its name in one call."""
    pipeline = bench.sample.to_domain()
    found = bench.api.pipelines.get_pipeline_by_name(pipeline.name, pipeline.namespace, bench.call())
    if found.pipeline_id != pipeline.pipeline_id:
        raise DiffersError(f"another pipeline: {found.pipeline_id} instead of {pipeline.pipeline_id}")
    return "the same pipeline"


def cheap_list(bench: Bench) -> str:
    """Whether the v1beta1 list tells versions without their specs."""
    key = (("resource_key.type", "PIPELINE"), ("resource_key.id", bench.sample.pipeline_id))
    answer = bench.get("/apis/v1beta1/pipeline_versions", *key, ("page_size", "1"))
    _expect(answer, HTTPStatus.OK)
    listed = decode(answer.body, wire.CheapVersionListJson)
    if not listed.versions:
        raise CannotTellError("the pipeline to look at has no versions")
    if b'"pipelineInfo"' in answer.body or b"pipeline_spec" in answer.body:
        raise DiffersError("the specs come along")
    return f"{listed.total_size} versions, {len(answer.body)} bytes for the first"


def tag_filter(bench: Bench) -> str:
    """Whether lists can be filtered by a tag."""
    query = ListQuery(page_size=1, predicates=(_equals(f"tags.{TAG}", "no-such-value"),))
    found = bench.api.pipelines.list_pipelines(query, bench.namespace, bench.call()).pipelines
    if found:
        raise DiffersError("the filter is ignored")
    return "taken"


def name_filter(bench: Bench) -> str:
    """Whether pipelines can be filtered by their exact name."""
    query = ListQuery(page_size=1, predicates=(_equals("name", f"none-{uuid.uuid4().hex}"),))
    found = bench.api.pipelines.list_pipelines(query, bench.namespace, bench.call()).pipelines
    if found:
        raise DiffersError("the filter is ignored")
    return "taken"


def run_filter(bench: Bench) -> str:
    """Whether runs can be asked for that are in another state than the one that is known."""
    one: Predicate = {"operation": "IN", "key": "run_id", "string_values": {"values": [str(uuid.uuid4())]}}
    other: Predicate = {"operation": "NOT_EQUALS", "key": "state", "string_value": "PENDING"}
    query = ListQuery(page_size=1, predicates=(one, other))
    if bench.api.runs.list(query, "", _namespace_of_runs(bench), bench.call()).runs:
        raise DiffersError("the filter is ignored")
    return "taken"


def pages_of_200(bench: Bench) -> str:
    """Whether pages of 200 are taken, and larger ones are no error."""
    answer = bench.get(f"{V2}/pipelines", ("page_size", "1000000000"), *bench.scope)
    _expect(answer, HTTPStatus.OK)
    held = len(decode(answer.body, wire.PipelineListJson).pipelines)
    if held > _MAX_PAGE:
        raise DiffersError(f"{held} items on one page")
    return f"{held} items on one page"


def empty_list(bench: Bench) -> str:
    """Whether an empty list is an empty object."""
    nobody = json.dumps({"predicates": [_equals("name", f"none-{uuid.uuid4().hex}")]})
    answer = bench.get(f"{V2}/pipelines", ("filter", nobody), *bench.scope)
    _expect(answer, HTTPStatus.OK)
    if answer.body.strip() != b"{}":
        raise DiffersError(answer.body[:80].decode("utf-8", "replace"))
    return "{}"


def bad_page_token(bench: Bench) -> str:
    """Whether a page token that is none is refused."""
    return _expect(bench.get(f"{V2}/pipelines", ("page_token", "bm8gdG9rZW4="), *bench.scope), HTTPStatus.BAD_REQUEST)


def unknown_pipeline(bench: Bench) -> str:
    """Whether an unknown pipeline is 404."""
    return _expect(bench.get(f"{V2}/pipelines/{segment(str(uuid.uuid4()))}"), HTTPStatus.NOT_FOUND)


def unknown_run(bench: Bench) -> str:
    """Whether an unknown run is 404."""
    return _expect(bench.get(f"{V2}/runs/{segment(str(uuid.uuid4()))}"), HTTPStatus.NOT_FOUND)


def unknown_name(bench: Bench) -> str:
    """Whether an unknown name is 404."""
    return _expect(bench.get(f"{V2}/pipelines/names/none-{uuid.uuid4().hex}", *bench.scope), HTTPStatus.NOT_FOUND)


_MAX_PAGE = 200


def _expect(answer: Answer, status: HTTPStatus) -> str:
    """Tells the status in words, if it is this one."""
    if answer.status in SAYS_NOTHING:
        raise CannotTellError(f"HTTP {answer.status}")
    if answer.status != status:
        raise DiffersError(f"HTTP {answer.status}")
    return f"HTTP {answer.status}"


def _equals(key: str, value: str) -> Predicate:
    return {"operation": "EQUALS", "key": key, "string_value": value}


def _namespace_of_runs(bench: Bench) -> str:
    if bench.multi_user and not bench.namespace:
        raise CannotTellError("this KFP serves several users and lists runs of a namespace only; none is set")
    return bench.namespace
