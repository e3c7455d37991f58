# Robustness augmentation on: blur, JPEG, darkness and erased patches (baseline: ../scrfd_2.5g.py, off).
_base_ = '../robust/scrfd_2.5g_robust.py'
