"""All scenarios."""

from __future__ import annotations

from robustness import drain, fairness, overload

SCENARIOS = {one.name: one for one in (overload.SCENARIO, fairness.SCENARIO, drain.SCENARIO)}
"""The scenarios by name, in the order in which they are run."""
