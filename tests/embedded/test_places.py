"""Locations of artifacts: URIs, the files of a step, and what is stored of them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from kfadapter_embedded.runner.attempts import AttemptFolders
from kfadapter_embedded.runner.places import Store, Tree, root_of, transfer
from kfadapter_embedded.runner.values import ValueFaultError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROOT = "minio://mlpipeline/v2/artifacts/p/r"


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("minio://mlpipeline/v2/x", "/minio/mlpipeline/v2/x"),
        ("s3://bucket/a/한글", "/s3/bucket/a/한글"),
        ("gs://bucket/a b", "/gcs/bucket/a b"),
        ("https://host/a", None),
        ("/a/file", None),
    ],
)
def test_paths_of_uris(tmp_path: Path, uri: str, path: str | None) -> None:
    """A step finds an artifact where KFP's launcher puts it (`component/launcher_v2.go:LocalPathForURI`)."""
    found = Tree(tmp_path, "").path(uri)
    assert (found and Tree(tmp_path, "").shown(found)) == path
    assert (found and Tree(tmp_path, str(tmp_path)).shown(found)) == (path and f"{tmp_path}{path}")


@pytest.mark.parametrize("uri", ["minio://../../etc", "s3://b/../../../x", "gs:///etc/passwd", "gs://b/\0"])
def test_paths_that_lead_elsewhere(tmp_path: Path, uri: str) -> None:
    """No URI points outside the files of a step."""
    with pytest.raises(ValueFaultError):
        Tree(tmp_path, "").path(uri)


@pytest.mark.parametrize(
    ("given", "root"),
    [
        ("", "minio://mlpipeline/v2/artifacts/p/r"),
        ("gs://my/storage/", "gs://my/storage/p/r"),
        ("s3://my/storage?region=x", "s3://my/storage/p/r"),
        ("/a/folder", "minio://mlpipeline/v2/artifacts/p/r"),
    ],
)
def test_root(given: str, root: str) -> None:
    """The root of a run is under that of the pipeline or the run, if that is in an object store."""
    assert root_of(given, "p", "r") == root


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("gs://elsewhere/model", 'URI "gs://elsewhere/model" does not have expected bucket prefix'),
        (f"{ROOT}/", "has empty key given prefixed bucket"),
        (f"{ROOT}/../../x", "leads out of"),
    ],
)
def test_what_is_not_kept(tmp_path: Path, uri: str, words: str) -> None:
    """Only artifacts with a key under the run's root are stored (`objectstore/config.go:KeyFromURI`)."""
    with pytest.raises(ValueFaultError, match=words):
        Store(tmp_path, ROOT).path(uri)


def test_folders(tmp_path: Path) -> None:
    """The files of a folder are stored (`object_store.go:UploadBlob`): empty folders are dropped, links followed."""
    given = tmp_path / "given"
    (given / "sub" / "한글").mkdir(parents=True)
    (given / "hollow").mkdir()
    (given / "sub" / "한글" / "two words").write_text("2", encoding="utf-8")
    (given / "link").symlink_to(given / "sub" / "한글" / "two words")
    transfer(given, tmp_path / "kept", move=True)
    kept = sorted(str(one.relative_to(tmp_path / "kept")) for one in (tmp_path / "kept").rglob("*"))
    assert kept == ["link", "sub", "sub/한글", "sub/한글/two words"]
    assert not (tmp_path / "kept" / "link").is_symlink()
    transfer(given / "hollow", tmp_path / "empty")
    transfer(given / "nothing", tmp_path / "empty")
    assert not (tmp_path / "empty").exists()


@pytest.mark.parametrize("kind", ["folder", "nothing", "pipe"])
def test_what_cannot_be_stored(tmp_path: Path, kind: str) -> None:
    """Links to folders, broken links and special files fail the upload, as they do in KFP."""
    (tmp_path / "given").mkdir()
    if kind == "pipe":
        os.mkfifo(tmp_path / "given" / "one")
    else:
        (tmp_path / "given" / "one").symlink_to(tmp_path if kind == "folder" else tmp_path / "nowhere")
    with pytest.raises(ValueFaultError, match="KFP does not store"):
        transfer(tmp_path / "given", tmp_path / "kept")


def test_copies(tmp_path: Path) -> None:
    """A change of a copy leaves the original unchanged, and a large file is copied completely."""
    (tmp_path / "a").write_bytes(os.urandom(3 << 20))
    transfer(tmp_path / "a", tmp_path / "deep" / "b")
    assert (tmp_path / "deep" / "b").read_bytes() == (tmp_path / "a").read_bytes()
    (tmp_path / "deep" / "b").write_bytes(b"changed")
    assert (tmp_path / "a").stat().st_size == 3 << 20


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (lambda _: None, True),
        (lambda places: (places / "tmp" / "kfp" / "outputs" / "more").mkdir(), True),
        (lambda places: (places / "tmp" / "more").touch(), False),
        (lambda places: (places.parent / "environment").mkdir(), False),
        (lambda places: (places / "minio").chmod(0o500), False),
        (lambda places: (places / "tmp").symlink_to((places / "tmp").rename(places.parents[1] / "away")), False),
    ],
)
def test_folder_of_an_attempt(tmp_path: Path, change: Callable[[Path], object], *, kept: bool) -> None:
    """It is used again, without the files of the attempt, if nothing else was changed in it."""
    folders = AttemptFolders(Store(tmp_path, ROOT))

    def entered(name: str) -> Tree:
        folders.take(tmp_path / name)
        tree = Tree(tmp_path / name / "places", "")
        assert not [one for one in (tmp_path / name).rglob("*") if not one.is_dir()]
        for file in (tree.work / "tmp" / "code.py", tree.parameter("a"), tree.path(f"{ROOT}/task/id/out")):
            assert file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        return tree

    change(entered("1").folder)
    folders.give_back(tmp_path / "1").result()
    assert not (tmp_path / "1").exists()
    assert (tmp_path / "1-spare").exists() == kept
    entered("2")
    assert not (tmp_path / "away").exists() or (tmp_path / "away" / "kfp" / "outputs" / "a").exists()
