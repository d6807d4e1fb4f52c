from __future__ import annotations

import io
import json

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from kfadapter_grpc.kfp.downloads import YamlSafe

UNSAFE = "\x7f\x80\x85\x9f\u2028\u2029\ufeff\ufffe\uffff"
CHARACTERS = st.sampled_from(UNSAFE + 'a"\\ 한é\xa0\u2027\u2030\uf000\ufffd😀\n') | st.characters(codec="utf-8")
TEXTS = st.text(CHARACTERS, max_size=30)


def safe(data: bytes, step: int = 7) -> bytes:
    """All bytes of the stream."""
    stream = YamlSafe(io.BytesIO(data))
    pieces = list(iter(lambda: stream.read(step), b""))
    assert all(len(piece) == step for piece in pieces[:-1])
    return b"".join(pieces)


@given(texts=st.lists(TEXTS, max_size=5), step=st.integers(1, 40))
@example(texts=[UNSAFE], step=1)
def test_the_same_as_json_and_as_yaml(texts: list[str], step: int) -> None:
    """Any string, split anywhere, gives the same JSON, and the same value when read as YAML."""
    data = json.dumps({"x": texts}, ensure_ascii=False).encode()
    reported = safe(data, step)
    assert json.loads(reported) == {"x": texts}
    assert yaml.safe_load(reported) == {"x": texts}


@pytest.mark.parametrize("data", [b"", b"{}", '{"값": "\\u003c é 😀"}'.encode() * 100])
def test_what_is_safe_stays_as_it_is(data: bytes) -> None:
    """Other texts are unchanged."""
    assert safe(data) == data


@pytest.mark.parametrize("end", [b"\xc2", b"\xe2", b"\xe2\x80", b"\xef", b"\xef\xbf"])
def test_a_character_that_is_cut_at_the_end_is_not_lost(end: bytes) -> None:
    """All bytes are returned, including those that are not UTF-8."""
    assert safe(b"abc" + end) == b"abc" + end
