_base_ = ['../scrfd_2.5g.py', '../_base_/augmentations/robust.py']

train_pipeline = [*_base_.train_pipeline[:-1], *_base_.robust_augmentations, _base_.train_pipeline[-1]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
