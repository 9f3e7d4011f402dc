"""
The control process: what should run, which workers there are, every change of what is served, and what is shown of it.

`control.Control` builds the parts. Nothing here is on the request path, and nothing here loads or runs a model.
"""
