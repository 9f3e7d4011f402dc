"""
The messages between control and workers: the desired state down; the observed state, counts, predictions and traces up;
questions and answers. `handshake` is how they begin, `link` carries them.

Values only, and the link. Nothing here decides or acts on them, and neither side's code is imported.
"""
