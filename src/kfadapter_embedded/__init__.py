"""A Kubeflow Pipelines API server for one machine: laptops, tests and demos.

It serves KFP's REST API v2beta1 (as of 2.17.0) for pipelines, their versions and uploads, experiments, runs and
recurring runs, and the cheap v1beta1 list of versions. It executes runs on this machine, also those of recurring runs.
It keeps everything in one folder, and listens on loopback only. It always runs in a process of its own:
`python -m kfadapter_embedded --data DIR --port N`, or `kfadapter_embedded.process.start`.

From the outside in: `server` (the process: folder, port, signals), `application` (all routes), one module per resource
(`pipelines`, `uploads`, `experiments`, `runs`, `run_logs`, `recurring_runs`), and `store`, which keeps each record as
the JSON document that the API serves; `kinds` lists them. `pipeline_file` reads what is uploaded, `run_requests` what
is to be run. `runs` hands jobs to `runner_pool`, whose reports `progress` keeps; `runner` executes one run. `schedules`
starts runs of recurring runs.
"""
