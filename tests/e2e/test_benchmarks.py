"""The benchmarks still run. Their figures are not judged here: they vary with the load of the machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from benchmarks.report import write_document
from benchmarks.results import Results
from benchmarks.sides import ADAPTER, HTTP, SDK
from tests.e2e.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

SECONDS = 600
"""How long a run may take; it usually takes a few seconds."""
RUN = ("startup", "memory", "own_cost", "get", "list_versions", "upload", "download")


def run_benchmarks(temporary: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the command, without installing it, with a temporary folder of its own."""
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONUTF8": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The results of a quick run of the cheap benchmarks."""
    folder = tmp_path_factory.mktemp("benchmarks")
    temporary = folder / "tmp"
    temporary.mkdir()
    done = run_benchmarks(temporary, "--only", *RUN, "--json", str(folder / "found.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(temporary.iterdir()) == []
    return Results.read(folder / "found.json")


@pytest.mark.timeout(SECONDS + 60)
def test_every_benchmark_finds_figures(results: Results) -> None:
    """A quick run has figures of all sides for every requested benchmark, and no failure."""
    assert results.failures == {}
    assert {row.benchmark for row in results.rows} == set(RUN)
    compared = [row for row in results.rows if row.chart]
    for row in compared:
        assert {HTTP, ADAPTER} <= {figure.side for figure in row.figures}, row.what
        assert all(figure.p50 > 0 and figure.p90 > 0 for figure in row.figures), row.what
    with_sdk = {row.benchmark for row in compared if any(figure.side == SDK for figure in row.figures)}
    assert with_sdk == {"get", "list_versions", "upload", "download"}


@pytest.mark.timeout(SECONDS + 60)
def test_the_page_is_written_from_the_figures(results: Results, tmp_path: Path) -> None:
    """The page gets every row and every goal between its markers, keeps the surrounding text, and can be rewritten."""
    page = tmp_path / "benchmarks.md"
    shutil.copy(ROOT / "docs" / "benchmarks.md", page)
    write_document(results, tmp_path)
    first = page.read_text()
    assert first.startswith("# Benchmarks\n")
    assert "## Method" in first
    for row in results.rows:
        assert f"| {row.what} | {row.unit} |" in first
        assert all(finding.goal in first for finding in row.findings)
    write_document(results, tmp_path)
    assert page.read_text() == first


@pytest.mark.timeout(SECONDS + 60)
def test_the_chart_is_a_picture(results: Results, tmp_path: Path) -> None:
    """The chart is an SVG with a bar for each side of each comparison, all of it within the image."""
    shutil.copy(ROOT / "docs" / "benchmarks.md", tmp_path)
    write_document(results, tmp_path)
    picture = ET.parse(tmp_path / "benchmarks.svg").getroot()  # noqa: S314 - written a line before
    rectangles = [one for one in picture.iter("{http://www.w3.org/2000/svg}rect") if one.get("height") == "14"]
    charted = [row for row in results.rows if row.chart]
    assert len(rectangles) == sum(figure.side in {ADAPTER, SDK} for row in charted for figure in row.figures)
    for one in rectangles:
        assert float(one.attrib["x"]) >= 0
        assert float(one.attrib["x"]) + float(one.attrib["width"]) <= float(picture.attrib["width"])


@pytest.mark.timeout(SECONDS + 60)
def test_a_kfp_that_is_not_there(tmp_path: Path) -> None:
    """If KFP is unreachable, the benchmark fails, the run ends with exit code 1 and leaves nothing behind."""
    done = run_benchmarks(tmp_path, "--only", "get", "--kfp-url", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "failed: [Errno 111]" in done.stdout
    assert list(tmp_path.iterdir()) == []
