"""
What control and workers say to each other: desired state down; observed state, counts, predictions and traces up; questions.

Values only, and the link that carries them. Nothing here decides or acts on them, and neither side's code is imported.
"""
