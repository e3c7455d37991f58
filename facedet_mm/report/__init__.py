"""One page about one or several runs: what was learnt, what is found, what is missed.

Nothing is imported here; the command line starts at :mod:`facedet_mm.report.page`.
"""
