"""Image operations on arrays: alignment, attributes, anonymization, corruptions. Any room above io may import it."""

from facedet_mm.imaging.alignment import align_faces, crop_faces
from facedet_mm.imaging.attributes import FaceAttributes, face_attributes
from facedet_mm.imaging.pose import head_poses, roll_angles

__all__ = ["FaceAttributes", "align_faces", "crop_faces", "face_attributes", "head_poses", "roll_angles"]
