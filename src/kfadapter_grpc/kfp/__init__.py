"""The only code that knows the API of Kubeflow Pipelines (KFP)."""
