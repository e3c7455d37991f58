# WIDER FACE at an input size of 640 pixels. MMEngine evaluates this file before the config that builds on it, so that
# config has to rebuild a pipeline to change one of its steps: ../../README.md shows how.

load_faces = [dict(type='LoadFaceImage'), dict(type='LoadFaceAnnotations')]
crop_faces = dict(type='RandomSquareCrop', scales=(0.3, 0.45, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0), size=640)
augmentations = [
    dict(type='RandomFaceFlip', prob=0.5),
    dict(type='FacePhotoMetricDistortion', brightness_delta=32, contrast_range=(0.5, 1.5),
         saturation_range=(0.5, 1.5), hue_delta=18),
]
pack_faces = dict(type='PackFaceInputs')
train_pipeline = [*load_faces, crop_faces, *augmentations, pack_faces]

load_image = dict(type='LoadImageFromFile')
resize_image = dict(type='KeepRatioResize', scale=(640, 640))
pack_image = dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))
# after resizing, so that the faces drawn beside the predictions fit the original image
load_truth = dict(type='LoadFaceAnnotations', with_keypoints=False)
test_pipeline = [load_image, resize_image, load_truth, pack_image]

train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='WiderFaceDataset',
        data_root='data/wider_face/',
        ann_file='wider_face_split/wider_face_train_bbx_gt.txt',
        data_prefix=dict(img='WIDER_train/images'),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='WiderFaceDataset',
        data_root='data/wider_face/',
        ann_file='wider_face_split/wider_face_val_bbx_gt.txt',
        data_prefix=dict(img='WIDER_val/images'),
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(type='WiderFaceMetric', ground_truth='data/wider_face/ground_truth')
test_evaluator = val_evaluator
