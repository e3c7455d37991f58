# The landmark model without its landmarks: what the extra task gives or costs (baseline: ../scrfd_2.5g_kps.py).
_base_ = '../scrfd_2.5g_kps.py'

model = dict(bbox_head=dict(with_landmarks=False))
