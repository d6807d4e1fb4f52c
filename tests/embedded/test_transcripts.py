from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.transcripts import Replayer, load

if TYPE_CHECKING:
    from kfadapter_grpc.embedded.process import EmbeddedKfp


@pytest.mark.parametrize("name", ["pipelines", "versions", "bad_uploads", "seams"])
def test_replay(kfp: EmbeddedKfp, name: str) -> None:
    """The embedded KFP answers a recorded scenario as KFP did, step by step, but for the steps about runs."""
    transcript = load(name)
    replayer = Replayer(kfp.url, transcript)
    found = [
        f"{name} step {step.number} ({step.note}){line}"
        for step in transcript.steps
        if "/runs" not in step.path
        for line in replayer.differences(step)
    ]
    assert not found, "\n".join(found)
