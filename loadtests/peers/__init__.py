"""The benchmark against other Python model servers: each in its own environment, the same model, the same requests."""
