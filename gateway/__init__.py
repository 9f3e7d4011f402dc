"""
Interlock: a gRPC model-serving gateway with the model lifecycle built in.

At this level live the composition of the processes (`app`) and what every room may import (`errors`, `clock`), nothing else.
"""

__version__ = "0.1.0"
