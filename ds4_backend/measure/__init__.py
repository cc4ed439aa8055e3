"""Measuring and checking an engine: random models of the true shapes, `bench`, `doctor`, published vectors.

Importing the package loads none of them. It serves the command line; nothing that answers a request imports it.
"""
