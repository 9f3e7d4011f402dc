"""
Every setting as one validated value, and how it is read from options and `INTERLOCK_*` variables.

Nothing here starts anything.
"""
