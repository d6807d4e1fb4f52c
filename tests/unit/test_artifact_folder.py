"""Artifacts that are files: read inside the folder of an embedded KFP, and nowhere else."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest
from tests.artifact_reading import read, unpacked

from kfadapter_grpc.contract.artifacts import ArtifactContent, ArtifactEntry
from kfadapter_grpc.contract.errors import ArtifactChangedError, ArtifactNotFoundError, ArtifactNotReadableError
from kfadapter_grpc.kfp import artifact_files
from kfadapter_grpc.kfp.artifact_bytes import ArtifactBytes

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of the embedded KFP's artifacts, beside a file outside it."""
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


@pytest.fixture
def files(root: Path) -> ArtifactBytes:
    """Reads below it."""
    return ArtifactBytes(folder=root)


def test_a_file(root: Path, files: ArtifactBytes) -> None:
    """A file is returned with its name, size and bytes, also in part; names may be in any script."""
    path = root / "한글 모델.html"
    path.write_bytes(b"0123456789" * 100_000)
    content, data = read(files, path.as_uri())
    assert (content.name, content.size, content.media_type) == ("한글 모델.html", 1_000_000, "text/html")
    assert content.stored_at is not None
    assert data == path.read_bytes()
    assert read(files, path.as_uri(), offset=5, length=10)[1] == b"5678901234"
    assert read(files, path.as_uri(), offset=1_000_000)[1] == b""


def test_a_folder(root: Path, files: ArtifactBytes) -> None:
    """A folder is returned as a tar archive of its files, or as one of them."""
    made = {"a.txt": b"a", "더/깊이/b.bin": b"b" * 300_000, "더/빈": b"", "x" * 200 + "/y": b"y"}
    for name, data in made.items():
        path = root / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (root / "model2").mkdir()
    (root / "model2" / "no").write_text("no")
    content, archive = read(files, (root / "model").as_uri())
    entries = tuple(ArtifactEntry(name, len(data)) for name, data in sorted(made.items()))
    assert (content.name, content.media_type, content.size, content.is_directory) == (
        "model",
        "application/x-tar",
        None,
        True,
    )
    assert (content.entries, content.entry_count) == (entries, 4)
    assert unpacked(archive) == made
    content, data = read(files, (root / "model").as_uri(), path="더/깊이/b.bin")
    assert (content.name, content.size, data) == ("b.bin", 300_000, b"b" * 300_000)


def test_nothing_there(root: Path, files: ArtifactBytes) -> None:
    """A record without a file, an empty folder and an invalid path are reported as missing."""
    (root / "empty").mkdir()
    (root / "file").write_text("x")
    for uri, path in (("gone", ""), ("empty", ""), ("file", "x"), ("file/x", ""), ("empty", "x")):
        with pytest.raises(ArtifactNotFoundError):
            read(files, (root / uri).as_uri(), path=path)


@pytest.mark.parametrize(
    "uri",
    [
        "file:///etc/passwd",
        "file://{root}/../secret",
        "file://{root}/%2e%2e/secret",
        "file://{root}2/x",
        "file://other.example{root}/x",
        "file://{root}/a%00b",
        "file://secret",
        "file://",
    ],
)
def test_outside(root: Path, files: ArtifactBytes, uri: str) -> None:
    """A location outside the folder is rejected, however it is written."""
    with pytest.raises(ArtifactNotReadableError):
        read(files, uri.format(root=root))


def test_links(root: Path, files: ArtifactBytes) -> None:
    """A link that leads outside is rejected, and left out of a folder; one that stays inside is read as its target."""
    folder = root / "model"
    folder.mkdir()
    (folder / "data").write_text("data")
    (folder / "inside").symlink_to("data")
    (folder / "outside").symlink_to(root.parent / "secret")
    (folder / "above").symlink_to(root.parent)
    (root / "whole").symlink_to(root.parent)
    (folder / "loop").symlink_to("loop")
    content, archive = read(files, folder.as_uri())
    assert unpacked(archive) == {"data": b"data", "inside": b"data"}
    assert content.entry_count == 2
    for uri, path in ((folder, "outside"), (folder, "above/secret"), (root / "whole", ""), (root / "whole", "secret")):
        with pytest.raises(ArtifactNotReadableError):
            read(files, uri.as_uri(), path=path)


def test_a_link_that_is_put_in_the_way(root: Path, files: ArtifactBytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that is created after the path was resolved is not followed."""
    folder = root / "model"
    folder.mkdir()
    (folder / "secret").write_text("mine")
    real = os.path.realpath

    def swapped(path: str) -> str:
        found = real(path)
        if str(path).endswith("model/secret") and not folder.is_symlink():
            folder.rename(root / "moved")
            folder.symlink_to(root.parent)
        return found

    monkeypatch.setattr(os.path, "realpath", swapped)
    with pytest.raises(ArtifactNotReadableError):
        read(files, (folder / "secret").as_uri())


def test_special_files(root: Path, files: ArtifactBytes) -> None:
    """Pipes and sockets are rejected at once, and left out of a folder."""
    folder = root / "model"
    folder.mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "data").write_text("data")
    (folder / "link").symlink_to("pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(folder)
        listener.bind("socket")
        for name in ("pipe", "socket", "link"):
            with pytest.raises(ArtifactNotReadableError):
                read(files, (folder / name).as_uri())
    assert unpacked(read(files, folder.as_uri())[1]) == {"data": b"data"}


def test_changed_while_read(root: Path, files: ArtifactBytes) -> None:
    """A file that is written or truncated during the read fails the read; one that is replaced is read to its end."""
    path = root / "data"
    for change in (
        lambda: path.write_bytes(b"y" * 3_000_000),
        lambda: os.truncate(path, 10),
    ):
        path.write_bytes(b"x" * 3_000_000)
        with pytest.raises(ArtifactChangedError):
            read(files, path.as_uri(), meanwhile=change)
    path.write_bytes(b"x" * 3_000_000)
    (root / "other").write_bytes(b"z" * 3_000_000)
    assert read(files, path.as_uri(), meanwhile=lambda: (root / "other").replace(path))[1] == b"x" * 3_000_000


def test_too_many_files(root: Path, files: ArtifactBytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with more files than are kept in memory can only be read file by file."""
    monkeypatch.setattr(artifact_files, "MAX_FILES", 2)
    for name in "abc":
        (root / name).write_text(name)
    with pytest.raises(ArtifactNotReadableError, match="by path"):
        read(files, root.as_uri())
    assert read(files, root.as_uri(), path="c") == (
        ArtifactContent(
            "c", "application/octet-stream", 1, stored_at=read(files, root.as_uri(), path="c")[0].stored_at
        ),
        b"c",
    )


def test_off_by_default(root: Path) -> None:
    """Without a folder no file of the adapter's machine can be read."""
    with pytest.raises(ArtifactNotReadableError, match="file of another machine"):
        read(ArtifactBytes(), root.as_uri())
