from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from pathlib import Path

import pytest

from kfadapter_grpc import version

ROOT = Path(__file__).resolve().parents[2]


def _git(folder: Path, *words: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)


def _own(monkeypatch: pytest.MonkeyPatch, root: Path) -> str:
    monkeypatch.setattr(version, "__file__", str(root / "src" / "kfadapter_grpc" / "version.py"))
    return version.running()["kfadapter"]


def test_what_runs() -> None:
    """The versions of this program, Python, and the packages that matter are reported as installed."""
    reported = version.running()
    assert list(reported) == ["kfadapter", "python", "grpcio", "protobuf", "kfp-server-api", "kfp"]
    assert reported["python"] == platform.python_version()
    for name in ("grpcio", "protobuf", "kfp-server-api", "kfp"):
        assert reported[name] == importlib.metadata.version(name)


def test_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing package is reported as not installed."""
    monkeypatch.setattr(version, "BESIDE", ("no-such-package",))
    assert version.running()["no-such-package"] == "not installed"


def test_a_checkout_reports_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout may be newer than the installation, so its current commit is reported, and whether files differ."""
    installed = importlib.metadata.version("kfadapter-grpc")
    assert _own(monkeypatch, tmp_path) == installed
    _git(tmp_path, "init", "--quiet")
    (tmp_path / "file").write_text("one")
    _git(tmp_path, "add", "file")
    _git(tmp_path, "commit", "--quiet", "--message", "first")
    _git(tmp_path, "tag", "v9.9.9")
    head = subprocess.run(
        ["git", "-C", str(tmp_path), "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    assert _own(monkeypatch, tmp_path) == f"{installed} (checkout at {head})"
    (tmp_path / "file").write_text("two")
    assert _own(monkeypatch, tmp_path) == f"{installed} (checkout at {head}-dirty)"


@pytest.mark.parametrize("git", ["missing", "broken"])
def test_no_git_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, git: str) -> None:
    """Without git, or if git rejects the checkout, only the installed version is reported."""
    (tmp_path / ".git").mkdir()
    if git == "missing":
        monkeypatch.setenv("PATH", "")
    assert _own(monkeypatch, tmp_path) == importlib.metadata.version("kfadapter-grpc")
