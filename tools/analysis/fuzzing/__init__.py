"""Makers and readers of the files of tools/analysis/fuzz.py."""
