"""
Every setting of a gateway as one validated value (`values.Settings`), made of the sections that its parts are given whole.

`environment` reads options and `INTERLOCK_*` variables, under the same names. Nothing here starts anything, and nothing here
imports another room.
"""
