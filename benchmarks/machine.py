"""The machine of a run."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

_KIB_PER_GIB = 1024 * 1024
_PACKAGES = ("grpcio", "protobuf", "kfp", "kfp-server-api")


def facts() -> dict[str, str]:
    """Returns the machine, the versions and the date."""
    found = {
        "Date": datetime.now(timezone.utc).date().isoformat(),
        "CPU": f"{len(os.sched_getaffinity(0))} x {_value('/proc/cpuinfo', 'model name')}",
        "Memory": f"{int(_value('/proc/meminfo', 'MemTotal').split()[0]) / _KIB_PER_GIB:.1f} GiB",
        "System": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "Python": platform.python_version(),
    }
    return found | {package: version(package) for package in _PACKAGES}


def _value(path: str, key: str) -> str:
    for line in Path(path).read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return "0 (unknown)"
