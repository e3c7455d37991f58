"""Computation redistribution: the search for how a budget is best spread over a detector.

SCRFD (arXiv 2105.04714, section 4) draws networks of one budget at random, trains each briefly and asks by the
bootstrap where the best lie: first for the backbone's stages alone, then for backbone, neck and head together with the
backbone spread as the first step found.
"""
