train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=640, val_interval=10)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=3, by_epoch=True, convert_to_iter_based=True),
    dict(type='MultiStepLR', begin=0, end=640, milestones=[440, 544], gamma=0.1, by_epoch=True),
]

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4))

# total batch size that the learning rate is meant for; --auto-scale-lr scales it linearly from there
auto_scale_lr = dict(enable=False, base_batch_size=8)
