"""
The tour of `make demo`: real models, real images, a real gateway in its own processes.

Load tests use its models and its `process.GatewayProcess`. The gateway itself imports nothing from here.
"""
