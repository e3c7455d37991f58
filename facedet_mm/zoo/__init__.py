"""The models this package knows, and their download. Imports system only; any room above it may import it."""

from facedet_mm.zoo.cache import cache_dir, cached_path, fetch, weights_path
from facedet_mm.zoo.registry import MODELS, Source, ZooModel, asset_path, config_path, find_model
from facedet_mm.zoo.thresholds import recommended_score_thr

__all__ = [
    "MODELS",
    "Source",
    "ZooModel",
    "asset_path",
    "cache_dir",
    "cached_path",
    "config_path",
    "fetch",
    "find_model",
    "recommended_score_thr",
    "weights_path",
]
