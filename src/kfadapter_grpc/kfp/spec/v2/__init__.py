"""Reads the pipeline specs of KFP v2."""
