"""Labels are the last line of KFP's description; descriptions written by users stay unchanged."""

from __future__ import annotations

import pytest

from kfadapter_grpc.contract.labels import label_key_text, label_text, split_labels, with_labels


@pytest.mark.parametrize(
    "description", ["", "a", "두 줄\n설명", "ends with a break\n", "\n", 'kfadapter: {"a":"b"}', "x\nkfadapter: "]
)
@pytest.mark.parametrize("labels", [{}, {"team": "비전"}, {"b": '"\\\n', "a": ""}, {"kfadapter: ": "}"}])
def test_both_come_back_as_they_were(description: str, labels: dict[str, str]) -> None:
    """Any description and labels are the same after a round trip through KFP."""
    assert split_labels(with_labels(description, labels)) == (description, labels)


def test_what_stands_in_kfp() -> None:
    """Labels are one line of compact JSON after the text, sorted by key."""
    assert with_labels("설명", {"b": "2", "a": "하나"}) == '설명\nkfadapter: {"a":"하나","b":"2"}'
    assert with_labels("", {"a": "1"}) == 'kfadapter: {"a":"1"}'
    assert with_labels("only text", {}) == "only text"


@pytest.mark.parametrize(
    "text",
    [
        "kfadapter: hello",
        "kfadapter: [1]",
        'kfadapter: {"a": 1}',
        'kfadapter: {"a": "b"',
        "kfadapter: " + "[" * 100_000,
        'kfadapter:{"a":"b"}',
        'kfadapter: {"a":"b"}\nmore',
        ' kfadapter: {"a":"b"}',
        "",
    ],
)
def test_descriptions_written_by_hand(text: str) -> None:
    """Text that only looks like labels is a description."""
    assert split_labels(text) == (text, {})


@pytest.mark.parametrize(("key", "value"), [("team", "비전"), ('"', "\\"), ("a", "")])
def test_what_a_label_is_found_by(key: str, value: str) -> None:
    """The text that is searched for in KFP is in every description with this label."""
    assert label_text(key, value) in with_labels("x", {"0": "", key: value, "z": "z"})
    assert label_key_text(key) in with_labels("x", {"0": "", key: value, "z": "z"})
