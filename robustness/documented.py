"""What the documents say: the reasons that each RPC may end with, and tables that are made from a run."""

from __future__ import annotations

import re
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
PAGE = _ROOT / "docs" / "robustness.md"
"""The page that holds the tables."""
_REASON = re.compile(r"// - [A-Z_]+ / ([A-Z_]+)")
_RPC = re.compile(r"^  rpc (\w+)\(")
_SERVICE = re.compile(r"^service (\w+)")


def reasons() -> dict[str, frozenset[str]]:
    """The reasons that the contract's comments name, by the RPC's path; those of the service's comment included."""
    found: dict[str, frozenset[str]] = {}
    of_all: dict[str, frozenset[str]] = {}
    for file in (_ROOT / "protos" / "kfadapter" / "v1").glob("*.proto"):
        service, noted = "", set[str]()
        for line in file.read_text(encoding="utf-8").splitlines():
            if reason := _REASON.search(line):
                noted.add(reason[1])
            elif begins := _SERVICE.match(line):
                service, of_all[begins[1]], noted = begins[1], frozenset(noted), set()
            elif rpc := _RPC.match(line):
                found[f"/kfadapter.v1.{service}/{rpc[1]}"], noted = frozenset(noted), set()
    # The services without a list of their own name that of RunService.
    return {path: own | (of_all[_service(path)] or of_all["RunService"]) for path, own in found.items()}


def _service(path: str) -> str:
    return path.split("/")[1].rpartition(".")[2]


def table_in_page(name: str) -> str:
    """The table of this name as the page has it; empty if it has none."""
    found = _place(name).search(PAGE.read_text(encoding="utf-8"))
    return found[2] if found else ""


def write_table(name: str, table: str) -> None:
    """Puts a table into the page, in place of the one of this name."""
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(_place(name).sub(lambda found: found[1] + table + found[3], text), encoding="utf-8")


def _place(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name}: .*? -->\n\n)(.*?\n|)(\n<!-- end of {name} -->)", re.DOTALL)
