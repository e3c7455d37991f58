"""Head pose: how far a face is turned, from its five landmarks."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facedet_mm.imaging.alignment import similarity_transforms

__all__ = ["FACE_MODEL", "head_poses", "roll_angles"]

FACE_MODEL = (
    (-17.6, -19.5, 1.8),
    (17.6, -19.5, 1.8),
    (0.0, -0.3, -15.0),
    (-14.0, 19.5, -1.8),
    (14.0, 19.5, -1.8),
)
"""The five landmarks of an average face in space: x to the right, y down, z away from the camera.

The unit is a pixel of :data:`~facedet_mm.imaging.alignment.ARCFACE_TEMPLATE`; the points are rounded from MediaPipe's
canonical face, which agrees with the template to one pixel. Its nose is 20 in front; detectors place the tip of a
turned nose closer to the middle of the face, as if it were 15.
"""


def roll_angles(landmarks: ArrayLike) -> NDArray[np.float32]:
    """Returns by how many degrees faces are turned in the image plane: the turn that ``Faces.align`` undoes.

    Args:
        landmarks: (N, 5, 2), x y in pixels, in the order of ``LANDMARK_NAMES``.

    Returns:
        (N,) float32, −180 to 180, clockwise as seen in the image: 0 is upright, 90 has the eyes on the right. NaN if
        the landmarks coincide or are not finite. Alignment differs by up to half a degree, since ArcFace's template is
        not symmetric.

    Example:
        >>> points = np.array([[40, 40], [60, 40], [50, 50], [42, 62], [58, 62]])
        >>> clockwise = points[:, ::-1] * [-1, 1]
        >>> np.abs(roll_angles([points, clockwise]).round()).tolist()
        [0.0, 90.0]
    """
    back = similarity_transforms(landmarks, np.array(FACE_MODEL)[:, :2])
    degrees = np.degrees(np.arctan2(-back[:, 1, 0], back[:, 0, 0]))
    return np.where(back[:, :, :2].any(axis=(1, 2)), degrees, np.nan).astype(np.float32)


def head_poses(landmarks: ArrayLike) -> NDArray[np.float32]:
    """Returns roll, pitch and yaw of faces in degrees.

    A face is turned upright by :func:`roll_angles`. Then the affine camera that maps :data:`FACE_MODEL` closest to the
    landmarks (least squares) gives, by its polar decomposition, the closest rotation under scaled orthographic
    projection (Horn, Hilden and Negahdaripour 1988), and with it the direction in which the face looks. Unlike the
    rotation that fits the landmarks best, it trusts the position of the nose more than the outline, which differs more
    between people.

    Args:
        landmarks: (N, 5, 2), x y in pixels, in the order of ``LANDMARK_NAMES``.

    Returns:
        (N, 3) float32. Roll: see :func:`roll_angles`. Pitch: −90 to 90, positive when the upright face looks up. Yaw:
        −180 to 180, positive when it looks to the right edge of the image. NaN if the landmarks coincide, lie on a line
        or are not finite.

    Example:
        >>> front = np.array(FACE_MODEL)[:, :2]
        >>> nose_to_the_right = front + [[0, 0], [0, 0], [5, 0], [0, 0], [0, 0]]
        >>> np.abs(head_poses([front, nose_to_the_right])[:, 2].round()).tolist()
        [0.0, 18.0]
    """
    roll = roll_angles(landmarks)
    usable = np.isfinite(roll)
    points = np.where(usable[:, None, None], np.asarray(landmarks, np.float64), np.array(FACE_MODEL)[:, :2])
    back = -np.radians(np.where(usable, roll, 0).astype(np.float64))
    turn = np.array([[np.cos(back), -np.sin(back)], [np.sin(back), np.cos(back)]]).transpose(2, 0, 1)
    model = np.array(FACE_MODEL)
    model -= model.mean(axis=0)
    camera = turn @ (points - points.mean(axis=1, keepdims=True)).transpose(0, 2, 1) @ np.linalg.pinv(model).T
    u, sizes, vt = np.linalg.svd(camera, full_matrices=False)
    right, down = (u @ vt).transpose(1, 0, 2)
    away = np.cross(right, down)
    pitch = np.degrees(np.arcsin(np.clip(down[:, 2], -1, 1)))
    yaw = np.degrees(np.arctan2(-right[:, 2], away[:, 2]))
    flat = sizes[:, 1] < 1e-6 * sizes[:, 0]
    poses = np.column_stack([roll, pitch, yaw]).astype(np.float32)
    poses[flat | ~usable, 1:] = np.nan
    return poses
