"""The memory of a process, as Linux tells it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_KIB_PER_MIB = 1024


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """In MiB.

    Attributes:
        resident: All pages that are in memory (RSS).
        share: The same, pages shared with other processes counted in part (PSS).
    """

    resident: float
    share: float


def memory_use(pid: int) -> MemoryUse:
    """Reads what a process uses now."""
    fields = _fields(Path(f"/proc/{pid}/smaps_rollup"))
    return MemoryUse(fields["Rss"], fields["Pss"])


def forget_peak(pid: int) -> None:
    """Makes `resident_peak` begin anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def resident_peak(pid: int) -> float:
    """Reads the largest RSS since `forget_peak`, which the kernel itself has seen, in MiB."""
    return _fields(Path(f"/proc/{pid}/status"))["VmHWM"]


def _fields(path: Path) -> dict[str, float]:
    lines = (line.split() for line in path.read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) / _KIB_PER_MIB for words in lines if words[-1:] == ["kB"]}
