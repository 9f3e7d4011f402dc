"""
The wire format of the Open Inference Protocol v2: `decode` reads requests, `encode` writes responses. Pure.

Nothing here knows calls, versions in memory or arms. `placement` is for tensors in shared memory, `classification` for
outputs that are classified, `composed_response` for the responses with either.
"""
