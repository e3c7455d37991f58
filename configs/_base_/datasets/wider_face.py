# What you will change: where the data is, the size of a batch.
data_root = 'data/wider_face/'
train_ann_file = 'wider_face_split/wider_face_train_bbx_gt.txt'
train_batch_size = 8
num_workers = 4

# What you may change: the input size and the augmentation.
img_scale = (640, 640)
crop_scales = (0.3, 0.45, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0)
train_pipeline = [
    dict(type='LoadFaceImage'),
    dict(type='LoadFaceAnnotations'),
    dict(type='RandomSquareCrop', scales=crop_scales, size=img_scale[0]),
    dict(type='RandomFaceFlip', prob=0.5),
    dict(type='FacePhotoMetricDistortion', brightness_delta=32, contrast_range=(0.5, 1.5),
         saturation_range=(0.5, 1.5), hue_delta=18),
    dict(type='PackFaceInputs')]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='KeepRatioResize', scale=img_scale),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]

# What is better left alone.
dataset_type = 'WiderFaceDataset'
train_dataloader = dict(
    batch_size=train_batch_size,
    num_workers=num_workers,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file=train_ann_file,
        data_prefix=dict(img='WIDER_train/images'),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=num_workers,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='wider_face_split/wider_face_val_bbx_gt.txt',
        data_prefix=dict(img='WIDER_val/images'),
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(type='WiderFaceMetric', ground_truth=data_root + 'ground_truth')
test_evaluator = val_evaluator
