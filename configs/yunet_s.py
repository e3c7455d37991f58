_base_ = './yunet_n.py'

model = dict(
    backbone=dict(stage_channels=(32, 64, 64, 64, 64)),
    bbox_head=dict(shared_convs=0))
crop_faces = dict(_base_.crop_faces, scales=(0.3, 0.45, 0.6, 0.8, 1.0))
train_pipeline = [*_base_.load_faces, crop_faces, dict(type='RandomFaceFlip', prob=0.5), _base_.pack_faces]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
