"""Why pipelines are not run by the kfp SDK's own local runner: if a test fails here, one reason is obsolete."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kfadapter_embedded.runner.environment import make_overlay

SHARED = Path(__file__).parents[1] / "data" / "pipelines"
SOURCE = Path(__file__).with_name("runner_pipelines.py")

KFP_LOCAL = """
import sys
from google.protobuf import json_format
from kfp import local
from kfp.local import pipeline_orchestrator
from kfp.pipeline_spec import pipeline_spec_pb2
spec = json_format.Parse(open(sys.argv[1]).read(), pipeline_spec_pb2.PipelineSpec())
local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=sys.argv[2])
try:
    print("gave", pipeline_orchestrator.run_local_pipeline(spec, {}))
except Exception as error:
    print("failed", type(error).__name__, error)
"""

FAULTS = [
    ("optional-and-types", "failed ValueError Unknown value type: ", "an optional parameter without a default"),
    ("texts-with-values", "gave {'Output': '안녕 세계 3.0", "an integer in a text becomes a float"),
    ("struct-loop", "failed RuntimeError ", "integers in a list of structs become floats"),
    ("condition-in-loop", "failed RuntimeError ", "a condition on the item of a loop is given the whole list"),
    ("named-output-condition", "Could not resolve CEL", "a condition on a named output is false, in silence"),
]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled pipelines of `runner_pipelines.py`, as JSON."""
    folder = tmp_path_factory.mktemp("compiled")
    subprocess.run([sys.executable, SOURCE, folder], check=True, capture_output=True)
    for path in folder.glob("*.yaml"):
        # A platform spec may follow.
        spec = next(yaml.safe_load_all(path.read_text("utf-8")))
        path.with_suffix(".json").write_text(json.dumps(spec), "utf-8")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("name", "outcome", "fault"), FAULTS, ids=[one[2] for one in FAULTS])
def test_kfp_local_still_fails(compiled: Path, tmp_path: Path, name: str, outcome: str, fault: str) -> None:
    """kfp.local cannot run it, or runs it incorrectly; `test_runner_pipelines` shows that the runner here does."""
    overlay = make_overlay(tmp_path / "environment")
    command: list[str | Path] = [overlay.python, "-c", KFP_LOCAL, compiled / f"{name}.json", tmp_path]
    variables = overlay.variables(os.environ)
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path, env=variables)
    said = done.stdout + done.stderr
    assert "gave" in said or "failed" in said, said
    assert outcome in said, f"kfp.local has changed: {fault}?\n{said}"
