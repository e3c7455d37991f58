# Fine-tunes official weights on your own faces; docs/own_data.md walks through it. FaceDataset reads COCO, YOLO, Pascal
# VOC, labelme and three text formats. For another size, change _base_ and load_from; the rest may stay as it is.
_base_ = './scrfd_0.5g_kps.py'

load_from = 'scrfd_0.5g_kps.pth'
data = dict(type='FaceDataset', data_root='data/mine/', data_prefix=dict(img='images'))
train_dataloader = dict(dataset=dict(**data, ann_file='train.json'))
val_dataloader = dict(dataset=dict(**data, ann_file='val.json'))
test_dataloader = val_dataloader
val_evaluator = dict(ground_truth=None, ann_file='data/mine/val.json')
test_evaluator = val_evaluator

epochs = 20
train_cfg = dict(max_epochs=epochs, val_interval=1)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=epochs, eta_min_ratio=0.01, convert_to_iter_based=True)]
default_hooks = dict(checkpoint=dict(save_best='wider_face_ann/hard'))
