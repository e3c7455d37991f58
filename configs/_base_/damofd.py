# SCRFD with another backbone. The authors train on four GPUs with 8 images each.
_base_ = ['./scrfd.py']

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=1500, by_epoch=False),
    dict(type='MultiStepLR', begin=0, end=640, milestones=[440, 544], gamma=0.1, by_epoch=True),
]
auto_scale_lr = dict(base_batch_size=32)
