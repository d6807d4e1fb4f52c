"""The graph of tasks of whole pipelines, against what a person wrote down."""

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
    """Every pipeline tells its tasks as the outline beside it says, and names what is not understood."""
    expected = (PIPELINES / "outlines" / f"{path.stem}.txt").read_text(encoding="utf-8")
    assert outline(summary_of(served(path))) == expected


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_wire_keeps_all_of_it(path: Path) -> None:
    """A summary that went over the wire is the one that was made."""
    summary = summary_of(served(path))
    assert to_record(to_message(summary, pipeline_pb2.PipelineSpecSummary), SpecSummary) == summary
