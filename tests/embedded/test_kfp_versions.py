"""Files that kfp 2.5 to 2.17 compiled, each in its own environment, by `tests/data/kfp_versions/compile.py`."""

from __future__ import annotations

import json
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.embedded.conftest import Caller

FOLDER = Path(__file__).parents[1] / "data" / "kfp_versions"
# The output of 2.6 to 2.9 and 2.11 to 2.16 differs in the version only.
DISTINCT = ("2.5.0", "2.10.1", "2.17.0")
OVER = {"SUCCEEDED", "FAILED", "CANCELED"}
OUTPUTS = {"write": 8, "read it": "안녕 world", "total": 15, "square-2": 4}


def _files() -> dict[str, bytes]:
    with tarfile.open(FOLDER / "compiled.tar.xz") as archive:
        members = {one.name.removesuffix(".yaml"): archive.extractfile(one) for one in archive.getmembers()}
        return {name: content.read() for name, content in members.items() if content}


FILES = _files()


@pytest.mark.parametrize("version", FILES)
def test_upload(caller: Caller, version: str) -> None:
    """A file of each kfp is uploaded, and has the version of kfp that compiled it."""
    assert len(FILES) == 12
    pipeline = caller.upload(FILES[version])
    assert pipeline.status == 200
    versions = caller.get(f"/pipelines/{pipeline['pipeline_id']}/versions")
    assert json.loads(versions.text)["pipeline_versions"][0]["pipeline_spec"]["sdkVersion"] == f"kfp-{version}"


@pytest.mark.slow
def test_runs(caller: Caller) -> None:
    """Files of every kfp run: loops, branches, artifacts, an exit handler, retries, limits."""
    runs = {}
    for version in DISTINCT:
        reference = {"pipeline_id": caller.upload(FILES[version])["pipeline_id"]}
        runs[version] = caller.call(
            "POST", "/runs", json_body={"display_name": version, "pipeline_version_reference": reference}
        )["run_id"]
    end = time.monotonic() + 110
    for version, run_id in runs.items():
        while caller.get(f"/runs/{run_id}")["state"] not in OVER and time.monotonic() < end:
            time.sleep(0.2)
        run = json.loads(caller.get(f"/runs/{run_id}", view="FULL").text)
        assert run["state"] == "SUCCEEDED", (version, run.get("error"))
        found = {
            task["display_name"]: entry["value"]
            for task in run["tasks"]
            if task["display_name"] in OUTPUTS
            for entry in task.get("outputs", {}).get("parameters", ())
        }
        assert found == OUTPUTS, version
