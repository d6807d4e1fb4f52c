"""Bearer tokens, and the file that holds their hashes. Standard library only: the command line creates tokens with it.

A line of the file is `NAME ROLE sha256:HEX [LAST-DAY]`; text after `#` is a comment. The hash is a plain SHA-256:
salt and slowness protect passwords, which can be guessed; a token has 256 random bits.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from typing import TypeVar

from kfadapter_grpc.contract.call import Role
from kfadapter_grpc.contract.errors import listed

T = TypeVar("T")

PREFIX = "kfa_"
"""The prefix of every token, by which people and secret scanners recognize it."""
MAX_TOKENS = 1000
"""The maximum number of tokens in a file: each call compares with all of them, 0.1 µs each."""
_BYTES = 32
_ALGORITHM = "sha256:"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_NAME = re.compile(r"[^\s#]{1,128}")
_MAX_LISTED = 5


class TokenFileError(ValueError):
    """A token file is invalid; the message has the line numbers, without secrets."""


@dataclass(frozen=True, slots=True)
class TokenEntry:
    """One line of the file.

    Attributes:
        name: The owner of the token. A name may occur twice, for instance while a token is being replaced.
        last_day: The last day, in UTC, on which it is valid; None if it never expires.
    """

    name: str
    role: Role
    digest: bytes = field(repr=False)
    last_day: date | None = None

    def is_expired(self) -> bool:
        return self.last_day is not None and today() > self.last_day

    def line(self) -> str:
        """Formats it as a line of the file, without the line break."""
        last_day = [self.last_day.isoformat()] if self.last_day else []
        return " ".join([self.name, self.role.value, _ALGORITHM + self.digest.hex(), *last_day])


def today() -> date:
    return datetime.now(timezone.utc).date()


def new_token() -> str:
    return PREFIX + secrets.token_urlsafe(_BYTES)


def digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def cache_newest(cached: dict[bytes, T], digest: bytes, outcome: T, most: int) -> None:
    """Caches the outcome for a token, by its hash, and evicts the oldest of more than `most`."""
    cached.pop(digest, None)
    cached[digest] = outcome
    while len(cached) > most:
        del cached[next(iter(cached))]


def is_name(text: str) -> bool:
    """Whether a text is a valid name: up to 128 visible characters of any script, without `#`."""
    return _NAME.fullmatch(text) is not None and text.isprintable()


def try_day(text: str) -> date | None:
    """Parses a date, YYYY-MM-DD; None if invalid."""
    try:
        return date.fromisoformat(text) if _DAY.fullmatch(text) else None
    except ValueError:
        return None


class Tokens:
    def __init__(self, entries: tuple[TokenEntry, ...]) -> None:
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def expired(self) -> int:
        return sum(entry.is_expired() for entry in self._entries)

    def try_find(self, token: str) -> TokenEntry | None:
        """Returns the entry of a token, expired or not. Takes the same time for any token."""
        hashed, match = digest(token), None
        for entry in self._entries:
            if hmac.compare_digest(entry.digest, hashed):
                match = entry
        return match


def parse_tokens(data: bytes) -> Tokens:
    """Parses a token file. Raises TokenFileError if a line is invalid, or there are no tokens or too many."""
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise TokenFileError("it is not UTF-8 text") from None
    mistakes: list[str] = []
    entries: dict[bytes, TokenEntry] = {}
    for number, line in enumerate(lines, 1):
        columns = line.partition("#")[0].split()
        if not columns:
            continue
        try:
            entry = _entry(columns)
            if entry.digest in entries:
                raise TokenFileError("duplicate token")
            entries[entry.digest] = entry
        except TokenFileError as mistake:
            mistakes.append(f"line {number}: {mistake}")
    if mistakes:
        raise TokenFileError(listed(mistakes, _MAX_LISTED, "; "))
    if not entries:
        raise TokenFileError("it holds no token; `kfadapter token NAME --role reader` makes one, and a line for it")
    if len(entries) > MAX_TOKENS:
        raise TokenFileError(f"it holds {len(entries)} tokens, and {MAX_TOKENS} are the most")
    return Tokens(tuple(entries.values()))


def _entry(columns: list[str]) -> TokenEntry:
    if len(columns) not in (3, 4):
        raise TokenFileError("it must hold name, role, hash and perhaps the last day")
    name, role, hashed, *last_day = columns
    if not is_name(name):
        raise TokenFileError("the name must be up to 128 characters that can be seen")
    if role not in {Role.READER.value, Role.WRITER.value}:  # admins are for access rules
        raise TokenFileError("the role must be reader or writer")
    if not (hashed.startswith(_ALGORITHM) and _DIGEST.fullmatch(hashed[len(_ALGORITHM) :])):
        raise TokenFileError("the hash must be sha256: and 64 hexadecimal digits, as `kfadapter token` prints it")
    day = try_day(last_day[0]) if last_day else None
    if last_day and day is None:
        raise TokenFileError("the last day must be a date, as 2027-01-31")
    return TokenEntry(name, Role(role), bytes.fromhex(hashed[len(_ALGORITHM) :]), day)
