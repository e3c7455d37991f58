_base_ = './_base_/scrfd.py'

model = dict(
    backbone=dict(
        type='ResNetV1e',
        block='Bottleneck',
        stage_blocks=(17, 16, 2, 8),
        stage_planes=(56, 56, 144, 184),
        base_channels=56),
    neck=dict(in_channels=[224, 224, 576, 736], out_channels=128),
    bbox_head=dict(in_channels=128, feat_channels=256, stacked_convs=2, norm_cfg=dict(type='GN', num_groups=32)))
optim_wrapper = dict(optimizer=dict(lr=0.02))
auto_scale_lr = dict(base_batch_size=16)
