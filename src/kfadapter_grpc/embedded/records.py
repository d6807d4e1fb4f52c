"""What the store keeps, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class NewPipeline:
    """A pipeline to be made."""

    name: str
    display_name: str
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NewVersion:
    """A version to be made.

    Attributes:
        spec: the specification as compact JSON text, as KFP serves it.
    """

    name: str
    display_name: str
    spec: str
    description: str = ""
    code_source_url: str = ""
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pipeline:
    """A stored pipeline.

    Attributes:
        created_at: seconds since 1970, as KFP keeps them.
    """

    id: str
    name: str
    display_name: str
    description: str
    created_at: int
    tags: dict[str, str]


@dataclass(frozen=True)
class Version:
    """A stored version, without its specification, which may be large.

    Attributes:
        created_at: seconds since 1970, as KFP keeps them.
    """

    id: str
    pipeline_id: str
    name: str
    display_name: str
    description: str
    code_source_url: str
    created_at: int
    tags: dict[str, str]
