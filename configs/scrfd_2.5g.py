_base_ = './_base_/scrfd.py'

model = dict(
    backbone=dict(
        type='ResNetV1e',
        block='BasicBlock',
        stage_blocks=(3, 5, 3, 2),
        stage_planes=(24, 48, 48, 80),
        base_channels=24),
    neck=dict(in_channels=[24, 48, 48, 80], out_channels=24),
    bbox_head=dict(in_channels=24, feat_channels=64, stacked_convs=2, norm_cfg=dict(type='GN', num_groups=16)))
