"""
Running a model: the session protocol, ONNX Runtime behind it, tensors between wire and numpy, the trial and the serving
layout in child processes, and what the system offers (memory, scheduling, shared memory).

Nothing here knows versions, routes or requests of callers.
"""
