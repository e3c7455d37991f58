_base_ = './_base_/damofd.py'

model = dict(
    backbone=dict(
        type='DamoFDBackbone',
        stem=(24, 2),
        stages=[
            ('K3K3', 32, 24, 4),
            ('K3K3', 56, 16, 4),
            ('K5K5', 88, 8, 5),
            ('K1K5K1', 128, 8, 4),
        ]),
    neck=dict(in_channels=[32, 56, 88, 128], out_channels=24),
    bbox_head=dict(in_channels=24, feat_channels=64, stacked_convs=2, norm_cfg=dict(type='GN', num_groups=16)))
