"""KFP's rules for tags."""

from __future__ import annotations

from .texts import sound_text

_MAX_TAGS = 20
_MAX_LENGTH = 63


def complaint(tags: dict[str, str]) -> str:
    """What KFP has against these tags; empty where it has nothing."""
    if len(tags) > _MAX_TAGS:
        return f"number of tags ({len(tags)}) exceeds maximum of {_MAX_TAGS} per entity"
    for key, value in tags.items():
        if not key:
            return "tag key cannot be empty"
        if "." in key:
            return f"tag key \"{key}\" must not contain '.' character"
        if len(key) > _MAX_LENGTH:
            return f'tag key "{key}" exceeds maximum length of {_MAX_LENGTH} characters'
        if len(value) > _MAX_LENGTH:
            return f'tag value "{value}" for key "{key}" exceeds maximum length of {_MAX_LENGTH} characters'
    return ""


def try_tags(value: object) -> dict[str, str] | None:
    """A JSON value as tags, if it is an object of texts."""
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        return None
    return {sound_text(key): sound_text(each) for key, each in value.items()}
