"""A rule of KFP, and a finding: where a pipeline meets it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Severity: TypeAlias = Literal["error", "warning", "note"]

CLUSTERS = ("2.5", "2.17", "next")
"""The versions of KFP that were examined."""
UP_TO_2_17 = ("2.5", "2.17")
LAPTOP = "laptop"
"""The embedded KFP."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that fails, or behaves differently from how it looks.

    Attributes:
        severity: `error` for what fails on a cluster, `warning` for what may fail or differs there, `note` for
            what depends on how a cluster was installed.
        kfp: Where it applies: versions of KFP, and `laptop`.
    """

    task: str
    rule: str
    severity: Severity
    kfp: tuple[str, ...]
    what: str
    do: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of KFP, its SDK or the embedded KFP.

    Attributes:
        kfp: Where it applies: versions of KFP, `laptop` for the embedded KFP.
        what: What happens, in a sentence without its full stop; fields in braces are filled in.
    """

    name: str
    kfp: tuple[str, ...]
    what: str
    do: str

    def at(self, path: str, severity: Severity = "warning", /, **fields: str) -> Finding:
        """Returns a finding at the task with this path."""
        return Finding(path, self.name, severity, self.kfp, self.what.format(**fields), self.do)

    def text(self, **fields: str) -> str:
        """Formats the rule as a warning of a task."""
        return f"{self.where}: {self.what.format(**fields)}. {self.do} ({self.name})"

    @property
    def where(self) -> str:
        versions = [
            f"KFP {version}" if version[0].isdigit() else "the next KFP" for version in self.kfp if version != LAPTOP
        ]
        return " and ".join([", ".join(versions[:-1]), versions[-1]] if versions[1:] else versions or ["the laptop"])
