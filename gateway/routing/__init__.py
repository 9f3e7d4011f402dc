"""Who answers a request: the compiled route of a model and the choice of an arm. Pure."""
