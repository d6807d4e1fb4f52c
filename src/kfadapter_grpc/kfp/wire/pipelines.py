"""Pipelines and versions in KFP's JSON."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TypeVar

import msgspec

from kfadapter_grpc.contract.pipelines import RESERVED_TAG_PREFIX, Pipeline, PipelineVersion
from kfadapter_grpc.kfp import tags
from kfadapter_grpc.kfp.decoding import decode, known_time
from kfadapter_grpc.kfp.spec import summarize

T = TypeVar("T")

_SPEC_FOLLOWS = re.compile(rb',\s*"pipeline_spec"\s*:')
_TAGS = re.compile(
    rb'"tags"\s*:\s*(\{(?:[^"{}]|"(?:[^"\\]|\\.)*")*\})\s*\}(?:\s*$|\s*\]\s*,\s*"(?:total_size|next_page_token)")'
)


class PipelineJson(msgspec.Struct):
    """A pipeline. Before 2.17 there is no `name`: `display_name` is the unique one."""

    pipeline_id: str
    name: str = ""
    display_name: str = ""
    description: str = ""
    created_at: datetime | None = None
    namespace: str = ""
    tags: dict[str, str] = {}

    @property
    def has_name(self) -> bool:
        """Whether this KFP tells names and display names apart."""
        return bool(self.name)

    def to_domain(self) -> Pipeline:
        """As the rest of the program knows it."""
        return Pipeline(
            pipeline_id=self.pipeline_id,
            name=self.name or self.display_name,
            display_name=self.display_name,
            description=self.description,
            created_at=known_time(self.created_at),
            namespace=self.namespace,
            tags=visible(self.tags),
        )


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

    def to_domain(self, spec: bytes = b"") -> PipelineVersion:
        """As the rest of the program knows it, with a summary of the spec where one is given."""
        return PipelineVersion(
            pipeline_version_id=self.pipeline_version_id,
            pipeline_id=self.pipeline_id,
            name=self.name or self.display_name,
            display_name=self.display_name,
            description=self.description,
            created_at=known_time(self.created_at),
            tags=visible(self.tags),
            sha256=tags.digest_of(self.tags),
            code_source_url=self.code_source_url,
            spec=summarize(spec) if spec else None,
        )


class FullVersionJson(VersionJson):
    """A version with its spec, not decoded."""

    pipeline_spec: msgspec.Raw = msgspec.Raw()

    def summarized(self) -> PipelineVersion:
        """As the rest of the program knows it, with the summary of its spec."""
        return self.to_domain(bytes(self.pipeline_spec))


class PipelineListJson(msgspec.Struct):
    """A list of pipelines; an empty one is `{}`."""

    pipelines: list[PipelineJson] = []
    total_size: int = 0
    next_page_token: str = ""


class VersionListJson(msgspec.Struct):
    """A list of versions without their specs, which are skipped."""

    pipeline_versions: list[VersionJson] = []
    total_size: int = 0
    next_page_token: str = ""


class FullVersionListJson(msgspec.Struct):
    """A list of versions with their specs."""

    pipeline_versions: list[FullVersionJson] = []
    total_size: int = 0
    next_page_token: str = ""


class CheapVersionJson(msgspec.Struct):
    """A version in the v1beta1 list."""

    id: str
    name: str = ""
    description: str = ""
    created_at: datetime | None = None
    code_source_url: str = ""

    def to_domain(self, pipeline_id: str) -> PipelineVersion:
        """As the rest of the program knows it; this list has no display names and no tags."""
        return PipelineVersion(
            pipeline_version_id=self.id,
            pipeline_id=pipeline_id,
            name=self.name,
            description=self.description,
            created_at=known_time(self.created_at),
            code_source_url=self.code_source_url,
        )


class CheapVersionListJson(msgspec.Struct):
    """The v1beta1 list of versions: no specs."""

    versions: list[CheapVersionJson] = []
    total_size: int = 0
    next_page_token: str = ""


def decode_around_spec(head: bytes, tail: bytes, closing: bytes, kind: type[T]) -> tuple[T, dict[str, str]]:
    """Decodes an answer of which the middle was dropped: what stands before the first version's spec, and its tags.

    A spec may be 32 MiB, and the facts around it are all that is wanted. The key is found as bytes: inside a JSON text
    its opening quote would have a backslash before it, not a comma.

    Args:
        head: The beginning of the answer.
        tail: Its end.
        closing: What closes the structures that are open where the spec begins.
        kind: What to decode.

    Raises:
        KfpError: As for `decode`.
    """
    spec = _SPEC_FOLLOWS.search(head)
    found = _TAGS.search(tail)
    tags_json = found.group(1) if found else b"{}"
    return decode(head[: spec.start()] + closing if spec else head, kind), decode(tags_json, dict[str, str])


def visible(all_tags: dict[str, str]) -> dict[str, str]:
    """The tags that are the callers' own."""
    return {key: value for key, value in all_tags.items() if not key.startswith(RESERVED_TAG_PREFIX)}
