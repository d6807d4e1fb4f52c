"""Checks what a run is given against what its version declares, as far as that is known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.parameters import check_parameters
from kfadapter_grpc.contract.spec import ParameterType, PipelineFormat

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kfadapter_grpc.contract.pipelines import PipelineVersion
    from kfadapter_grpc.contract.spec import Json, SpecSummary

_PARTS_OF_PARAMETERS = ("inputDefinitions", "arguments")
_WHOLES = ("$", "root", "spec")


def checked_parameters(version: PipelineVersion, given: Mapping[str, Json]) -> Mapping[str, Json]:
    """The values as KFP takes them.

    Args:
        version: The version with its spec summary.
        given: The values.

    Raises:
        ParameterUnknownError: A name is not declared.
        ParameterTypeError: A value is not of its declared type.
        ParameterMissingError: A parameter has no value and no default.
    """
    spec = version.spec
    if spec is None:
        return check_parameters((), given, complete=False)
    declared = spec.parameters
    if spec.format is PipelineFormat.ARGO_V1:  # its types are the author's words, and KFP takes texts for all of them
        declared = tuple(replace(one, type=ParameterType.UNKNOWN) for one in declared)
    return check_parameters(declared, given, complete=_tells_all_parameters(spec))


def _tells_all_parameters(spec: SpecSummary) -> bool:
    """Whether a summary names all parameters; what it could not read or tell is among its unknown parts."""
    return not any(part in _WHOLES or any(one in part for one in _PARTS_OF_PARAMETERS) for part in spec.unknown_parts)
