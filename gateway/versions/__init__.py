"""
The versions in a worker's memory, from load to unload: states, policy, manager, loader and warm-up.

Nothing here knows requests or routes.
"""
