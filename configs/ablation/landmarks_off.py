# The landmark model without landmarks, to measure the effect of the extra task (baseline: ../scrfd_2.5g_kps.py).
_base_ = '../scrfd_2.5g_kps.py'

model = dict(bbox_head=dict(with_landmarks=False))
