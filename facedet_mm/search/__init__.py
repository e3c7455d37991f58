"""Architectures of one compute budget: costs, random draws, statistics and the search's journal; the plugin imports it.

It needs NumPy and Optuna, but neither torch nor OpenMMLab. The search itself is :mod:`facedet_mm.plugin.search`.
"""
