"""The files that KFP 2.17.0 never answers, while a core of it is busy for ever, do not reach it."""

from __future__ import annotations

import pytest
from tests.transcripts import PIPELINES, load
from tests.unit.uploading import not_a_pipeline, receive, zipped

HELLO = (PIPELINES / "hello_world.yaml").read_bytes()
FILES = {
    "a flow mapping that is never closed": b"pipelineInfo: {name: x",
    "a good file cut in the middle of a line": HELLO[: len(HELLO) // 2],
    "a tab as indentation": b"pipelineInfo:\n\tname: x\n",
    "two colons on a line": b"a: b: c\n",
    "a NUL byte in a comment": HELLO + b"# \0\n",
    "not UTF-8 in a comment": HELLO + b"# \xff\xfe\n",
    "an unknown alias": b"a: *x\n",
    "an unclosed quote": b'pipelineInfo:\n  name: "x\n',
    "malformed YAML in a zip": zipped(("pipeline.yaml", b"{[}")),
    "malformed YAML as a version": b"{[}",
}
"""What was sent, by the recording's notes; long files are recorded by their length only."""


def test_every_file_that_hangs_is_tried() -> None:
    """The files below are those that were recorded as never answered."""
    assert set(FILES) == {step.note for step in load("hanging_uploads").steps if not step.was_answered}


@pytest.mark.parametrize("note", FILES)
def test_what_hangs_kfp_is_refused(note: str) -> None:
    """Each is refused as no pipeline before KFP is asked, and a good file is not."""
    assert not_a_pipeline(FILES[note])
    assert receive(HELLO).content == HELLO
