"""An adapter with access rules, before a KFP with two namespaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.access.ways import Adapter, known_by

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adapter]:
    """The adapter, with a token for each caller of the matrix; no call changes anything."""
    with known_by("token-file", tmp_path_factory.mktemp("access")) as made:
        yield made
