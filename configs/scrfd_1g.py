_base_ = './_base_/scrfd.py'

model = dict(
    backbone=dict(
        type='MobileNetV1',
        stem_planes=(32, 48),
        stage_planes=(48, 160, 216, 312),
        stage_blocks=(3, 2, 1, 5)),
    neck=dict(in_channels=[48, 160, 216, 312], out_channels=24),
    bbox_head=dict(
        in_channels=24, feat_channels=96, stacked_convs=2, depthwise=True, norm_cfg=dict(type='GN', num_groups=8)))
