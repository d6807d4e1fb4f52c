"""The records of the API, its errors and its rules. No I/O, no proto, no KFP.

What the fields of a record mean is in the comments of the protos, which have the same names.
"""
