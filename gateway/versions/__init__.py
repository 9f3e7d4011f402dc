"""
The versions in a worker's memory, from load to unload.

`states` is the table of states, `policy` decides what to do next, `manager` does it, one `entry` per version and load.
`onnx_loader` loads, `warm_up` runs a version before it serves, `loaded.LoadedVersion` is what requests lease,
`snapshot.Snapshot` is what the request path reads.

Nothing here knows requests, routes' arms or gRPC. Leases are taken and ended in `gateway.serving.lease` only.
"""
