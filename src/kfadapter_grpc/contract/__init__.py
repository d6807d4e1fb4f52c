"""What the program knows of pipelines: models, errors and the repository's interface. No I/O, no proto, no KFP."""
