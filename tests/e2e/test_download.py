"""Downloads through pipes, round trips of every file, and large ones."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import pytest
import yaml
from tests.cli.conftest import Kfadapter
from tests.e2e.conftest import ROOT, SECONDS, serve
from tests.scripted_kfp import ScriptedKfp, answers

from kfadapter_grpc.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Adapter

ID = "11111111-1111-4111-8111-111111111111"
VERSION = "22222222-2222-4222-8222-222222222222"
MIB = 1 << 20
FILES = sorted(
    str(path.relative_to(ROOT))
    for folder in ("examples", "tests/data/pipelines")
    for path in (ROOT / folder).glob("*.yaml")
)
EMPTY: tuple[object, ...] = (None, "", {}, {"startedAt": None, "finishedAt": None})
"""What Go adds to a Workflow, and what has no meaning."""


def documents(data: str) -> list[object]:
    """The parsed documents of a file; of a Workflow, without the empty parts that KFP adds."""
    return [
        without_empty_parts(each) if isinstance(each, dict) and each.get("kind") == "Workflow" else each
        for each in yaml.load_all(data, yaml.CSafeLoader)
    ]


def without_empty_parts(value: object) -> object:
    """A part of a document, without empty values."""
    if isinstance(value, dict):
        return {key: without_empty_parts(part) for key, part in value.items() if part not in EMPTY}
    return [without_empty_parts(part) for part in value] if isinstance(value, list) else value


def test_through_pipes(adapter: Adapter, name: str, tmp_path: Path) -> None:
    """JSON from a pipe can be uploaded, and a downloaded file is the same pipeline."""
    path = "tests/data/pipelines/hello_world.yaml"
    adapter.printed("upload", path, "--name", name)
    as_json = adapter.printed("download", name, "-o", "json")
    adapter.printed("upload", "-", "--name", name, "--version-name", "from-json", stdin=as_json.encode())
    file = tmp_path / "p.yaml"
    wrote = adapter.run("download", name, "--version", "from-json", "--to", str(file))
    assert (wrote.returncode, wrote.stdout, wrote.stderr.decode()) == (0, b"", f"wrote {file} (YAML)\n")
    assert documents(file.read_text(encoding="utf-8")) == documents((ROOT / path).read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FILES)
def test_there_and_back_again(adapter: Adapter, tmp_path: Path, path: str) -> None:
    """Every file is downloaded as equivalent JSON and YAML, which can be uploaded again."""
    kfadapter = Kfadapter(adapter.target)  # in this process: a process for each command is slow
    name = f"e2e-{uuid.uuid4().hex[:12]}"
    uploaded = documents((ROOT / path).read_text(encoding="utf-8"))
    file = tmp_path / "p"
    for style, sent in (("json", ROOT / path), ("yaml", file)):
        assert kfadapter("upload", str(sent), "--name", name).code == 0
        assert kfadapter("download", name, "-o", style, "--to", str(file)).code == 0
        assert documents(file.read_text(encoding="utf-8")) == uploaded
    assert kfadapter("upload", str(file), "--name", name).code == 0
    assert documents(kfadapter("download", name).out) == uploaded


class Counting:
    """Hashes bytes and keeps none of them."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        """Hashes bytes."""
        self.digest.update(data)
        return len(data)


@pytest.fixture(scope="module")
def spec() -> bytes:
    """A spec of 30 MiB."""
    task = {"inputs": {"parameters": {"이름": {"runtimeValue": {"constant": '"\\\n' * 100}}}}, "caching": {}}
    count = 30 * MIB // len(json.dumps(task, ensure_ascii=False).encode())
    return json.dumps({"root": {"dag": {"tasks": [task] * count}}}, ensure_ascii=False).encode()


@pytest.fixture
def large(spec: bytes) -> Iterator[Adapter]:
    """An adapter in front of a KFP with a version of that size."""
    version = f'{{"pipeline_id": "{ID}", "pipeline_version_id": "{VERSION}", "pipeline_spec": '.encode()
    with ScriptedKfp() as kfp:
        kfp.on("GET", f"{VERSION}$", answers(200, version + spec + b"}"))
        kfp.on("GET", "healthz", answers(200, {}))
        with serve(kfp.url) as running:
            yield running


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
@pytest.mark.parametrize(("at_once", "allowed"), [(1, 40 * MIB), (4, 60 * MIB)])
def test_a_large_download_is_never_whole_in_memory(large: Adapter, spec: bytes, at_once: int, allowed: int) -> None:
    """A download of 30 MiB adds its mapped file to the server while its spec is located, and several add no more."""
    with Client(large.target, timeout=SECONDS) as client:

        def download(_: int) -> str:
            target = Counting()
            client.pipelines.download(pipeline_id=ID, pipeline_version_id=VERSION, to=cast("BinaryIO", target))
            return target.digest.hexdigest()

        before = _begin_anew(large.process.pid)
        with ThreadPoolExecutor(at_once) as pool:
            digests = set(pool.map(download, range(at_once)))
    grown = _memory(large.process.pid, "VmHWM") - before
    print(f"{at_once} downloads of {len(spec) / MIB:.0f} MiB at once: {grown / MIB:.1f} MiB")  # noqa: T201
    assert digests == {hashlib.sha256(spec).hexdigest()}
    assert grown < allowed


def _begin_anew(pid: int) -> int:
    """Resets Linux's record of the peak memory use, and returns the present use in bytes."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
    return _memory(pid, "VmRSS")


def _memory(pid: int, what: str) -> int:
    found = re.search(rf"^{what}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(encoding="ascii"), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
