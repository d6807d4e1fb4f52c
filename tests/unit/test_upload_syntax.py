from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.uploading import not_a_pipeline, receive, refused

from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.errors import InvalidPipelineFileError, KfpTimeoutError
from kfadapter_grpc.upload import text as upload_text
from kfadapter_grpc.upload.text import CheckedText

MIB = 1 << 20


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0", "a PNG image"),
        (b"\xff\xd8\xff\xe0", "a JPEG image"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"\x7fELF\x02", "an ELF program"),
        (b"x" * 257 + b"ustar\x0000", "an uncompressed tar archive"),
        (b"MZ\x90\0", "binary data"),
        (b"<!DOCTYPE html>\n<html>", "an HTML or XML page"),
        (b"#!/usr/bin/env python\nfrom kfp import dsl\n", "a Python program"),
    ],
)
def test_well_known_files(content: bytes, what: str) -> None:
    """A file of another format is rejected with what it looks like, and what to upload instead."""
    message = not_a_pipeline(content)
    assert f"This looks like {what}" in message
    assert "upload the YAML or JSON" in message


@pytest.mark.parametrize("bom", ["", "\ufeff"], ids=["no BOM", "BOM"])
@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("utf-16-le", "UTF-16, little-endian"),
        ("utf-16-be", "UTF-16, big-endian"),
        ("utf-32-le", "UTF-32, little-endian"),
        ("utf-32-be", "UTF-32, big-endian"),
    ],
)
def test_other_encodings(encoding: str, name: str, bom: str) -> None:
    """A text in UTF-16 or UTF-32, with or without a byte order mark, is rejected with the name of its encoding."""
    message = not_a_pipeline((bom + "pipelineInfo: {이름: 값}").encode(encoding))
    assert f"text in {name}" in message
    assert "UTF-8" in message


@pytest.mark.parametrize(
    "content", [b"\n", b"  \n \n", b"# only a comment\n", b"---\n", b"---\n---\nnull\n", b"\xef\xbb\xbf"]
)
def test_blank_files(content: bytes) -> None:
    """A file without content is rejected."""
    assert "empty" in not_a_pipeline(content)


@pytest.mark.parametrize(
    ("content", "line", "column"),
    [
        (b"a: [}", 1, 5),
        (b"a: 1\nb: [1,\n", 3, 1),
        (b'{"a": 1,\n "b" 2}', 2, 6),
        (b"a:\n\tb: 1", 2, 1),
        ("이름: 'x\n".encode(), 2, 1),
        (b"a: 1\nb: \x07\n", 2, 4),
        ("a: 1\n한국: ".encode() + b"\x1b", 2, 5),
        ("a: 1\n한국: ".encode() + b"\xff", 2, 5),
        (b"a: 1\nb: \xe2\x82", 2, 4),
        ("a: 1\nb: x\ufeffy".encode(), 2, 5),
        (b"- a\n- b\n", 1, 1),
        (b"hello", 1, 1),
        (b"a: 1\n--- [b]\n", 2, 5),
    ],
)
def test_place_of_a_fault(content: bytes, line: int, column: int) -> None:
    """A syntax error is reported with its line and column, both counted from 1."""
    error = refused(content, InvalidPipelineFileError)
    assert error.metadata == {"line": str(line), "column": str(column)}
    assert error.message.startswith(f"Line {line}, column {column}: ")


@pytest.mark.parametrize("length", [0, 1, 5, 16383, 16384, 16385, 40000])
def test_place_behind_many_bytes(length: int) -> None:
    """The position is correct wherever the text is split on its way to the parser."""
    error = refused(b"a: 1\n# " + "ä".encode() * length + b"\x01", InvalidPipelineFileError)
    assert error.metadata == {"line": "2", "column": str(length + 3)}


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"%YAML 1.2\n---\na: 1\n", "remove the line `%YAML`"),
        (b"a: *b\n", "'*b' has no anchor"),
        (b"a: &b 1\n---\nc: *b\n", "'*b' has no anchor"),
        (b'{"a": "b\\/c"}', r"the escape `\/`"),
        (b'{"a": "b\\\\\\/c"}', r"the escape `\/`"),
        (b"args: [curl, http://x/?a=b]\n", "put it into quotes"),
        (b'{"a": !1, "b": 2}', "has no value"),
        (b"? {a: 1}\n: 2\n", "key of a mapping"),
        (b"a: &b c\n*b : 2\n", "key of a mapping"),
        (b'{"a": "\\ud83d\\ude00"}', "as they are, not as two"),
    ],
)
def test_what_kfp_cannot_read(content: bytes, hint: str) -> None:
    """What libyaml accepts but KFP's parser rejects, or hangs on, is rejected with a hint on what to write instead."""
    assert hint in not_a_pipeline(content)


@pytest.mark.parametrize(
    "content",
    [
        b"%YAML 1.1\n---\na: 1\n",
        b"a: &b 1\nc: *b\n",
        b'a: "b\\\\/c"\n',
        b"a: 'sed s/x/\\/y/'\nb: |\n  \\/\nc: \"d\"\n",
        b"a: what? [now]\n",
        b"a: ['http://x/?a=b', \"?\"]\n",
        b"base: &b {x: 1}\nother:\n  <<: *b\n",
        b"---\n# nothing\n---\na: 1\n---\n",
        b"a: 1\r\nb:\r\n- 2\r\n",
        "이름: 값\nb: \U0001f600\n".encode(),
        b"? a\n: b\n",
        b"a: !!str\nb: {c: !!str d, e: }\n",
    ],
)
def test_what_kfp_can_read(content: bytes) -> None:
    """Unusual YAML that KFP reads is accepted."""
    assert receive(content).content == content


@pytest.mark.slow
@given(st.integers(0, 70), st.integers(1, 9))
def test_escaped_slash_at_any_cut(padding: int, backslashes: int) -> None:
    r"""Only an odd number of backslashes before a slash escapes it, also if the text is split in between."""
    content = b'{"a": "' + b"x" * (16384 - padding) + b"\\" * backslashes + b'/"}'
    if backslashes % 2:
        assert "escape" in not_a_pipeline(content)
    else:
        assert receive(content).content == content


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"a: &a x\nb:\n" + b"- *a\n" * 1_000_000, "100000 anchors and aliases"),
        (b"a:\n" + b"".join(b"- &a%d x\n" % number for number in range(100_001)), "100000 anchors and aliases"),
        (b"a: " + b"[" * 100_000, "nested deeper than 1000"),
        (b"a:\n " + b"- " * 100_000, "nested deeper than 1000"),
        (b'{"a":' * 100_000, "nested deeper than 1000"),
        (b"a: " + b"[" * 900 + b"[]," * 200_000, "nested too deeply too often"),
        (b"".join(b"%%TAG !%d! x\n" % number for number in range(100_000)) + b"---\na: 1\n", "begin with `%`"),
        (b"a: '" + b"\\/" * 200_000 + b"'", "more than 100000"),
    ],
    ids=["aliases", "anchors", "flow depth", "block depth", "JSON depth", "climbing", "directives", "slashes"],
)
def test_bombs(content: bytes, hint: str) -> None:
    """Texts made to overload a parser are rejected long before their end."""
    assert hint in not_a_pipeline(content)


def test_endless_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text with more parts than a pipeline can have is rejected, so that the time of a check is bounded."""
    monkeypatch.setattr("kfadapter_grpc.upload.syntax.MAX_EVENTS", 2_000)
    assert "parts" in not_a_pipeline(b"a: [" + b"1," * 4_000 + b"]")
    receive(b"a: [" + b"1," * 900 + b"]")


def test_allowed_depth() -> None:
    """A text nested 1000 levels deep is still read, without recursion."""
    receive(b"a: " + b"[" * 999 + b"]" * 999)


def test_one_long_token_at_a_time() -> None:
    """Texts with a very long token wait for one another, within their deadlines."""
    content = b"a: " + b"x" * (2 * MIB)
    with upload_text._long_token_lock, pytest.raises(KfpTimeoutError):
        receive(content, call=Call("test", 0.2))
    assert receive(content).content == content
    assert not upload_text._long_token_lock.locked()


def test_faults_of_the_stream() -> None:
    """A fault while the parser reads is raised unchanged, and the text ends there."""

    class Broken:
        def read(self, size: int, /) -> bytes:
            raise OSError(size, "broken")

    text = CheckedText(Broken(), Call("test", 60))
    assert text.read() == b""
    with pytest.raises(OSError, match="broken"):
        text.raise_failure()


def test_safe_quotes() -> None:
    """What a message quotes from the file is short and has no control characters."""
    message = not_a_pipeline(("x\u202e" + "y" * 500).encode())
    assert "'x\\u202e" in message
    assert len(message) < 200
