# Assignment by IoU (positive from 0.5, negative below 0.35) instead of ATSS.
_base_ = '../scrfd_2.5g.py'

model = dict(
    train_cfg=dict(
        assigner=dict(_delete_=True, type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.35, min_pos_iou=0)))
