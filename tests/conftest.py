"""Puts this folder on the path, so that tests can share helpers such as `random_model`."""
