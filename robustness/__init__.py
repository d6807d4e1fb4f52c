"""Proofs that the adapter holds under load, faults and bad input; run them with scripts/robustness."""
