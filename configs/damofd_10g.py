_base_ = './_base_/damofd.py'

model = dict(
    backbone=dict(
        type='DamoFDBackbone',
        stem=(56, 2),
        stages=[
            ('K1K3K1', 80, 40, 5),
            ('K1K5K1', 112, 32, 5),
            ('K1K3K1', 168, 16, 4),
            ('K7K7', 256, 8, 1),
        ]),
    neck=dict(in_channels=[80, 112, 168, 256], out_channels=56),
    bbox_head=dict(in_channels=56, feat_channels=80, stacked_convs=3, norm_cfg=dict(type='GN', num_groups=16)))
