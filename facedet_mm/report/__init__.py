"""The report page, plots and training logs. Imports rooms up to benchmark; cli, tools and the plugin may import it.

Nothing is imported here; the command line starts at :mod:`facedet_mm.report.page`.
"""
