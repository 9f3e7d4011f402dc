"""
Crashes of versions: what control knows of them, decides about them, and does.

`decide` has the rules and values, and does nothing. `containment` keeps what is known and carries decisions out. Workers and
their processes are not here: the supervisor sees them die, and workers contain what they are told to.
"""
