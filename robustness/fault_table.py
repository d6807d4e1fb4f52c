"""The table of docs/robustness.md that tells how calls end which meet with a fault of KFP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter_grpc.methods import METHODS
from robustness.documented import table_in_page, write_table
from robustness.faulty_kfp import FAULTS
from robustness.scenario import Finding, Stage, exactly

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Ends = dict[tuple[str, str], set[str]]
"""How calls ended, by the RPC's path and the fault."""
_TABLE = "faults"


def compared(ends: Mapping[str, Ends], stage: Stage) -> Finding:
    """Compares the table with what was found, or writes it anew.

    Args:
        ends: By what met with the fault, in words.
        stage: Tells which of the two.
    """
    what, table = "the table in docs/robustness.md", _table(ends)
    if stage.renew:
        write_table(_TABLE, table)
        return Finding(what, "renewed")
    shown = table_in_page(_TABLE)
    missing = [line for line in table.splitlines() if line not in shown.splitlines()]
    found = "as found" if shown == table else f"differs: {missing}; --renew writes it"
    return exactly(what, found, "as found")


def _table(ends: Mapping[str, Ends]) -> str:
    """The ends as Markdown: RPCs that end alike share a line."""
    lines = ["| Fault | What meets with it | End of the call | RPCs |", "|---|---|---|---|"]
    for fault in FAULTS:
        for what, found in ends.items():
            lines += _lines(fault, what, found)
    return "\n".join(lines) + "\n"


def _lines(fault: str, what: str, ends: Ends) -> Iterator[str]:
    rpcs: dict[str, list[str]] = {}
    for path, method in METHODS.items():
        if (path, fault) in ends:
            end = " or ".join(f"`{one}`" for one in sorted(ends[path, fault]))
            rpcs.setdefault(end, []).append(f"{method.service.rpartition('.')[2]}/{method.name}")
    most = max(rpcs, key=lambda end: len(rpcs[end]), default="")
    for end, names in sorted(rpcs.items(), key=lambda item: -len(item[1])):
        others = "all others" if len(rpcs) > 1 else "all"
        yield f"| {fault} | {what} | {end} | {others if end == most else ', '.join(names)} |"
