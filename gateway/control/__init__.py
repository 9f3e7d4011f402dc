"""
The control process. `control.Control` builds its parts:

`desired` derives what every worker should load and route, `fleet` knows the attached workers, `changes` carries out every
change of what is served, `catalog` does everything else about models, `observe` shows the gateway's state. `answers`
answers the workers' questions.

Nothing here is on the request path, and nothing here loads or runs a model.
"""
