from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from kfadapter_grpc.auth.reloaded_files import MAX_FILE_BYTES, Refresher, Reloaded

if TYPE_CHECKING:
    from pathlib import Path


def joined(*contents: bytes) -> str:
    """Parses files that must have the same content."""
    if len(set(contents)) != 1:
        message = "they do not fit together"
        raise ValueError(message)
    return contents[0].decode()


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Two files that fit together."""
    paths = (tmp_path / "one", tmp_path / "two")
    for path in paths:
        path.write_text("first")
    return paths


def test_a_change_is_read(files: tuple[Path, Path]) -> None:
    """New contents are read and logged once, even if sizes and times are unchanged."""
    reported = Reloaded("the pair", files, joined)
    before = [path.stat() for path in files]
    for path, stat in zip(files, before, strict=True):
        path.write_text("other")
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with capture_logs() as lines:
        reported.refresh()
        reported.refresh()
    assert reported.value == "other"
    assert [(line["event"], line["log_level"]) for line in lines] == [("the pair re-read", "info")]


def test_invalid_files_are_ignored(files: tuple[Path, Path]) -> None:
    """Invalid files leave the previous value; each of their states is logged once, and corrected files are read."""
    reported = Reloaded("the pair", files, joined)
    with capture_logs() as lines:
        files[0].write_text("second")
        reported.refresh()
        reported.refresh()
        assert reported.value == "first"
        files[0].unlink()
        reported.refresh()
        reported.refresh()
        assert reported.value == "first"
        for path in files:
            path.write_text("third")
        reported.refresh()
    assert reported.value == "third"
    assert [line["log_level"] for line in lines] == ["error", "error", "info"]
    assert lines[0]["event"] == "the pair: invalid; the last valid contents are used"
    assert lines[0]["why"] == "they do not fit together"
    assert lines[1]["why"] == f"{files[0]}: No such file or directory"


def test_what_becomes_right_by_waiting(files: tuple[Path, Path]) -> None:
    """An invalid value is tried again, as for a certificate that is not valid yet, and logged once."""
    early = [True, True, True, False]

    def parse(*contents: bytes) -> str:
        if contents[0] == b"new" and early.pop(0):
            message = "not valid yet"
            raise ValueError(message)
        return contents[0].decode()

    reported = Reloaded("the pair", files, parse)
    files[0].write_text("new")
    with capture_logs() as lines:
        for _ in range(5):
            reported.refresh()
    assert reported.value == "new"
    assert [line["log_level"] for line in lines] == ["error", "info"]


def test_what_is_put_back(files: tuple[Path, Path]) -> None:
    """When a mistake is reverted, the log reports it."""
    reported = Reloaded("the pair", files, joined)
    with capture_logs() as lines:
        for text in ("wrong", "first"):
            files[0].write_text(text)
            reported.refresh()
            reported.refresh()
    assert reported.value == "first"
    assert [line["log_level"] for line in lines] == ["error", "info"]


def test_a_swapped_link(tmp_path: Path) -> None:
    """Kubernetes replaces a mounted folder by swapping a link; the change is noticed."""
    for name in ("v1", "v2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "file").symlink_to("..data/file")
    reported = Reloaded("the file", [tmp_path / "file"], joined)
    (tmp_path / "..data_tmp").symlink_to("v2")
    (tmp_path / "..data_tmp").replace(tmp_path / "..data")
    reported.refresh()
    assert reported.value == "v2"


def test_only_small_files_are_read(tmp_path: Path) -> None:
    """A file that is too large, not a regular file, or could block the reader is rejected."""
    large, pipe = tmp_path / "large", tmp_path / "pipe"
    large.write_bytes(b"x" * (MAX_FILE_BYTES + 1))
    os.mkfifo(pipe)
    for path in (large, pipe, tmp_path, tmp_path / "none"):
        with pytest.raises(OSError, match=path.name):
            Reloaded("the file", [path], joined)


def test_the_refresher_continues() -> None:
    """The refresher refreshes everything again and again, though one of the refreshes always fails."""
    looks = threading.Semaphore(0)

    def fail() -> None:
        looks.release()
        message = "a fault"
        raise RuntimeError(message)

    refresher = Refresher([fail, looks.release], seconds=0.001)
    refresher.start()
    assert all(looks.acquire(timeout=30) for _ in range(6))
    refresher.stop()
    refresher._thread.join(30)
    assert not refresher._thread.is_alive()
