"""Checks of the installation and commands that fix it. Imports system, zoo and detectors; only cli imports it."""
