"""Computation redistribution: the search for the best way to spread a compute budget over a detector.

SCRFD (arXiv 2105.04714, section 4) draws random networks of one budget, trains each briefly and uses the bootstrap to
find where the best ones lie. The first step varies only the backbone's stages; the second varies backbone, neck and
head together, with the backbone spread as the first step found. Only the search tool imports this room.
"""
