# Focal and SmoothL1 instead of quality focal and DIoU losses.
_base_ = '../scrfd_2.5g.py'

model = dict(
    bbox_head=dict(
        loss_cls=dict(_delete_=True, type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(_delete_=True, type='SmoothL1Loss', beta=1 / 9, loss_weight=1.0)))
