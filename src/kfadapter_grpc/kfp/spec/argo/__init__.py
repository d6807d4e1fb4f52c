"""Reads Argo Workflows, which is what KFP v1 compiles to."""
