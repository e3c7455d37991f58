# Sample redistribution off: crops of at most the short side (baseline: ../scrfd_2.5g.py, up to 2.0).
_base_ = '../scrfd_2.5g.py'

crop_faces = dict(_base_.crop_faces, scales=(0.3, 0.45, 0.6, 0.8, 1.0))
train_pipeline = [*_base_.load_faces, crop_faces, *_base_.augmentations, _base_.pack_faces]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
