"""KFP's JSON of what the store keeps: proto3 JSON, which leaves out what is empty."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .pages import Page
    from .records import Pipeline, Version


def pipeline_body(pipeline: Pipeline) -> dict[str, object]:
    """A pipeline in v2beta1."""
    return without_empty(
        pipeline_id=pipeline.id,
        display_name=pipeline.display_name,
        name=pipeline.name,
        description=pipeline.description,
        created_at=rfc3339(pipeline.created_at),
        tags=pipeline.tags,
    )


def version_body(version: Version, spec: str) -> str:
    """A version in v2beta1, as JSON text; the spec, which is JSON text already, goes in as it is, before the tags."""
    fields = without_empty(
        pipeline_id=version.pipeline_id,
        pipeline_version_id=version.id,
        display_name=version.display_name,
        name=version.name,
        description=version.description,
        created_at=rfc3339(version.created_at),
        code_source_url=version.code_source_url,
    )
    tags = f',"tags":{to_json(dict(version.tags))}' if version.tags else ""
    return f'{to_json(fields)[:-1]},"pipeline_spec":{spec}{tags}}}'


def v1beta1_version_body(version: Version) -> dict[str, object]:
    """A version in v1beta1: no spec, no display name and no tags."""
    owner = {"key": {"type": "PIPELINE", "id": version.pipeline_id}, "relationship": "OWNER"}
    return without_empty(
        id=version.id,
        name=version.name,
        created_at=rfc3339(version.created_at),
        code_source_url=version.code_source_url,
        resource_references=[owner],
        description=version.description,
    )


def list_body(name: str, items: list[dict[str, object]], page: Page[object]) -> dict[str, object]:
    """A page of a list; an empty one has no array."""
    return {**({name: items} if items else {}), **list_tail(page.total_size, page.next_page_token)}


def streamed_list(name: str, items: Iterable[str], page: Page[object]) -> Iterator[str]:
    """The same of items that are JSON texts, one at a time: many large ones are not held at once."""
    separator = f'{{"{name}":['
    for item in items:
        yield separator + item
        separator = ","
    start = "]," if separator == "," else "{"
    yield start + to_json(list_tail(page.total_size, page.next_page_token))[1:]


def list_tail(total_size: int, next_page_token: str) -> dict[str, object]:
    """The fields after the items of a list."""
    return without_empty(total_size=total_size, next_page_token=next_page_token)


def to_json(value: object) -> str:
    """JSON text in UTF-8 and without spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def without_empty(**fields: object) -> dict[str, object]:
    """The fields that proto3 JSON writes."""
    return {name: value for name, value in fields.items() if value}


def rfc3339(seconds: int) -> str:
    """A moment as KFP writes it; 0 is how it says "not yet"."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat().replace("+00:00", "Z")  # `%Y` does not pad years
