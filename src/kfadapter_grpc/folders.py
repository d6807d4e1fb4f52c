"""The folders of a user's files, by the XDG base directory specification."""

from __future__ import annotations

import os
from pathlib import Path


def state_folder() -> Path:
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (state if state.is_absolute() else Path.home() / ".local" / "state") / "kfadapter"


def page_note(adapter: str) -> Path:
    """The file in which `kfadapter dev` notes the address of its page while it runs, by the address of its adapter."""
    return state_folder() / "pages" / adapter.replace(":", "-")


def config_folder() -> Path:
    """The folder of contexts and logins. Raises RuntimeError without a home directory, as in some containers."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "kfadapter"
