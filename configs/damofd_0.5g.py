_base_ = './_base_/damofd.py'

model = dict(
    backbone=dict(
        type='DamoFDBackbone',
        stem=(32, 1),
        stages=[
            ('DWK3', 32, 8, 1),
            ('DWK7', 64, 40, 1),
            ('DWK7', 120, 40, 2),
            ('DWK5', 160, 120, 1),
        ]),
    neck=dict(in_channels=[32, 64, 120, 160], out_channels=16),
    bbox_head=dict(
        in_channels=16, feat_channels=64, stacked_convs=2, depthwise=True, norm_cfg=dict(type='GN', num_groups=16)))

crop_faces = dict(_base_.crop_faces, scales=(1.0, 1.2, 1.4, 1.6, 1.8, 2.0))
train_pipeline = [*_base_.load_faces, crop_faces, *_base_.augmentations, _base_.pack_faces]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=5000, by_epoch=False),
    dict(type='MultiStepLR', begin=0, end=640, milestones=[440, 544], gamma=0.1, by_epoch=True),
]
