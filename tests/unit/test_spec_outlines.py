"""The graph of tasks of whole pipelines, compared with outlines written by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.transcripts import PIPELINES
from tests.unit.spec_outline import outline, served, summary_of

from kfadapter.v1 import pipeline_pb2
from kfadapter_grpc.codec import to_message, to_record
from kfadapter_grpc.contract.spec import SpecSummary

if TYPE_CHECKING:
    from pathlib import Path

FILES = sorted([*PIPELINES.glob("*.yaml"), *(PIPELINES / "graphs").glob("*.yaml")])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_outlines(path: Path) -> None:
    """Every pipeline has the tasks of the outline beside it, and the unknown parts."""
    expected = (PIPELINES / "outlines" / f"{path.stem}.txt").read_text(encoding="utf-8")
    assert outline(summary_of(served(path))) == expected


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_wire_keeps_all_of_it(path: Path) -> None:
    """A summary is unchanged after a round trip through a message."""
    summary = summary_of(served(path))
    assert to_record(to_message(summary, pipeline_pb2.PipelineSpecSummary), SpecSummary) == summary
