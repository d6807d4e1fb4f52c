"""The layers around every call of the contract, in a fixed order."""
