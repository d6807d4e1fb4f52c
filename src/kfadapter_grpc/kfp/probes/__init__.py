"""Measures a KFP: whether it can be reached, and which of the facts that the adapter leans on hold there.

Each fact is one `Probe`; `kfadapter doctor` and `scripts/measure-kfp` use the same ones. What KFP is known to break on
is left alone: malformed YAML makes 2.5.0 and 2.17.0 spin for ever, a second POST of a run id leaves a workflow behind.
"""

from __future__ import annotations

from kfadapter_grpc.kfp.probes.bench import NO_SAMPLE
from kfadapter_grpc.kfp.probes.catalog import PROBES
from kfadapter_grpc.kfp.probes.cost import COSTS, Cost, measure_costs
from kfadapter_grpc.kfp.probes.measuring import measure
from kfadapter_grpc.kfp.probes.probe import Finding, Outcome, Probe
from kfadapter_grpc.kfp.probes.reaching import STAGES, Reach, Stage, reach

__all__ = [
    "COSTS",
    "NO_SAMPLE",
    "PROBES",
    "STAGES",
    "Cost",
    "Finding",
    "Outcome",
    "Probe",
    "Reach",
    "Stage",
    "measure",
    "measure_costs",
    "reach",
]
