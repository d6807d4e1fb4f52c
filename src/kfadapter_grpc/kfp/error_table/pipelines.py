"""Cases of pipelines and versions."""

from __future__ import annotations

import sys

from kfadapter_grpc.contract import errors
from kfadapter_grpc.kfp.error_table.general import COUNTS_BYTES, KFP_FILE_LIMIT, KFP_PACKET_LIMIT, Row
from kfadapter_grpc.kfp.failures import Operation

_O = Operation
_WITH_PIPELINE = (
    *(_O.GET_PIPELINE, _O.GET_BY_NAME, _O.UPDATE_PIPELINE, _O.DELETE_PIPELINE),
    *(_O.LIST_VERSIONS, _O.CHEAP_VERSIONS),
)

NO_SUCH_PIPELINE = "not found: pipeline {subject}; check the spelling and the namespace, or list the pipelines"
NO_SUCH_VERSION = "not found: version {subject} of the pipeline; ListVersions returns its versions"
_BAD_FILE = "Kubeflow Pipelines rejects the file as a pipeline: {detail}"

ROWS: tuple[Row, ...] = (
    Row(
        (413,),
        errors.UploadTooLargeError,
        "a proxy before Kubeflow Pipelines takes no file of {size} bytes; make it smaller, "
        "or ask its operator to raise the limit",
        ("fault: 413 for an upload",),
        operations=(_O.UPLOAD_VERSION,),
    ),
    Row(
        (404,),
        errors.VersionNotFoundError,
        NO_SUCH_VERSION,
        ("versions: get unknown version", "versions: delete it again", "fault: 404 for an update of a version"),
        operations=(_O.GET_VERSION, _O.UPDATE_VERSION, _O.DELETE_VERSION),
        pattern=r"PipelineVersion \S+ not found",
    ),
    Row(
        (404,),
        errors.PipelineNotFoundError,
        NO_SUCH_PIPELINE,
        (
            "pipelines: get unknown id",
            "pipelines: get unknown name",
            "pipelines: delete deleted",
            "versions: list of unknown pipeline",
            "versions: version of unknown pipeline",
            "kfp-2.5/versions: version of unknown pipeline",
            "seams: v1beta1 of an unknown pipeline",
            "fault: 404 for an update",
        ),
        operations=_WITH_PIPELINE,
        pattern=r"Pipeline .+ not found",
    ),
    Row(
        (409,),
        errors.PipelineExistsError,
        "there is a pipeline {subject} already; choose another name, or upload a new version of it",
        ("pipelines: same name again", "seams: the same name again"),
        operations=(_O.CREATE_PIPELINE,),
    ),
    Row(
        (409,),
        errors.VersionExistsError,
        "the pipeline has a version named '{version}' already (letter case does not count); "
        "choose another version name, or none to get the next number",
        ("versions: same version name again", "versions: same name, other case, again"),
        operations=(_O.UPLOAD_VERSION,),
    ),
    Row(
        (400,),
        errors.PipelineHasVersionsError,
        "the pipeline {subject} has versions; set force to delete them all",
        ("pipelines: delete with a version left",),
        operations=(_O.DELETE_PIPELINE,),
        pattern=r"existing pipeline versions",
    ),
    Row(
        (400,),
        errors.UnsupportedByKfpError,
        "this Kubeflow Pipelines keeps no tags (they came with 2.17); leave the filter on tags out",
        ("kfp-2.5/seams: pipelines filtered by tag",),
        operations=(_O.LIST_PIPELINES, _O.LIST_VERSIONS),
        pattern=r'unrecognized field \\?"tags\.',
    ),
    Row(
        (405, 501),
        errors.UnsupportedByKfpError,
        "this Kubeflow Pipelines cannot change a display name or tags (it can from 2.17 on); upload a new version with "
        "the display name, or upgrade it",
        (
            "kfp-2.5/pipelines: update tags and display name",
            "kfp-2.5/seams: patch a version: display name and tags change",
        ),
        operations=(_O.UPDATE_PIPELINE, _O.UPDATE_VERSION),
    ),
    Row(
        (400,),
        errors.UploadTooLargeError,
        "the file has {size} bytes, more than the {limit} that Kubeflow Pipelines takes; make it smaller",
        ("bad_uploads: 33 MiB",),
        operations=(_O.UPLOAD_VERSION,),
        pattern=r"^Failed to read a pipeline spec file",
        sizes=range(KFP_FILE_LIMIT + 1, sys.maxsize),
    ),
    Row(
        (400,),
        errors.InvalidPipelineFileError,
        "Kubeflow Pipelines cannot read the file; an archive must hold one pipeline file",
        ("bad_uploads: zip without members", "bad_uploads: broken zip"),
        operations=(_O.UPLOAD_VERSION,),
        pattern=r"^Failed to read a pipeline spec file",
    ),
    Row(
        (400,),
        errors.InvalidFieldError,
        "the pipeline's name is too long: " + COUNTS_BYTES,
        ("bad_uploads: name of 300 characters",),
        operations=(_O.CREATE_PIPELINE,),
        pattern=r"\bPipeline\.Name length cannot exceed",
        field="metadata.name",
    ),
    Row(
        (400,),
        errors.InvalidFieldError,
        "the version's name (the pipeline's, if a first version has none) is too long: " + COUNTS_BYTES,
        ("fault: 400 for a version's name of 128 bytes",),
        operations=(_O.UPLOAD_VERSION,),
        pattern=r"\bPipelineVersion\.Name length cannot exceed",
        field="metadata.version_name",
    ),
    Row(
        (400, 500),
        errors.InvalidFieldError,
        "a name or text is too long for Kubeflow Pipelines: {detail}",
        ("kfp-2.5/bad_uploads: name of 300 characters",),
        operations=(_O.UPLOAD_VERSION, _O.CREATE_PIPELINE),
        pattern=r"length cannot exceed|Data too long",
        field="metadata.name",
    ),
    Row(
        (400,),
        errors.InvalidFieldError,
        "Kubeflow Pipelines rejects the tags: {detail}",
        ("seams: tag value of 64 characters", "seams: tag key with a dot", "seams: 21 tags"),
        operations=(_O.UPLOAD_VERSION, _O.CREATE_PIPELINE),
        pattern=r"tag (value|key) |number of tags",
        field="metadata.tags",
    ),
    Row(
        (400, 500),
        errors.InvalidPipelineFileError,
        _BAD_FILE,
        (
            "bad_uploads: YAML but not a pipeline",
            "bad_uploads: unknown schema version",
            "bad_uploads: capitals in the spec's name",
            "kfp-2.5/bad_uploads: YAML but not a pipeline",
        ),
        operations=(_O.UPLOAD_VERSION,),
        pattern=r"unknown template format|pipeline spec|schema version"
        r"|pipeline's name must|InvalidInputError|yaml:|json:",
    ),
    Row(
        (500,),
        errors.UploadTooLargeError,
        "Kubeflow Pipelines failed to store {size} bytes; its database takes less than {limit} in one statement unless "
        "max_allowed_packet is raised. Make the file smaller, or ask KFP's operator",
        ("fault: 500 for 17 MiB",),
        operations=(_O.UPLOAD_VERSION,),
        sizes=range(KFP_PACKET_LIMIT, KFP_FILE_LIMIT + 1),
    ),
    Row(
        (400,),
        errors.InvalidPipelineFileError,
        _BAD_FILE,
        ("fault: 400 with words of its own",),
        operations=(_O.UPLOAD_VERSION,),
        pattern=r"^(?!Failed to create a pipeline( version)?$)",
    ),
    Row(
        (400,),
        errors.InvalidFieldError,
        "Kubeflow Pipelines rejects the name: {detail}",
        ("kfp-2.5/seams: the same name again",),
        operations=(_O.CREATE_PIPELINE,),
        field="metadata.name",
    ),
)
