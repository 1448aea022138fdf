"""Rewriting of planned programs, one pass a file: what a program means stays as it is, what it costs does not."""
