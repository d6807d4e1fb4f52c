"""Servicers: message in, one repository call, message out. No I/O, no KFP words."""

from kfadapter_grpc.services.registration import Servicer, add_servicer

__all__ = ["Servicer", "add_servicer"]
