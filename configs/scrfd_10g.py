_base_ = './_base_/scrfd.py'

model = dict(
    backbone=dict(
        type='ResNetV1e',
        block='BasicBlock',
        stage_blocks=(3, 4, 2, 3),
        stage_planes=(56, 88, 88, 224),
        base_channels=56),
    neck=dict(in_channels=[56, 88, 88, 224], out_channels=56),
    bbox_head=dict(in_channels=56, feat_channels=80, stacked_convs=3, norm_cfg=dict(type='GN', num_groups=16)))
