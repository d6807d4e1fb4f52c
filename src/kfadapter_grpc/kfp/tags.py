"""The adapter's own tags: from which bytes a version was made, and by which request.

They make uploads safe to repeat without any state in the adapter. A tag's value is limited to 63 characters, so the
SHA-256 is kept in base64url (43 characters), not in hex (64).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from kfadapter_grpc.contract.pipelines import RESERVED_TAG_PREFIX

SHA256 = RESERVED_TAG_PREFIX + "sha256"
"""The checksum of the file that a version was made from."""
REQUEST = RESERVED_TAG_PREFIX + "request"
"""The request id of the upload that made a version or a pipeline."""

ATTEMPT = RESERVED_TAG_PREFIX + "attempt"
"""Which attempt created a pipeline: shows, after an interrupted response, whether an empty one is ours."""


def encode_digest(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def digest_of(tags: Mapping[str, str]) -> str:
    """The checksum in a version's tags, in hex; empty if there is none."""
    try:
        return base64.urlsafe_b64decode(tags.get(SHA256, "") + "=").hex()
    except (binascii.Error, ValueError):
        return ""


def visible(all_tags: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in all_tags.items() if not key.startswith(RESERVED_TAG_PREFIX)}


def replaced(all_tags: Mapping[str, str], callers: Mapping[str, str]) -> dict[str, str]:
    """The callers' tags in place of those there were, with the adapter's own."""
    return {**callers, **{key: value for key, value in all_tags.items() if key.startswith(RESERVED_TAG_PREFIX)}}
