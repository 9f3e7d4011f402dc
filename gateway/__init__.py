"""Interlock: a gRPC model-serving gateway with the model lifecycle built in."""

__version__ = "0.1.0"
