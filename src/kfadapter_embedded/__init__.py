"""A Kubeflow Pipelines API server for one machine: laptops, tests and demos.

It speaks KFP's REST API v2beta1 (as of 2.17.0) for pipelines, their versions and uploads, experiments, runs and
recurring runs, and the cheap v1beta1 list of versions. It executes runs on this machine; recurring runs are kept and
shown, and never fire. It keeps everything in one folder, and listens on loopback only. It always runs in a process of
its own: `python -m kfadapter_embedded --data DIR --port N`, or `kfadapter_embedded.process.start`.

The layers, from the outside in: `server` (the process: folder, port, signals), `application` (all routes), the
modules named `..._routes` (HTTP in, one call inwards, JSON out), `pipeline_file` (what KFP accepts as a pipeline),
`run_requests` (what it accepts as a run), `run_control` (what is done with runs) and `store` (SQLite, one module per
area). Runs are executed behind `execution`: `run_control` hands jobs to its `Executor`, and `run_progress` is the
`Observer` that is told how they go on.
"""
