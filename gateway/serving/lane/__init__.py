"""
Lanes: how calls reach the request path from gRPC, in batches, and how answers go back.

Nothing here knows models or versions.
"""
