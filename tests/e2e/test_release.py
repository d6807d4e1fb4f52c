"""What `scripts/release` makes: files that hold together, alike wherever they are made, or none if in doubt."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from scripts import release

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow

ODD_PLACES = (
    ("릴리스 1", {"TZ": "Asia/Seoul", "LC_ALL": "C", "PYTHONHASHSEED": "1"}, 0o077),
    ("elsewhere/2", {"TZ": "America/New_York", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "2"}, 0o002),
)
"""Names, variables and umasks under which two releases must be alike."""


def _git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=Release", "-c", "user.email=release@example.com")
    return subprocess.run(
        ["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def _clone(folder: Path) -> Path:
    """Clones the checkout as it is, with changes to tracked files."""
    commit = _git(ROOT, "stash", "create") or _git(ROOT, "rev-parse", "HEAD")
    folder.parent.mkdir(parents=True, exist_ok=True)
    _git(ROOT, "clone", "--quiet", "--shared", "--no-checkout", str(ROOT), str(folder))
    _git(folder, "checkout", "--quiet", "--detach", commit)
    return folder


def _release(clone: Path, into: Path, variables: Mapping[str, str], umask: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(clone / "scripts/release.py"), str(into)]
    env = {**os.environ, **variables}
    return subprocess.run(command, cwd=clone, env=env, umask=umask, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> list[Mapping[str, bytes]]:
    """The files of two releases of one commit, made in two clones."""

    def make(place: tuple[str, Mapping[str, str], int]) -> Mapping[str, bytes]:
        name, variables, umask = place
        clone = _clone(tmp_path_factory.mktemp("release") / name)
        into = tmp_path_factory.mktemp("dist") / name / "dist"
        done = _release(clone, into, variables, umask)
        assert done.returncode == 0, done.stderr
        return {path.name: path.read_bytes() for path in into.iterdir()}

    with ThreadPoolExecutor() as at_once:
        return list(at_once.map(make, ODD_PLACES))


@pytest.fixture
def files(releases: list[Mapping[str, bytes]], tmp_path: Path) -> Mapping[str, Path]:
    """The files of a release in a folder, by what follows the name and version."""
    for name, content in releases[0].items():
        (tmp_path / name).write_bytes(content)
    version = next(re.fullmatch(r"kfadapter_grpc-(.+)\.binpb", name) for name in releases[0] if name.endswith(".binpb"))
    assert version
    return {path.name.removeprefix(f"kfadapter_grpc-{version[1]}"): path for path in tmp_path.iterdir()}


def test_two_releases_of_one_commit_are_equal(releases: list[Mapping[str, bytes]]) -> None:
    """Path, time, time zone, locale, hash seed and umask leave no trace in any file."""
    first, second = releases
    assert sorted(first) == sorted(second)
    assert [name for name in first if first[name] != second[name]] == []


def test_checksums_and_provenance_name_every_file(files: Mapping[str, Path]) -> None:
    """SHA256SUMS holds, and the statement's subjects are all files but itself and the sums."""
    lines = [line.split("  ") for line in files["SHA256SUMS"].read_text().splitlines()]
    sums = {name: digest for digest, name in lines}
    others = {path.name: path for path in files.values() if path.name != "SHA256SUMS"}
    assert sums == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in others.items()}
    statement = json.loads(files[".intoto.json"].read_bytes())
    assert {one["name"]: one["digest"]["sha256"] for one in statement["subject"]} == {
        name: digest for name, digest in sums.items() if name != files[".intoto.json"].name
    }
    source, *_ = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert re.fullmatch(r"[0-9a-f]{40}", source["digest"]["gitCommit"])


def test_the_wheel_has_all_that_runs_and_nothing_else(files: Mapping[str, Path]) -> None:
    """The packages with their types and descriptors, the license, and no test."""
    with zipfile.ZipFile(files["-py3-none-any.whl"]) as wheel:
        names = set(wheel.namelist())
    packages = {"kfadapter", "kfadapter_grpc", "kfadapter_console", "kfadapter_embedded", "kfadapter_oran"}
    information = files["-py3-none-any.whl"].name.removesuffix("-py3-none-any.whl") + ".dist-info"
    assert {name.partition("/")[0] for name in names} == packages | {information}
    tracked = {path.removeprefix("src/") for path in _git(ROOT, "ls-files", "src").splitlines()}
    assert tracked == {name for name in names if not name.startswith(information)}
    assert {f"{package}/py.typed" for package in packages} | {"kfadapter/kfadapter.binpb"} <= names
    assert f"{information}/licenses/LICENSE" in names


def test_the_source_distribution_has_what_the_wheel_is_built_from(files: Mapping[str, Path]) -> None:
    """Sources, contract, metadata and the pages that they name, and no tests."""
    with tarfile.open(files[".tar.gz"]) as archive:
        names = {name.split("/")[1] for name in archive.getnames()}
    pages = {"README.md", "CHANGELOG.md", "LICENSE", "SECURITY.md"}
    assert names == {"src", "protos", "pyproject.toml", "PKG-INFO", ".gitignore"} | pages


def test_the_container_context_is_what_the_dockerfile_copies(files: Mapping[str, Path]) -> None:
    """Every COPY finds its source, and the image gets the version of the release."""
    with tarfile.open(files["-container.tar.gz"]) as context:
        names = context.getnames()
        dockerfile = (context.extractfile("Dockerfile") or pytest.fail("no Dockerfile")).read().decode()
    sources = [
        word for line in re.findall(r"^COPY (?!--)(.+)$", dockerfile, re.MULTILINE) for word in line.split()[:-1]
    ]
    assert sources
    for source in sources:
        assert any(name == source or name.startswith(f"{source}/") for name in names), source
    assert files[".tar.gz"].name == f"kfadapter_grpc-{re.findall(r'(?m)^ARG VERSION=(.+)$', dockerfile)[0]}.tar.gz"


def test_the_chart_is_that_of_the_release(files: Mapping[str, Path]) -> None:
    """The whole folder of the chart, with the version of the release and, as `appVersion`, of the image."""
    version = files[".tar.gz"].name.removeprefix("kfadapter_grpc-").removesuffix(".tar.gz")
    with tarfile.open(files[f"kfadapter-{release.semantic(version)}.tgz"]) as archive:
        names = archive.getnames()
        chart = yaml.safe_load(archive.extractfile("kfadapter/Chart.yaml") or pytest.fail("no Chart.yaml"))
        linked = archive.extractfile("kfadapter/files/kfadapter.json") or pytest.fail("a link")
        assert linked.read() == (ROOT / "deploy/dashboards/kfadapter.json").read_bytes()
        assert {member.mode for member in archive.getmembers()} == {0o644}
    tracked = _git(ROOT, "ls-files", "deploy/chart").splitlines()
    assert sorted(names) == sorted(path.replace("deploy/chart", "kfadapter", 1) for path in tracked)
    assert (chart["version"], chart["appVersion"]) == (release.semantic(version), version)


@pytest.mark.parametrize(
    ("version", "reported"),
    [("1.2.3", "1.2.3"), ("1.2.3rc1", "1.2.3-rc.1"), ("1.2.4.dev5+g0123abc", "1.2.4-dev.5+g0123abc")],
)
def test_the_chart_has_a_semantic_version(version: str, reported: str) -> None:
    """Helm takes no other."""
    assert release.semantic(version) == reported


@pytest.mark.parametrize("installation", release.INSTALLATIONS)
def test_a_bill_of_materials_lists_its_lock(files: Mapping[str, Path], installation: str) -> None:
    """Valid CycloneDX with every package of the lock, its version and the hashes of its files."""
    text = files[f"-{installation}.cdx.json"].read_text("utf-8")
    bill = json.loads(text)
    assert JsonStrictValidator(SchemaVersion.from_version(bill["specVersion"])).validate_str(text) is None
    lock = (ROOT / "requirements" / f"{installation}.txt").read_text()
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "kfadapter-grpc")
    reported = sorted((one["name"], one["version"]) for one in bill["components"])
    assert reported == sorted(re.findall(r"^([a-z0-9.-]+)==(\S+)", lock, re.MULTILINE))
    hashes = [
        one["content"] for part in bill["components"] for at in part["externalReferences"] for one in at["hashes"]
    ]
    assert sorted(hashes) == sorted(re.findall(r"sha256:([0-9a-f]{64})", lock))


def test_a_changed_checkout_is_refused(tmp_path: Path) -> None:
    """What is not committed is in no release."""
    clone = _clone(tmp_path / "clone")
    (clone / "src" / "new.py").touch()
    done = _release(clone, tmp_path / "dist", {}, 0o022)
    assert (done.returncode, (tmp_path / "dist").exists()) == (1, False)
    assert "?? src/new.py" in done.stderr


def test_a_tag_that_the_changelog_does_not_know_is_refused(tmp_path: Path) -> None:
    """A tagged commit is released only if the first section of CHANGELOG.md is its version's."""
    clone = _clone(tmp_path / "clone")
    _git(clone, "tag", "v99.0.0")
    done = _release(clone, tmp_path / "dist", {}, 0o022)
    assert (done.returncode, (tmp_path / "dist").exists()) == (1, False)
    assert "the tag is 99.0.0, the first section of CHANGELOG.md is Unreleased" in done.stderr


@pytest.mark.parametrize(
    ("version", "tags", "changelog", "fault"),
    [
        ("1.2.3.dev4+g0123abc", [], "## Unreleased", ""),
        ("1.2.3.dev4+g0123abc", ["nightly"], "## Unreleased", ""),
        ("1.2.3", ["v1.2.3", "nightly"], "# Changelog\n\n## 1.2.3 (2026-12-01)\n\n## 1.2.2", ""),
        (
            "1.2.3",
            ["v1.2.3"],
            "## Unreleased\n\n## 1.2.3",
            "the tag is 1.2.3, the first section of CHANGELOG.md is Unreleased",
        ),
        ("1.2.3", ["v1.2.3"], "", "the tag is 1.2.3, the first section of CHANGELOG.md is none"),
        ("1.2.4", ["v1.2.3", "v1.2.4"], "## 1.2.4", "the tags of the commit say 1.2.3, 1.2.4, git's version is 1.2.4"),
        ("1.2.3", ["v1.2.4"], "## 1.2.4", "the tags of the commit say 1.2.4, git's version is 1.2.3"),
    ],
)
def test_version_tag_and_changelog_agree(version: str, tags: list[str], changelog: str, fault: str) -> None:
    """Only a commit with the tag of a version is checked; it may have one such tag."""
    assert release.tag_fault(version, tags, changelog) == fault
