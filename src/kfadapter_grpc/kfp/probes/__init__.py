"""Measures a KFP: whether it can be reached, and which of the facts that the adapter relies on hold there."""

from __future__ import annotations

from kfadapter_grpc.kfp.probes.bench import NO_SAMPLE, Probe
from kfadapter_grpc.kfp.probes.facts import PROBES
from kfadapter_grpc.kfp.probes.measuring import Finding, Outcome, measure
from kfadapter_grpc.kfp.probes.reaching import STAGES, Reach, Stage, reach

__all__ = ["NO_SAMPLE", "PROBES", "STAGES", "Finding", "Outcome", "Probe", "Reach", "Stage", "measure", "reach"]
