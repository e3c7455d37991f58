"""Face annotations, the dataset and the transforms of the training half.

Nothing is imported here, so that the evaluation can use :mod:`facedet_mm.datasets.annotations` without torch.
``facedet_mm.datasets.wider_face`` and ``facedet_mm.datasets.transforms`` register themselves with MMDetection;
name both in ``custom_imports``.
"""
