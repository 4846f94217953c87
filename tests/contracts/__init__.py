"""The contracts of `fourd.types`, as checks that every plug-in of any package must pass."""
