"""Servicers: message in, one repository call, message out. No I/O, no KFP words."""
