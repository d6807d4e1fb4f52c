"""All scenarios."""

from __future__ import annotations

from robustness import fairness, overload

SCENARIOS = {one.name: one for one in (overload.SCENARIO, fairness.SCENARIO)}
"""The scenarios by name, in the order in which they are run."""
