from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kfadapter_grpc.contract.errors import KfpError, KfpTimeoutError
from kfadapter_grpc.kfp import json_ranges
from kfadapter_grpc.kfp.json_ranges import MAX_DEPTH, JsonReader, Range

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXTS = st.text(st.sampled_from('a"\\{}[]:,한\u2028😀 \n/'), max_size=12)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=30)
DOCUMENTS = st.dictionaries(TEXTS, VALUES, max_size=6)
PIECES = st.sampled_from(["{", "}", "[", "]", '"', ":", ",", "a", "1", "\\", '\\"', '{"a":', '"b"'])
SEPARATORS = st.sampled_from([(",", ":"), (" , ", " : "), ("\n,\r\n", "\t:\n")])


@pytest.fixture(params=[1, 3, 64 * 1024], ids="chunks of {}".format)
def chunk_bytes(request: pytest.FixtureRequest) -> Iterator[int]:
    """How many bytes the reader looks at at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_ranges, "CHUNK_BYTES", request.param)
        yield request.param


def ranges(text: bytes) -> dict[str, Range]:
    """Where the members of an object stand."""
    reader = JsonReader(io.BytesIO(text), lambda: None)
    found = {key: reader.value() for key in reader.members()}
    reader.end()
    return found


def values(text: bytes) -> dict[str, object]:
    """The members of an object, each loaded from where it stands."""
    return {key: json.loads(text[one.begin : one.end]) for key, one in ranges(text).items()}


@pytest.mark.slow
@pytest.mark.usefixtures("chunk_bytes")
@given(document=DOCUMENTS, separators=SEPARATORS, ascii_only=st.booleans())
def test_values_are_where_json_says(document: dict[str, object], separators: tuple[str, str], ascii_only: bool) -> None:
    """Every value is found exactly, whatever strings hold, however it is spaced, and wherever chunks end."""
    text = f" {json.dumps(document, separators=separators, ensure_ascii=ascii_only)}\n".encode()
    assert values(text) == json.loads(text)


@pytest.mark.slow
@pytest.mark.usefixtures("chunk_bytes")
@given(document=DOCUMENTS, cut=st.integers(1, 10_000))
def test_a_text_that_is_cut_is_an_error(document: dict[str, object], cut: int) -> None:
    """Wherever the text ends too early, that is told; it never looks like the whole."""
    text = json.dumps(document, ensure_ascii=False).encode()
    with pytest.raises(KfpError, match="no JSON"):
        ranges(text[: -1 - cut % len(text)])


@pytest.mark.usefixtures("chunk_bytes")
@given(text=st.lists(PIECES, max_size=30).map("".join))
@example(text='{"a":{]}')
@example(text='{"a":[}]}')
@example(text='{"a":{"b":[1,2}}')
def test_what_is_no_json_ends(text: str) -> None:
    """Garbage gives ranges or an error of ours; what is JSON is never refused."""
    try:
        expected = json.loads(text)
    except ValueError:
        expected = None
    try:
        found = ranges(text.encode())
    except KfpError:
        assert not isinstance(expected, dict)
    else:
        assert expected is None or list(found) == list(expected)


@pytest.mark.usefixtures("chunk_bytes")
def test_of_a_key_that_comes_twice_the_last_counts() -> None:
    r"""As for json.loads and for Go; a key may be written with escapes (`\u0061`)."""
    text = rb'{"a": {"b": 1}, "\u0061": [2, "\\"], "c": null}'
    assert values(text) == json.loads(text) == {"a": [2, "\\"], "c": None}


@pytest.mark.usefixtures("chunk_bytes")
@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"", "'{' is missing"),
        (b"[]", "'{' is missing"),
        (b'{"a": 1} x', "something follows"),
        (b'{"a" 1}', "':' is missing"),
        (b"{a: 1}", "no key"),
        (b'{"a": 1,}', "no key"),
        (b'{"a": 1 "b": 2}', "'}' is missing"),
        (b'{"a": nul}', "no value"),
        (b'{"a": ' + b"1" * 3000 + b"}", "no value"),
        (b'{"\\x": 1}', "no value"),
        (b'{"a": {"b": "\xff"}}', "not UTF-8"),
        (b'{"a": {"b": "x\ny"}}', "control character"),
    ],
)
def test_faults_are_told(text: bytes, fault: str) -> None:
    """What is wrong with an answer is said in words."""
    with pytest.raises(KfpError, match=fault) as caught:
        ranges(text)
    assert fault in caught.value.metadata["fault"]


def test_nesting_is_bounded() -> None:
    """As deep as allowed is fine; brackets beyond that are an error, not memory."""
    text = b'{"a": ' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}"
    assert ranges(text)["a"].end == len(text) - 1
    with pytest.raises(KfpError, match="nested deeper"):
        ranges(b'{"a": ' + b"[" * 1_000_000)


def test_large_values_are_passed_whole() -> None:
    """Values of many chunks, deep and flat, end where they end."""
    deep: object = 1
    for number in range(300):
        deep = [deep] if number % 3 else {"a\\": deep, '"': "}"}
    document = {"x": [{"a": [1, {}, '"}']}] * 20_000, "y": '\\"]' * 50_000, "z": [deep] * 200, "end": 1}
    assert values(json.dumps(document).encode()) == document


def test_members_of_an_inner_object() -> None:
    """An object can be entered instead of being passed as a whole."""
    text = b'{"a": 1, "b": {"c": [2], "d": {}}, "e": 3}'
    reader = JsonReader(io.BytesIO(text), lambda: None)
    found: dict[str, bytes] = {}
    for key in reader.members():
        if key == "b":
            inner = {name: reader.value() for name in reader.members()}
            found.update({name: text[one.begin : one.end] for name, one in inner.items()})
        else:
            reader.value()
    reader.end()
    assert found == {"c": b"[2]", "d": b"{}"}


def test_reading_can_be_ended() -> None:
    """What is called before each chunk may end it, as a deadline does."""

    def proceed() -> None:
        raise KfpTimeoutError("over")

    with pytest.raises(KfpTimeoutError):
        JsonReader(io.BytesIO(b"{}"), proceed).peek()
