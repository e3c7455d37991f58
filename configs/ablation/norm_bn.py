# Batch norm instead of group norm in the shared head.
_base_ = '../scrfd_2.5g.py'

model = dict(bbox_head=dict(norm_cfg=dict(_delete_=True, type='BN')))
