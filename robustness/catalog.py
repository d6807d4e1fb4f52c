"""All scenarios."""

from __future__ import annotations

from robustness import (
    bad_input,
    broken_lines,
    cancels,
    disk,
    drain,
    fairness,
    faults,
    hostile_callers,
    kills,
    overload,
    soak,
    stream_overload,
)

SCENARIOS = {
    one.name: one
    for one in (
        overload.SCENARIO,
        stream_overload.SCENARIO,
        fairness.SCENARIO,
        hostile_callers.SCENARIO,
        drain.SCENARIO,
        broken_lines.SCENARIO,
        faults.SCENARIO,
        bad_input.SCENARIO,
        cancels.SCENARIO,
        kills.SCENARIO,
        disk.SCENARIO,
        soak.SCENARIO,
    )
}
"""The scenarios by name, in the order in which they are run."""
