"""The memory of a process, as reported by Linux."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_KIB_PER_MIB = 1024


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Memory in MiB.

    Attributes:
        resident: All pages in memory (RSS).
        share: The same, with shared pages counted proportionally (PSS).
    """

    resident: float
    share: float


def memory_use(pid: int) -> MemoryUse:
    """Reads the current memory of a process."""
    fields = _fields(Path(f"/proc/{pid}/smaps_rollup"))
    return MemoryUse(fields["Rss"], fields["Pss"])


def forget_peak(pid: int) -> None:
    """Resets `resident_peak`."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def resident_peak(pid: int) -> float:
    """Reads the kernel's peak RSS since `forget_peak`, in MiB."""
    return _fields(Path(f"/proc/{pid}/status"))["VmHWM"]


def _fields(path: Path) -> dict[str, float]:
    lines = (line.split() for line in path.read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) / _KIB_PER_MIB for words in lines if words[-1:] == ["kB"]}
