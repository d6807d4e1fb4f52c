"""Texts that are checked without parsing."""

from __future__ import annotations

import io
from contextlib import closing

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.transcripts import PIPELINES
from tests.unit.uploading import not_a_pipeline, receive

from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.errors import InvalidPipelineFileError
from kfadapter_grpc.upload import text as upload_text
from kfadapter_grpc.upload.syntax import check_syntax
from kfadapter_grpc.upload.text import CheckedText, is_plain_yaml

HELLO = (PIPELINES / "hello_world.yaml").read_text("utf-8")
_LINES = HELLO.splitlines(keepends=True)
_SNIPPETS = st.sampled_from(
    [
        *"*&!%?[]{}:,-|>'\"#\\/@`~ \n\tx\x85\u2028한",
        *(
            "- ",
            ": ",
            ": *a",
            ": &a x",
            "? ",
            "[a]: b",
            "{}",
            "[]",
            "{} \n",
            "---\n",
            "--- ",
            "...\n",
            "\\/",
            "%YAML 1.2",
        ),
        *("a: b\n", "- c\n", "  d: e\n", "'q'", '"q"', ": |\n", ": >-\n", "<<: *x", "!!str ", "!t", " # c\n", "\n\n"),
    ]
)
_MADE = st.lists(st.one_of(_SNIPPETS, st.sampled_from(_LINES)), max_size=12).map("".join)
_SPOILT = st.tuples(st.integers(0, len(HELLO)), _SNIPPETS, st.integers(0, 3)).map(
    lambda spot: HELLO[: spot[0]] + spot[1] + HELLO[spot[0] + spot[2] :]
)


class _Pieces:
    """A text that arrives in pieces of one size."""

    def __init__(self, content: str, size: int) -> None:
        self._content = io.BytesIO(content.encode())
        self._size = size

    def read(self, size: int, /) -> bytes:
        return self._content.read(min(size, self._size))


def _plain(content: str) -> bool:
    """Whether the fast check accepts a text."""
    return is_plain_yaml(io.BytesIO(content.encode()), Call("test", 60))


def _whole(content: str) -> bool:
    """Whether the full check accepts a text."""
    with closing(CheckedText(io.BytesIO(content.encode()), Call("test", 60))) as text:
        try:
            check_syntax(text, Call("test", 60))
        except InvalidPipelineFileError:
            return False
        return True


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(st.one_of(_MADE, _MADE.map("a: b\n".__add__), _SPOILT))
@example("a:\n- b\n-\t*c\n")
@example("a: 'x\n *b'\nc: *d\n")
@example("a: b\n---\nc\n")
@example("a: b\n---\n- c\n")
@example("a: b\n...\n%YAML 1.2\n---\nc: d\n")
@example("a: b\n- \n-   ? c\n")
@example("a: |\n  *b\nc: *d")
@example('a: "b\\\n  *c"\n')
@example("a: b\n'c':*d\n")
@example("a:\n  [b, 'c?d', e?f]")
@example("a: []\n  : b\n")
def test_the_fast_check_is_no_laxer(content: str) -> None:
    """A text that passes the fast check passes the full check too."""
    assert _whole(content) or not _plain(content)


@pytest.mark.parametrize("name", ["hello_world", "train_and_report", "sleeps", "fails_with_exit_handler"])
def test_compiled_pipelines_are_plain(name: str) -> None:
    """Output of kfp's compiler passes the fast check, with its leading comment, and in pieces of any size."""
    content = (PIPELINES / f"{name}.yaml").read_text("utf-8")
    assert _plain(content)
    for size in (1_000, 4_001, 16_384):
        assert is_plain_yaml(_Pieces(content, size), Call("test", 60))


@pytest.mark.parametrize(
    "part",
    [
        *(
            "*x",
            "&x y",
            "!t y",
            "[y]",
            "{y: z}",
            "? y",
            "%y",
            "\t*x",
            "y\n--- z",
            "y\n...",
            "y\n---\n- z",
            '"\\/"',
            "y\rz: 1",
        ),
        *("y\u2028z", "- " * 201 + "y"),
    ],
)
@pytest.mark.parametrize("before", ["k: ", "k:\n  ", "k:\n- ", "k:\n  - - "])
def test_doubts(before: str, part: str) -> None:
    """A text fails the fast check if a value begins with what KFP's parser may read differently than libyaml."""
    assert not _plain(f"a: 1\n{before}{part}\nb: 2\n")


def test_a_doubt_at_the_end() -> None:
    """A text that fails the fast check after many pieces is parsed from its beginning."""
    start = HELLO.replace("root:", "# a comment\nroot:") + "x:\n" + "- some text\n" * 20_000
    assert receive((start + "y: &a 1\nz: *a\n").encode()).size > 200_000
    assert "'*b' has no anchor" in not_a_pipeline((start + "y: &a 1\nz: *b\n").encode())


def test_one_long_plain_text_at_a_time() -> None:
    """While a long text is in the fast check, another one gets the full check, which limits lengths."""
    content = HELLO + "x:\n" + "- some text\n" * 100_000
    assert _plain(content)
    with upload_text._long_text_lock:
        assert not _plain(content)
        assert receive(content.encode()).size == len(content.encode())
    assert _plain(content)
