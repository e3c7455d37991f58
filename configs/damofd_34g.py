_base_ = './_base_/damofd.py'

model = dict(
    backbone=dict(
        type='DamoFDBackbone',
        stem=(56, 2),
        stages=[
            ('K1K3K1', 224, 80, 5),
            ('K1K3K1', 488, 40, 6),
            ('K1K3K1', 624, 72, 4),
            ('K1K7K1', 816, 24, 3),
        ]),
    neck=dict(in_channels=[224, 488, 624, 816], out_channels=128),
    bbox_head=dict(in_channels=128, feat_channels=256, stacked_convs=2, norm_cfg=dict(type='GN', num_groups=32)))
optim_wrapper = dict(optimizer=dict(lr=0.02))
