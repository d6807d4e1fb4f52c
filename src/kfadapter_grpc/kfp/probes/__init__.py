"""Measures a KFP: whether it can be reached, and which of the facts that the adapter relies on hold there."""

from __future__ import annotations

from kfadapter_grpc.kfp.probes import facts as facts  # declares the probes
from kfadapter_grpc.kfp.probes.bench import NO_SAMPLE
from kfadapter_grpc.kfp.probes.probe import PROBES, Finding, Outcome, Probe, measure
from kfadapter_grpc.kfp.probes.reaching import STAGES, Reach, Stage, reach

__all__ = ["NO_SAMPLE", "PROBES", "STAGES", "Finding", "Outcome", "Probe", "Reach", "Stage", "measure", "reach"]
