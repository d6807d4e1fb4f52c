"""The virtual environment layered over the server's."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kfadapter_embedded.runner.attempts import AttemptFolders
from kfadapter_embedded.runner.environment import Overlay, make_overlay
from kfadapter_embedded.runner.places import DEFAULT_ROOT, Store, Tree


def _said(overlay: Overlay, *command: str) -> str:
    variables = overlay.variables(os.environ)
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=variables, cwd=overlay.folder)
    return done.stdout.strip()


def test_sees_the_servers_packages(tmp_path: Path) -> None:
    """The server's packages can be imported, by a Python whose prefix is elsewhere."""
    overlay = make_overlay(tmp_path / "환경 1")
    place = _said(overlay, str(overlay.python), "-c", "import sys, kfp; print(sys.prefix, kfp.__file__)")
    assert place.startswith(f"{tmp_path / '환경 1'} {sys.prefix}")


def test_every_pip_is_its_own(tmp_path: Path) -> None:
    """`pip` and `pip3` on the path install into it, not into the server's environment."""
    overlay = make_overlay(tmp_path / "o")
    for name in ("pip", "pip3"):
        found = _said(overlay, "sh", "-c", f"command -v {name} && {name} config debug >/dev/null && {name} --version")
        assert found.splitlines()[0] == str(overlay.folder / "bin" / name)
    assert _said(overlay, "sh", "-c", "command -v python3") == str(overlay.folder / "bin" / "python3")


def test_environment_in_an_environment(tmp_path: Path) -> None:
    """A venv that a task creates, as `use_venv` does, sees the packages of the task and of the server."""
    overlay, inner = make_overlay(tmp_path / "바깥"), tmp_path / "inner"
    purelib = _said(overlay, str(overlay.python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    (Path(purelib) / "only_there.py").write_text("WORD = 'seen'\n", encoding="utf-8")
    _said(overlay, "python3", "-m", "venv", str(inner), "--system-site-packages", "--without-pip")
    program = "import kfp, only_there, sys; print(only_there.WORD, sys.prefix)"
    assert _said(overlay, str(inner / "bin" / "python3"), "-c", program) == f"seen {inner}"


@pytest.mark.slow
def test_server_without_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the server has no pip, the one bundled with Python is installed, without a download."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pip" else find_spec(name))
    monkeypatch.setattr("kfadapter_embedded.runner.environment._package_folders", list)
    overlay = make_overlay(tmp_path / "o")
    assert str(overlay.folder) in _said(overlay, str(overlay.python), "-m", "pip", "--version")


def test_used_again_if_unchanged(tmp_path: Path) -> None:
    """A task gets the environment of an earlier one only if that left it as it was."""
    folders = AttemptFolders(Store(tmp_path, DEFAULT_ROOT))

    def inode_after(task: str, program: str) -> int:
        folders.take(tmp_path / task)
        tree = Tree(tmp_path / task / "places", "")
        for folder in (tree.work, tree.parameter("a").parent, tree.path(f"{DEFAULT_ROOT}/task")):
            assert folder
            folder.mkdir(parents=True, exist_ok=True)
        overlay = folders.environment(tmp_path / task)
        place = _said(overlay, "python3", "-c", f"import pathlib, sys; {program}; print(sys.prefix)")
        assert place == str(overlay.folder)
        inode = overlay.folder.stat().st_ino
        folders.give_back(tmp_path / task).result()
        return inode

    first = inode_after("1", "import kfp")
    assert not (tmp_path / "1").exists()
    assert inode_after("2", "pathlib.Path(sys.prefix, 'pyvenv.cfg').open('a').write('x = y')") == first
    assert not [*tmp_path.glob("*-spare")]
    for number, program in enumerate(("mkdir('include')", "chmod('bin', 0o700)", "unlink('bin/pip3')"), 3):
        inode_after(f"{number}", f"import os; os.chdir(sys.prefix); os.{program}")
        assert not [*tmp_path.glob("*-spare")]
    inode_after("6", "pass")
    assert [*tmp_path.glob("*-spare")]


def test_misleading_variables(tmp_path: Path) -> None:
    """Variables that redirect Python or pip, and the server's settings, are removed; others are kept."""
    outside = {
        "PIP_TARGET": "/x",
        "PYTHONPATH": "/x",
        "KFADAPTER_TOKEN": "secret",
        "PIP_INDEX_URL": "u",
        "PATH": "/bin",
    }
    variables = Overlay(tmp_path).variables(outside)
    assert {"PIP_TARGET", "PYTHONPATH", "KFADAPTER_TOKEN"}.isdisjoint(variables)
    assert variables["PIP_INDEX_URL"] == "u"
    assert variables["PATH"] == f"{tmp_path / 'bin'}{os.pathsep}/bin"
