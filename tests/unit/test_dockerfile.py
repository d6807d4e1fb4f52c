from __future__ import annotations

from pathlib import Path

import pytest
from scripts.dockerfile import parse

from kfadapter_grpc.settings import Settings
from kfadapter_grpc.settings_sources import PREFIX

ROOT = Path(__file__).resolve().parents[2]
TEXT = """
# a comment
ARG IMAGE=x
FROM ${IMAGE} AS first
ENV A=1 \\
    # in the middle
    B="two words"
ENV PATH=/new:$PATH
FROM ${IMAGE}
COPY --from=first --chown=1:1 /a /b
HEALTHCHECK --interval=1s CMD ["program", "health"]
CMD ["serve"]
"""


def test_stages() -> None:
    """Each FROM begins a stage; what stands before the first one is left out."""
    first, last = parse(TEXT)
    assert (first.name, last.name) == ("first", "")
    assert [one.name for one in last.instructions] == ["COPY", "HEALTHCHECK", "CMD"]


def test_environment() -> None:
    """ENV lines go on over several lines, past comments, and can use what was set before."""
    assert parse(TEXT)[0].environment({"PATH": "/old"}) == {"PATH": "/new:/old", "A": "1", "B": "two words"}


def test_flags_and_exec_form() -> None:
    """Flags are told apart from the text, and commands are read as words."""
    last = parse(TEXT)[1]
    assert last.one("COPY").flags == {"from": "first", "chown": "1:1"}
    assert last.one("COPY").words == ["/a", "/b"]
    assert last.one("HEALTHCHECK").words == ["program", "health"]
    with pytest.raises(ValueError, match="0 USER"):
        last.one("USER")


def test_the_settings_of_the_container_exist() -> None:
    """Every KFADAPTER_ variable in the Dockerfile is a setting of the server."""
    final = parse((ROOT / "Dockerfile").read_text())[-1]
    names = {name.removeprefix(PREFIX).lower() for name in final.environment({"PATH": ""}) if name.startswith(PREFIX)}
    assert "listen" in names
    assert names <= set(Settings.model_fields)
