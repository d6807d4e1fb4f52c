"""An environment for each task, layered over this server's: packages that a task installs stay in it.

It contains every package that is installed for this server, needs no download, and costs almost no time or space.
Components that KFP compiled install packages when they run (`pip install`), which would otherwise change the server's
environment; and two tasks may need different versions of a package, as they may in separate containers.

The processes of a task are also found and killed by their environment variables. A process group is not enough: a
process that creates its own session leaves it. The variables that a process was started with are not lost by
accident, and can be read if there is a /proc.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# Each of these would direct Python or pip to another environment.
_MISLEADING = {
    "PYTHONHOME",
    "PYTHONNOUSERSITE",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "PYTHONSAFEPATH",
    "PIP_PREFIX",
    "PIP_REQUIRE_VIRTUALENV",
    "PIP_ROOT",
    "PIP_TARGET",
    "PIP_USER",
    "__PYVENV_LAUNCHER__",
}
_OWN_SETTINGS = "KFADAPTER_"
_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
# All of them, so that no other one on the PATH is found.
_PYTHON_NAMES = ("python", "python3", f"python{_VERSION}")
_OTHER_PIPS = ("pip3", f"pip{_VERSION}")
_PIP = '#!/bin/sh\nexec "$(dirname "$0")/python" -m pip "$@"\n'
_START = Path(__file__).with_name("start")
_START_MODULE = "kfadapter_task_start"

ARTIFACT_STORES = "KFADAPTER_ARTIFACT_STORES"
"""The variable of the adapter's setting that configures the object stores."""
VARIABLE = "KFADAPTER_FAMILY"
"""The variable that holds which run and which task a process belongs to, for example `4f6c/7`."""
ENGINE_NOTE = "engine.json"
"""The file in a run's folder for temporary files that names the engine of its containers."""
_PROC = Path("/proc")
_ROUNDS = 20


@dataclass(frozen=True)
class Overlay:
    """The environment of a task in its folder."""

    folder: Path

    @property
    def python(self) -> Path:
        """The environment's Python."""
        return self.folder / "bin" / "python"

    def variables(self, outside: Mapping[str, str]) -> dict[str, str]:
        """The environment variables for its processes, without the server's own settings, which may be secrets."""
        kept = {
            name: value
            for name, value in outside.items()
            if name not in _MISLEADING and not name.startswith(_OWN_SETTINGS)
        }
        path = f"{self.folder / 'bin'}{os.pathsep}{outside.get('PATH', os.defpath)}"
        # A virtual environment that a task creates (`use_venv`) finds this one as Python's user packages.
        own = dict.fromkeys(("VIRTUAL_ENV", "PYTHONUSERBASE"), str(self.folder))
        return {**kept, **own, "PATH": path, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}


def make_overlay(folder: Path) -> Overlay:
    """Creates an environment over the one that this Python runs in, in a new folder; raises OSError if it cannot.

    It has what `venv` creates, without scripts for shells: each step pays for every file of it.
    """
    # As `venv` does: outside of a virtual environment, it is `sys.executable`.
    overlay, python = Overlay(folder), Path(getattr(sys, "_base_executable", sys.executable))
    packages = folder / "lib" / f"python{_VERSION}" / "site-packages"
    packages.mkdir(parents=True)
    if sys.platlibdir != "lib":
        (folder / sys.platlibdir).symlink_to("lib")
    if sys.platform == "darwin":
        # For user packages, Apple's builds of Python leave out the version.
        packages.parent.with_name("python").symlink_to(packages.parent.name)
    overlay.python.parent.mkdir()
    for name in _PYTHON_NAMES:
        overlay.python.with_name(name).symlink_to(python)
    settings = {"home": python.parent, "include-system-site-packages": "false", "version": sys.version.split()[0]}
    text = "".join(f"{name} = {value}\n" for name, value in settings.items())
    (folder / "pyvenv.cfg").write_text(text, encoding="utf-8")
    below = "; ".join(f"site.addsitedir({one!r})" for one in _package_folders())
    start = f"import site; {below}\n{_START}\nimport {_START_MODULE}\n"
    (packages / "kfadapter.pth").write_text(start, encoding="utf-8")
    pip = overlay.python.with_name("pip")
    pip.write_text(_PIP, encoding="utf-8")
    pip.chmod(0o755)
    for name in _OTHER_PIPS:
        pip.with_name(name).symlink_to(pip.name)
    if importlib.util.find_spec("pip") is None:
        _install_pip(overlay)
    return overlay


def _install_pip(overlay: Overlay) -> None:
    """Installs the pip that is bundled with Python, for a server without pip."""
    command = [str(overlay.python), "-m", "ensurepip"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603  # its own Python
    if done.returncode:
        raise OSError(f"there is no pip, and Python brings none along: {done.stderr.strip()[-500:]}")


def _package_folders() -> list[str]:
    """The folders of installed packages on this Python's path."""
    return [one for one in sys.path if Path(one).name in {"site-packages", "dist-packages"}]


def end_family(mark: str) -> None:
    """Kills every process whose `VARIABLE` begins with this mark, except this one."""
    # A process that is forked meanwhile is found in the next round.
    for _ in range(_ROUNDS):
        found = list(_members(mark))
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            return


def end_containers(scratch: Path) -> None:
    """Kills and removes the containers of a run; does nothing if it had none, or if their engine is unreachable."""
    if (scratch / ENGINE_NOTE).exists():
        # Loaded only if needed: it takes longer than most steps.
        from .containers import remove_containers  # noqa: PLC0415

        remove_containers(scratch / ENGINE_NOTE)


def _members(mark: str) -> Iterator[int]:
    beginning = f"\0{VARIABLE}={mark}".encode()
    # Runs at the end of each task, over all processes of the machine, so it must be fast.
    for pid in map(int, filter(str.isdigit, os.listdir(_PROC) if _PROC.is_dir() else ())):  # noqa: PTH208
        if pid == os.getpid():
            continue
        try:
            with open(f"{_PROC}/{pid}/environ", "rb", buffering=0) as file:  # noqa: PTH123
                variables = b"\0" + file.read()
        except OSError:
            continue
        if beginning in variables:
            yield pid
