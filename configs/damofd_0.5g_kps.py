_base_ = './damofd_0.5g.py'

model = dict(bbox_head=dict(with_landmarks=True))
train_dataloader = dict(dataset=dict(ann_file='retinaface_gt/train/label.txt'))
