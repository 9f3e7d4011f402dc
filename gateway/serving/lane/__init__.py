"""
Lanes: hand over the calls that are ready, in batches, and send their answers. `opening.open_lane` chooses one.

`fast` polls gRPC core itself, `standard` uses grpcio's public API, and the same tests run on both. Streams are split into
calls. Nothing here knows requests, models or versions.
"""
