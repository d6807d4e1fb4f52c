"""The domain of pipelines: records, errors and the repository's interface. No I/O, no proto, no KFP."""
