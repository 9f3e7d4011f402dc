"""
The protobuf messages and service descriptors of protos/, used by `api`, `serving.oip` and `client`.

No behaviour of any service lives here.
"""
