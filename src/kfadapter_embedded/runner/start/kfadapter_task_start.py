"""Runs at the start of every Python of a step that is a process, as its environment says.

KFP's SDK looks for the artifact of `minio://bucket/key` at `/minio/bucket/key`, which all steps of a machine share.
This sets the SDK's paths to those of the step, so that `artifact.path` and `dsl.get_uri` are right.
"""

import os
import sys
from importlib.machinery import PathFinder

PLACES = "KFADAPTER_PLACES"
_MODULE = "kfp.dsl.types.artifact_types"
_CONSTANTS = {
    "_GCS_LOCAL_MOUNT_PREFIX": "gcs",
    "_MINIO_LOCAL_MOUNT_PREFIX": "minio",
    "_S3_LOCAL_MOUNT_PREFIX": "s3",
    "WORKSPACE_MOUNT_PATH": "workspace",
}


class _Finder:
    """Finds one module, and sets its constants when it is imported."""

    @staticmethod
    def find_spec(name, path=None, target=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN205, ARG004
        spec = PathFinder.find_spec(name, path) if name == _MODULE else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            execute(module)
            for constant, folder in _CONSTANTS.items():
                setattr(module, constant, os.path.join(os.environ[PLACES], folder, ""))  # noqa: PTH118

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if PLACES in os.environ:
    sys.meta_path.insert(0, _Finder)
