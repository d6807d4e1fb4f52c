"""All scenarios."""

from __future__ import annotations

from robustness import broken_lines, drain, fairness, faults, overload, soak

SCENARIOS = {
    one.name: one
    for one in (
        overload.SCENARIO,
        fairness.SCENARIO,
        drain.SCENARIO,
        broken_lines.SCENARIO,
        faults.SCENARIO,
        soak.SCENARIO,
    )
}
"""The scenarios by name, in the order in which they are run."""
