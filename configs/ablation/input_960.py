# Training and testing at 960 instead of 640.
_base_ = '../scrfd_2.5g.py'

train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[2].size = 960
test_pipeline[1].scale = (960, 960)
model = dict(data_preprocessor=dict(test_size=960))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
