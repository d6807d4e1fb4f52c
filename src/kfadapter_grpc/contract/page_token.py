"""Page tokens: the repository's own token, bound to the listing that it came from.

base64url of a hash of the listing (method, filters, order) and the repository's token. They are not signed, so any
replica reads them; a token of another listing is told from its hash.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from kfadapter_grpc.contract.errors import FieldViolation, InvalidPageTokenError

_HASH_BYTES = 8
_MAX_CHARACTERS = 16 * 1024


def encode(token: str, listing: bytes) -> str:
    """Makes the token that a caller gets; empty at the end of the listing."""
    if not token:
        return ""
    return base64.urlsafe_b64encode(_hash(listing) + token.encode()).decode().rstrip("=")


def decode(page_token: str, listing: bytes) -> str:
    """Reads the repository's token out of a caller's.

    Raises:
        InvalidPageTokenError: It is garbled, or of another listing.
    """
    if not page_token:
        return ""
    try:
        if len(page_token) > _MAX_CHARACTERS:
            raise ValueError
        raw = base64.b64decode(page_token + "=" * (-len(page_token) % 4), altchars=b"-_", validate=True)
        token = raw[_HASH_BYTES:].decode()
    except (ValueError, binascii.Error) as error:
        raise _invalid("it is garbled") from error
    if not token:
        raise _invalid("it is garbled")
    if raw[:_HASH_BYTES] != _hash(listing):
        raise _invalid("it came from a listing with another method, filter, order or pipeline")
    return token


def _hash(listing: bytes) -> bytes:
    return hashlib.sha256(listing).digest()[:_HASH_BYTES]


def _invalid(why: str) -> InvalidPageTokenError:
    text = f"the page token is not one of this listing: {why}; start again without a token"
    return InvalidPageTokenError(text, violations=[FieldViolation("page_token", text)])
