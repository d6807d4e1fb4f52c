"""Drawings are as they were reviewed."""

from __future__ import annotations

import pytest
from tests.graph.golden import FOLDER, pictures

PICTURES = dict(pictures())


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_as_they_were(name: str) -> None:
    """Every form of every pipeline is drawn as it was reviewed."""
    assert PICTURES[name] == (FOLDER / name).read_text("utf-8"), "look at it: python -m tests.graph.golden; git diff"


def test_no_picture_is_left_over() -> None:
    """Each file of the folder is drawn by a test."""
    assert {path.name for path in FOLDER.iterdir()} == set(PICTURES)
