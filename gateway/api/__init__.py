"""
The gRPC services: admin, data, feedback, health and reflection; the mapping of messages; the one table of error codes.

Only composition imports this package. Nothing here decides: it translates and calls `control` or a worker.
"""
