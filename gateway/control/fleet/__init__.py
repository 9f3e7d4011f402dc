"""
The attached workers: their connections, their last reports, and how far each has come with a change (`progress`, pure).

`workers.Fleet` is the entry. Nothing here decides what should run.
"""
