"""The tour of `make demo`: real models, real images, a real gateway in its own processes."""
