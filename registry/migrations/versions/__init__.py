"""One module a schema revision, each naming the one before."""
