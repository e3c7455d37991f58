"""Robustness, backends and timing of detectors; imported by report, cli and tools."""
