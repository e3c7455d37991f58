_base_ = ['../scrfd_0.5g_kps.py', '../_base_/augmentations/rotation.py']

augmentations = [*_base_.augmentations, *_base_.rotation_augmentations]
train_pipeline = [*_base_.load_faces, _base_.crop_faces, *augmentations, _base_.pack_faces]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
