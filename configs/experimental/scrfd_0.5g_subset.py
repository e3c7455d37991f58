# Training from scratch on a few hundred images with a laptop's CPU: shows that training works, not how good SCRFD is.
_base_ = '../scrfd_0.5g.py'

crop_faces = dict(_base_.crop_faces, size=320)
train_pipeline = [*_base_.load_faces, crop_faces, *_base_.augmentations, _base_.pack_faces]
train_dataloader = dict(num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=1)
train_cfg = dict(max_epochs=60, val_interval=5)
optim_wrapper = dict(optimizer=dict(lr=0.02))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, begin=0, end=2, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=2, end=60, T_max=58, by_epoch=True, convert_to_iter_based=True,
         eta_min_ratio=0.01),
]
