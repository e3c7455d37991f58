# From scratch on a few hundred images on a laptop's CPU: shows that training works, not what SCRFD can do.
_base_ = '../scrfd_0.5g.py'

max_epochs = 60
train_pipeline = _base_.train_pipeline
train_pipeline[2].size = 320
train_dataloader = dict(num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=1)
train_cfg = dict(max_epochs=max_epochs, val_interval=5)
optim_wrapper = dict(optimizer=dict(lr=0.02))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, begin=0, end=2, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=2, end=max_epochs, T_max=max_epochs - 2, by_epoch=True,
         convert_to_iter_based=True, eta_min_ratio=0.01),
]
