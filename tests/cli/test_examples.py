from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from kfadapter_grpc.cli.pipeline_file import kfp_is_installed

if TYPE_CHECKING:
    from tests.cli.conftest import Kfadapter

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.skipif(not kfp_is_installed(), reason="kfp is not installed")
@pytest.mark.parametrize("name", ["train", "train_v2"])
def test_an_example_is_what_its_source_compiles_to(name: str, kfadapter: Kfadapter) -> None:
    """The shipped YAML is current: compiling its source gives the same graph and parameters."""
    ended = kfadapter("payload", str(EXAMPLES / f"{name}.py"))
    assert ended.err == ""
    chunks = [json.loads(line)["chunk"] for line in ended.out.splitlines()[1:]]
    made = yaml.safe_load(b"".join(map(base64.b64decode, chunks)))
    shipped = yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8"))
    for part in ("pipelineInfo", "components", "root", "schemaVersion"):
        assert made[part] == shipped[part]


def test_the_second_version_has_one_more_parameter() -> None:
    """The demo's claim about the two versions is true: the second has one more parameter."""
    first, second = (
        set(yaml.safe_load((EXAMPLES / name).read_text(encoding="utf-8"))["root"]["inputDefinitions"]["parameters"])
        for name in ("train.yaml", "train_v2.yaml")
    )
    assert second - first == {"patience"}
    assert first < second
