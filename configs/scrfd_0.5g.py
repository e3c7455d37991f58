_base_ = './_base_/scrfd.py'

model = dict(
    backbone=dict(
        type='MobileNetV1',
        stem_planes=(16, 16),
        stage_planes=(40, 72, 152, 288),
        stage_blocks=(2, 3, 2, 6)),
    neck=dict(in_channels=[40, 72, 152, 288], out_channels=16),
    bbox_head=dict(
        in_channels=16, feat_channels=64, stacked_convs=2, depthwise=True, norm_cfg=dict(type='GN', num_groups=16)))
