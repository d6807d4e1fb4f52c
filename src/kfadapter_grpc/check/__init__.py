"""Which of KFP's rules a compiled pipeline breaks, found without running it. Needs the base install only."""

from kfadapter_grpc.check.findings import findings, notes
from kfadapter_grpc.check.reading import read_pipeline
from kfadapter_grpc.check.rules import Finding

__all__ = ["Finding", "findings", "notes", "read_pipeline"]
