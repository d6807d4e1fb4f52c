from __future__ import annotations

import hashlib
import hmac
from datetime import date, timedelta

import pytest

from kfadapter_grpc.auth.tokens import (
    MAX_TOKENS,
    TokenEntry,
    TokenFileError,
    digest,
    new_token,
    parse_tokens,
    today,
    try_day,
)
from kfadapter_grpc.contract.call import Role

HASH = "sha256:" + "0a" * 32


def mistakes(text: str) -> str:
    """Reads an invalid file; returns the message."""
    with pytest.raises(TokenFileError) as caught:
        parse_tokens(text.encode())
    return str(caught.value)


def test_new_tokens_cannot_be_guessed() -> None:
    """A token has 256 random bits after a prefix that secret scanners can find; no two are alike."""
    made = {new_token() for _ in range(100)}
    assert len(made) == 100
    assert all(one.startswith("kfa_") and len(one) == len("kfa_") + 43 for one in made)


def test_hash_is_sha256() -> None:
    """The hash is the SHA-256 of the token's bytes, as computed by any tool."""
    assert digest("kfa_x") == hashlib.sha256(b"kfa_x").digest()


def test_a_line_is_read_as_it_is_written() -> None:
    """The server reads the line that the command line prints, for names in any script."""
    for token, entry in (
        ("a", TokenEntry("학습-관리자", Role.WRITER, digest("a"))),
        ("b", TokenEntry("ci@example/build:1", Role.READER, digest("b"), date(2099, 12, 31))),
    ):
        assert parse_tokens(entry.line().encode()).try_find(token) == entry


def test_file_with_comments() -> None:
    """Comments, blank lines, a byte order mark and any line ends are ignored."""
    line = TokenEntry("ci", Role.READER, digest("a"), date(2099, 1, 31)).line()
    tokens = parse_tokens(f"\ufeff# who may call\r\n\r\n{line} # until the move\r\n  \n".encode())
    assert len(tokens) == 1
    assert tokens.try_find("a") == TokenEntry("ci", Role.READER, digest("a"), date(2099, 1, 31))


def test_one_name_may_have_two_tokens() -> None:
    """While a token is being replaced, the old and the new one are both valid."""
    lines = [TokenEntry("ci", Role.READER, digest(token)).line() for token in ("old", "new")]
    known = parse_tokens("\n".join(lines).encode())
    assert [known.try_find(token) is not None for token in ("old", "new", "other")] == [True, True, False]


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("", "it holds no token; `kfadapter token NAME --role reader` makes one"),
        ("# nobody\n\n", "it holds no token"),
        ("ci reader", "line 1: it must hold name, role, hash and perhaps the last day"),
        (f"ci reader {HASH} 2099-01-01 x", "line 1: it must hold name, role, hash and perhaps the last day"),
        (f"\nci admin {HASH}", "line 2: the role must be reader or writer"),
        (f"ci Reader {HASH}", "line 1: the role must be reader or writer"),
        ("ci reader kfa_secret", "line 1: the hash must be sha256: and 64 hexadecimal digits"),
        (f"ci reader {HASH}0", "line 1: the hash must be"),
        (f"ci reader {HASH} 31.1.2099", "line 1: the last day must be a date, as 2027-01-31"),
        (f"ci reader {HASH} 2099-02-30", "line 1: the last day must be a date"),
        (f"ci reader {HASH}\nother writer {HASH}", "line 2: duplicate token"),
        (f"{'x' * 129} reader {HASH}", "line 1: the name must be up to 128 characters"),
        (f"c\x07i reader {HASH}", "line 1: the name must be"),
    ],
)
def test_wrong_file(text: str, output: str) -> None:
    """A mistake is reported with its line, and none of its content is shown."""
    reported = mistakes(text)
    assert reported.startswith(output)
    assert "kfa_secret" not in reported
    assert "0a0a" not in reported


def test_all_mistakes_are_reported() -> None:
    """Five mistakes are reported in full, the rest as a number."""
    assert mistakes("x\n" * 7).count("line ") == 5
    assert mistakes("x\n" * 7).endswith("; and 2 more")


def test_file_that_is_no_text() -> None:
    """A file in another encoding is rejected."""
    with pytest.raises(TokenFileError, match="it is not UTF-8 text"):
        parse_tokens(b"\xff\xfe")


def test_too_many_tokens() -> None:
    """The number of tokens is limited, as each call is compared with every one."""
    lines = [f"ci reader sha256:{number:064x}" for number in range(MAX_TOKENS + 1)]
    assert len(parse_tokens("\n".join(lines[1:]).encode())) == MAX_TOKENS
    assert mistakes("\n".join(lines)) == f"it holds {MAX_TOKENS + 1} tokens, and {MAX_TOKENS} are the most"


def test_every_token_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token is compared with all tokens, each in constant time, wherever it stands."""
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    lines = [TokenEntry(name, Role.READER, digest(name)).line() for name in "abc"]
    found = parse_tokens("\n".join(lines).encode()).try_find("a")
    assert found is not None
    assert found.name == "a"
    assert compared == [digest(name) for name in "abc"]


def test_last_day() -> None:
    """A token is valid to the end of its last day in UTC."""
    for days, expired in ((-1, True), (0, False), (1, False)):
        entry = TokenEntry("ci", Role.READER, b"", today() + timedelta(days=days))
        assert entry.is_expired() is expired
    assert not TokenEntry("ci", Role.READER, b"").is_expired()


def test_hash_is_not_shown() -> None:
    """The repr of a line holds no hash."""
    assert "0a0a" not in repr(TokenEntry("ci", Role.READER, bytes.fromhex("0a" * 32)))


@pytest.mark.parametrize("text", ["2027-1-1", "20270101", "2027-W01-1", "2027-01-01T00:00", "٢٠٢٧-٠١-٠١", ""])
def test_a_day_has_one_form(text: str) -> None:
    """A date is YYYY-MM-DD on every Python."""
    assert try_day(text) is None
    assert try_day("2027-01-01") == date(2027, 1, 1)
