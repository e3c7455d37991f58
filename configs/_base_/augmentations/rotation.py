# Faces at any angle, to be added to the `augmentations` of a training pipeline; landmarks and tight boxes turn along.
rotation_augmentations = [dict(type='RandomFaceRotation', degrees=180, prob=0.5)]
