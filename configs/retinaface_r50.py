# The PyTorch authors train on four GPUs with 6 images each, on crops of 840 pixels.
_base_ = './retinaface_mnet0.25.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=50,
        norm_eval=False,
        style='pytorch',
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50')),
    neck=dict(in_channels=[256, 512, 1024, 2048], out_channels=256, act_cfg=dict(_delete_=True, type='ReLU')),
    bbox_head=dict(in_channels=256))

crop_faces = dict(_base_.crop_faces, size=840)
train_pipeline = [*_base_.load_faces, crop_faces, *_base_.augmentations, _base_.pack_faces]
train_dataloader = dict(batch_size=6, dataset=dict(pipeline=train_pipeline))

train_cfg = dict(max_epochs=100)
param_scheduler = [dict(type='MultiStepLR', begin=0, end=100, milestones=[70, 90], gamma=0.1, by_epoch=True)]
auto_scale_lr = dict(base_batch_size=24)
