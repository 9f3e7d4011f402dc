"""
The wire format of the Open Inference Protocol v2: `decode` reads requests, `encode` writes responses. Pure.

Nothing here knows calls, versions in memory or arms; `placement` and `placed_response` are for tensors in shared memory.
"""
