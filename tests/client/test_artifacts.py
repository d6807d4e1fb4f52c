"""Artifacts from Python: lists, tables of metrics, and downloads that resume, unpack and never overwrite."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.made_runs import AT, DATA, FILE, ID, FakeRuns, Store, run_of, serving_artifacts

from kfadapter_grpc.client import (
    ArtifactChangedError,
    ArtifactContent,
    ArtifactEntry,
    ArtifactNotFoundError,
    ArtifactStoreUnavailableError,
    CannotConnectError,
    Client,
    KfpError,
    MetricsOfRun,
    RunFilter,
    RunMetric,
)
from kfadapter_grpc.client.metrics import metrics_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


@pytest.fixture
def runs() -> FakeRuns:
    """Three runs."""
    return FakeRuns({f"r{index}": run_of(f"r{index}", index) for index in range(3)})


@pytest.fixture
def store() -> Store:
    """The bytes of their artifacts."""
    return Store()


@pytest.fixture
def client(connect: type[Client], runs: FakeRuns, store: Store) -> Iterator[Client]:
    """A client of an adapter that has them."""
    with serving_artifacts(runs, store) as address, connect(address) as made:
        yield made


def folder(files: Mapping[str, bytes]) -> tuple[ArtifactContent, bytes]:
    """A directory in the form in which it is sent."""
    archived = io.BytesIO()
    with tarfile.open(fileobj=archived, mode="w") as archive:
        for path, data in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    entries = tuple(ArtifactEntry(path, len(data)) for path, data in files.items())
    return ArtifactContent("자료", "application/x-tar", None, True, entries, len(entries)), archived.getvalue()


def test_lists(client: Client, runs: FakeRuns) -> None:
    """Artifacts of a run, and of all runs page by page; what could not be read is reported as a warning."""
    assert [one.artifact_id for one in client.artifacts.list("r1", task="train", type="Model")] == [
        "r1-train-0-model",
        "r1-train-1-model",
    ]
    runs.bad = {"r1": KfpError("부서짐")}
    warnings: list[str] = []
    found = client.artifacts.list(where=RunFilter(), name="model", page_size=1, on_warning=warnings.append)
    assert [(one.run_id, one.task) for one in found] == [
        (run, f"each[{index}]/train") for run in ("r0", "r2") for index in range(2)
    ]
    assert set(warnings) == {"run r1: 부서짐"}
    assert client.artifacts.get("r0", ID).metadata == {}
    with pytest.raises(ArtifactNotFoundError):
        client.artifacts.get("r0", "x")


def test_reading(client: Client) -> None:
    """The bytes as they arrive, after a description of the content."""
    contents: list[ArtifactContent] = []
    assert b"".join(client.artifacts.read("r0", ID, offset=5, on_content=contents.append)) == DATA[5:]
    assert contents == [FILE]


@pytest.mark.parametrize("place", ["", "새/", "model.h5"])
def test_a_file(client: Client, tmp_path: Path, place: str) -> None:
    """It goes to a path, or by its own name into a directory; nothing else is left, and progress ends at its size."""
    reported: list[tuple[int, int | None]] = []
    to = f"{tmp_path}/{place}"
    receipt = client.artifacts.download("r0", ID, to=to, progress=lambda done, total: reported.append((done, total)))
    expected = tmp_path / (place if place == "model.h5" else f"{place}모델.bin")
    assert (receipt.path, receipt.size, receipt.content) == (expected, len(DATA), FILE)
    assert expected.read_bytes() == DATA
    assert [one for one in tmp_path.rglob("*") if one.is_file()] == [expected]
    assert reported[-1] == (len(DATA), len(DATA))


def test_a_stream(client: Client) -> None:
    """A stream gets the bytes and stays open."""
    target = io.BytesIO()
    receipt = client.artifacts.download("r0", ID, to=target)
    assert (target.getvalue(), receipt.path, receipt.size) == (DATA, None, len(DATA))


def test_never_over_a_file(client: Client, tmp_path: Path) -> None:
    """An existing file is not overwritten, except with force."""
    path = tmp_path / "모델.bin"
    path.write_bytes(b"mine")
    for to in (tmp_path, path):
        with pytest.raises(FileExistsError, match=r"모델\.bin"):
            client.artifacts.download("r0", ID, to=to)
    assert path.read_bytes() == b"mine"
    client.artifacts.download("r0", ID, to=tmp_path, force=True)
    assert path.read_bytes() == DATA


def test_it_continues_where_it_ended(client: Client, store: Store, tmp_path: Path) -> None:
    """When the store becomes unavailable, the download resumes at that offset, repeatedly as long as it progresses."""
    away = ArtifactStoreUnavailableError("away")
    store.breaks = [(2500, away), (0, away), (0, away), (3000, away), (500, away)]
    receipt = client.artifacts.download("r0", ID, to=tmp_path / "m")
    assert (receipt.size, (tmp_path / "m").read_bytes()) == (len(DATA), DATA)
    assert store.offsets == [0, 2500, 2500, 2500, 5500, 6000]


def test_a_store_that_stays_unreachable(client: Client, store: Store, tmp_path: Path) -> None:
    """After several attempts without a byte the download fails, and leaves no file."""
    store.breaks = [(2500, ArtifactStoreUnavailableError("away")), *([(0, ArtifactStoreUnavailableError("away"))] * 9)]
    with pytest.raises(ArtifactStoreUnavailableError):
        client.artifacts.download("r0", ID, to=tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_what_changed_in_between(client: Client, store: Store, tmp_path: Path) -> None:
    """Parts of different files are never joined, and a file is never truncated."""

    def change() -> Iterator[ArtifactContent]:
        yield FILE
        yield replace(FILE, size=7)

    contents = change()
    store.__class__ = type("Changing", (Store,), {"content": property(lambda _: next(contents))})
    store.breaks = [(10, ArtifactStoreUnavailableError("away"))]
    with pytest.raises(ArtifactChangedError, match="changed while it was read"):
        client.artifacts.download("r0", ID, to=tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_fewer_bytes_than_announced(client: Client, store: Store, tmp_path: Path) -> None:
    """If the size differs from the announced one, no file is created."""
    store.data = DATA[:-1]
    with pytest.raises(ArtifactChangedError, match=f"{len(DATA) - 1} bytes arrived instead of {len(DATA)}"):
        client.artifacts.download("r0", ID, to=tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


FILES = {"a.txt": b"a", "그림/b.png": DATA, "그림/깊이/빈": b""}


def test_a_folder(client: Client, store: Store, tmp_path: Path) -> None:
    """A directory is unpacked by its own name or at the path; with force its files are replaced, others are kept."""
    store.content, store.data = folder(FILES)
    receipt = client.artifacts.download("r0", ID, to=tmp_path)
    assert (receipt.path, receipt.size) == (tmp_path / "자료", sum(map(len, FILES.values())))
    client.artifacts.download("r0", ID, to=tmp_path / "other")
    for name in ("자료", "other"):
        assert {path: (tmp_path / name / path).read_bytes() for path in FILES} == FILES
    with pytest.raises(FileExistsError):
        client.artifacts.download("r0", ID, to=tmp_path)
    (tmp_path / "자료" / "mine").write_bytes(b"mine")
    (tmp_path / "자료" / "a.txt").write_bytes(b"old")
    client.artifacts.download("r0", ID, to=tmp_path, force=True)
    assert (tmp_path / "자료" / "a.txt").read_bytes() == b"a"
    assert (tmp_path / "자료" / "mine").read_bytes() == b"mine"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["other", "자료"]


def test_a_folder_as_an_archive(client: Client, store: Store, tmp_path: Path) -> None:
    """A path that ends with .tar, or a stream, receives the archive."""
    store.content, store.data = folder(FILES)
    client.artifacts.download("r0", ID, to=tmp_path / "m.tar")
    stream = io.BytesIO()
    client.artifacts.download("r0", ID, to=stream)
    assert (tmp_path / "m.tar").read_bytes() == stream.getvalue() == store.data


def test_a_folder_that_no_file_system_can_have(client: Client, store: Store, tmp_path: Path) -> None:
    """In an object store a file may have the name of a folder; the error says how to save both, and nothing is left."""
    store.content, store.data = folder({"a": b"1", "a/b": b"2"})
    with pytest.raises(NotADirectoryError, match=r"ends with \.tar"):
        client.artifacts.download("r0", ID, to=tmp_path / "made", force=True)
    assert list(tmp_path.iterdir()) == []
    assert client.artifacts.download("r0", ID, to=tmp_path / "made.tar").size == len(store.data)


def test_a_folder_begins_anew(client: Client, store: Store, tmp_path: Path) -> None:
    """The download of an archive cannot resume; it restarts from the beginning."""
    store.content, store.data = folder(FILES)
    store.breaks = [(3000, ArtifactStoreUnavailableError("away"))]
    client.artifacts.download("r0", ID, to=tmp_path / "m")
    assert (tmp_path / "m" / "a.txt").read_bytes() == b"a"
    assert store.offsets == [0, 0]


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x"])
def test_no_file_leads_outside(client: Client, store: Store, tmp_path: Path, path: str) -> None:
    """An archive with such a name is rejected, and nothing of it is left."""
    store.content, store.data = folder({"a": b"a", path: b"x"})
    with pytest.raises(ArtifactChangedError, match="no file of a folder"):
        client.artifacts.download("r0", ID, to=tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "a/b", "..", "", "c:\\x"])
def test_its_own_name_leads_nowhere_else(client: Client, store: Store, tmp_path: Path, name: str) -> None:
    """Whatever name the adapter returns, the file is created in the given directory."""
    store.content = replace(FILE, name=name)
    receipt = client.artifacts.download("r0", ID, to=tmp_path)
    assert receipt.path is not None
    assert receipt.path.parent == tmp_path
    assert receipt.path.read_bytes() == DATA


# --- tables of metrics ----------------------------------------------------------------------------------------------


def test_metrics(client: Client, runs: FakeRuns) -> None:
    """A row for each run, with the same columns; parameters only if requested, None for missing values."""
    runs.bad = {"r2": KfpError("부서짐")}
    warnings: list[str] = []
    rows = client.runs.metrics(parameters=["n", "state"], display_name_contains="", on_warning=warnings.append)
    assert list(rows[0]) == [
        *("run_id", "display_name", "state", "created_at", "n", "parameter/state"),
        *("each[0]/train/accuracy", "each[1]/train/accuracy"),
    ]
    assert list(rows[1].values()) == ["r1", "이름 r1", "SUCCEEDED", AT, 7, None, 1.0, 2.0]
    assert list(rows[2].values())[-2:] == [None, None]
    assert warnings == ["run r2: 부서짐"]
    assert [row["run_id"] for row in client.runs.metrics(limit=2)] == ["r0", "r1"]
    for call in (client.runs.metrics, client.runs.list):
        with pytest.raises(TypeError, match="experiment"):
            call(experiment="misspelled")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("metrics", "columns"),
    [
        ([[("accuracy", "train", "m")], [("accuracy", "train", "m"), ("loss", "check", "m")]], ["accuracy", "loss"]),
        ([[("accuracy", "train", "m")], [("accuracy", "check", "m")]], ["train/accuracy", "check/accuracy"]),
        (
            [[("accuracy", "train", "m"), ("accuracy", "train", "other"), ("loss", "train", "m")]],
            ["train/m/accuracy", "train/other/accuracy", "loss"],
        ),
        ([[("state", "train", "m"), ("n", "train", "m")]], ["train/state", "train/n"]),
    ],
)
def test_names_of_columns(metrics: list[list[tuple[str, str, str]]], columns: list[str]) -> None:
    """A column has the shortest name that is unambiguous in the table."""
    runs = [
        MetricsOfRun(f"r{index}", metrics=tuple(RunMetric(name, 0.5, task, output) for name, task, output in row))
        for index, row in enumerate(metrics)
    ]
    assert list(metrics_table(runs, ["n"])[0])[5:] == columns


def test_nothing_is_created_before_the_adapter_responds(tmp_path: Path) -> None:
    """Nothing is created before the adapter has responded."""
    with Client("127.0.0.1:1") as client, pytest.raises(CannotConnectError):
        client.artifacts.download("r0", ID, to=tmp_path / "new" / "m")
    assert list(tmp_path.iterdir()) == []
