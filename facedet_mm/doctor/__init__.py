"""What works in this installation and what repairs it. Imports detectors and zoo; only cli imports it."""
