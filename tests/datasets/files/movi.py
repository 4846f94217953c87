"""Write a small copy of MOVi: two boxes that move and turn over a floor within a dome, rendered ray by ray.

The renderer knows nothing of the reader: it says what each pixel shows, and where that is in any other frame.
"""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from fourd.datasets._tfrecord import masked_crc32c
from fourd.datasets.movi import MoviConfig, base

WIDTH, HEIGHT, NUM_FRAMES = 60, 40, 6
FOCAL, SENSOR = 35.0, 32.0
NUM_FILMS = 3
DOME = 30.0
SIZES = np.array([[2.4, 1.4, 1.8], [0.7, 0.9, 0.5]])

# ----------------------------------------------------------------------------- the world


def turn(axis: Sequence[float], angle: float) -> np.ndarray:
    """Make a unit quaternion, real part first, that turns by an angle about an axis."""
    unit = np.array(axis) / np.linalg.norm(axis)
    return np.array([np.cos(angle / 2), *(np.sin(angle / 2) * unit)])


def matrix(quaternion: np.ndarray) -> np.ndarray:
    """Turn a quaternion into a matrix, by turning the axes one after the other."""
    w, v = quaternion[0], quaternion[1:]
    turned = [e + 2 * np.cross(v, np.cross(v, e) + w * e) for e in np.eye(3)]
    return np.stack(turned, axis=-1)


@dataclass(frozen=True)
class World:
    """Say where everything is in each frame of a film."""

    film: int

    def object_pose(self, number: int, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """Give an object's quaternion and place."""
        if number == 0:
            place = np.array([0.2 + 0.12 * frame, -0.5 + 0.1 * frame, 1.0 + 0.2 * self.film])
            return turn((0.2, 0.1, 1.0), 0.4 + 0.35 * frame), place
        return turn((1.0, 0.3, -0.5), 0.5 * frame + self.film), np.array([3.2, -2.2 + 0.5 * frame, 2.1])

    def camera_pose(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """Give the camera's quaternion and place; it looks at the origin along -z, with y up."""
        place = np.array([7.0, -2.5 + 0.25 * frame, 4.0 + 0.1 * self.film])
        back = place / np.linalg.norm(place)
        right = np.cross([0.0, 0.0, 1.0], back)
        right /= np.linalg.norm(right)
        axes = np.stack([right, np.cross(back, right), back], axis=-1)
        w = np.sqrt(1 + np.trace(axes)) / 2
        skew = [axes[2, 1] - axes[1, 2], axes[0, 2] - axes[2, 0], axes[1, 0] - axes[0, 1]]
        return np.array([w, *(np.array(skew) / (4 * w))]), place

    def rays(self, frame: int) -> np.ndarray:
        """Give the directions of all pixels' centres in the world, of length 1: H W 3."""
        x = ((np.arange(WIDTH) + 0.5) / WIDTH - 0.5) * SENSOR
        y = (0.5 - (np.arange(HEIGHT) + 0.5) / HEIGHT) * SENSOR * HEIGHT / WIDTH
        rays = np.stack([*np.meshgrid(x, y), np.full((HEIGHT, WIDTH), -FOCAL)], axis=-1)
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        return rays @ matrix(self.camera_pose(frame)[0]).T

    def cast(self, frame: int, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Follow rays from the camera (... 3): how far each goes, what it meets (0: nothing that moves), the normal."""
        origin = self.camera_pose(frame)[1]
        distance, normal = _dome_and_floor(origin, rays)
        what = np.zeros(rays.shape[:-1], int)
        for number in range(len(SIZES)):
            far, facing = self._box(number, frame, origin, rays)
            nearer = far < distance
            distance, what = np.where(nearer, far, distance), np.where(nearer, number + 1, what)
            normal = np.where(nearer[..., None], facing, normal)
        return distance, what, normal

    def _box(self, number: int, frame: int, origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        quaternion, place = self.object_pose(number, frame)
        turned = matrix(quaternion)
        start, along = (origin - place) @ turned, rays @ turned
        ends = np.sort(np.stack([(side * SIZES[number] / 2 - start) / along for side in (-1, 1)]), axis=0)
        enter, leave = ends[0].max(-1), ends[1].min(-1)
        face = ends[0].argmax(-1)
        facing = -np.sign(np.take_along_axis(along, face[..., None], -1)) * np.eye(3)[face]
        return np.where((enter < leave) & (enter > 0), enter, np.inf), facing @ turned.T

    def within(self, number: int, frame: int, points: np.ndarray) -> np.ndarray:
        """Say where in an object's box points of the world are: 0 to 1 along each axis."""
        quaternion, place = self.object_pose(number, frame)
        return (points - place) @ matrix(quaternion) / SIZES[number] + 0.5

    def carried(self, number: int, frame: int, places: np.ndarray) -> np.ndarray:
        """Say where in the world places in an object's box are."""
        quaternion, place = self.object_pose(number, frame)
        return ((places - 0.5) * SIZES[number]) @ matrix(quaternion).T + place

    def image(self, frame: int, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Say where in the picture points of the world are, in pixels, and how deep: as Kubric's own cameras do."""
        quaternion, place = self.camera_pose(frame)
        seen = (points - place) @ matrix(quaternion)
        height = SENSOR * HEIGHT / WIDTH
        intrinsics = np.array([[FOCAL / SENSOR, 0, -0.5], [0, -FOCAL / height, -0.5], [0, 0, -1]])
        projected = seen @ intrinsics.T
        return projected[..., :2] / projected[..., 2:] * (WIDTH, HEIGHT), -seen[..., 2]

    def seen(self, frame: int, points: np.ndarray) -> np.ndarray:
        """Say whether nothing stands between the camera and points of the world."""
        away = points - self.camera_pose(frame)[1]
        distance = np.linalg.norm(away, axis=-1)
        return self.cast(frame, away / distance[..., None])[0] > distance * (1 - 1e-6)


def _dome_and_floor(origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    half = rays @ origin
    dome = -half + np.sqrt(half**2 - origin @ origin + DOME**2)
    floor = np.where(rays[..., 2] < 0, -origin[2] / np.minimum(rays[..., 2], -1e-9), np.inf)
    inward = -(origin + dome[..., None] * rays) / DOME
    return np.minimum(dome, floor), np.where((floor < dome)[..., None], (0.0, 0.0, 1.0), inward)


# ----------------------------------------------------------------------------- the files


def png(pixels: np.ndarray) -> bytes:
    """Encode a picture of 8 or 16 bits, with one channel or three."""
    height, width = pixels.shape[:2]
    wide, colours = pixels.dtype == np.uint16, pixels.ndim == 3
    rows = pixels.astype(">u2" if wide else np.uint8).reshape(height, -1)
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, 16 if wide else 8, 2 if colours else 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b""))
    chunks = [struct.pack(">I", len(part)) + name + part + _crc(name + part) for name, part in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _crc(data: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(data))


def whole(values: np.ndarray) -> np.ndarray:
    """Store shares from 0 to 1 in 16 bits."""
    return np.round(np.clip(values, 0, 1) * 65535).astype(np.uint16)


def varint(value: int) -> bytes:
    """Encode a number as protocol buffers do: seven bits a byte, the lowest first."""
    value &= 2**64 - 1
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])


def message(number: int, data: bytes) -> bytes:
    """Encode a field that has a length."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def feature(values: Sequence | np.ndarray, packed: bool = True) -> bytes:
    """Encode a list of bytes, of float32 or of int64, packed together or each by itself."""
    if len(values) and isinstance(values[0], bytes):
        return message(1, b"".join(message(1, value) for value in values))
    array = np.asarray(values).flatten()
    if array.dtype.kind == "f":
        singly = [b"\x0d" + struct.pack("<f", value) for value in array]
        return message(2, message(1, array.astype("<f4").tobytes()) if packed else b"".join(singly))
    numbers = [varint(int(value)) for value in array]
    return message(3, message(1, b"".join(numbers)) if packed else b"".join(b"\x08" + number for number in numbers))


def example(features: Mapping[str, Sequence | np.ndarray], packed: bool = True) -> bytes:
    """Encode a tf.train.Example."""
    entries = [message(1, name.encode()) + message(2, feature(values, packed)) for name, values in features.items()]
    return message(1, b"".join(message(1, entry) for entry in entries))


def record(data: bytes) -> bytes:
    """Frame a record."""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))


def film(number: int) -> dict[str, Sequence | np.ndarray]:
    """Render a film, and describe it as TensorFlow Datasets does."""
    world = World(number)
    pictures: dict[str, list] = {"video": [], "segmentations": [], "normal": [], "object_coordinates": []}
    distances = []
    for frame in range(NUM_FRAMES):
        rays = world.rays(frame)
        distance, what, normal = world.cast(frame, rays)
        points = world.camera_pose(frame)[1] + distance[..., None] * rays
        places = np.zeros((HEIGHT, WIDTH, 3))
        for at in range(len(SIZES)):
            places = np.where((what == at + 1)[..., None], world.within(at, frame, points), places)
        shade = np.stack([what * 90 + 40, 100 + normal[..., 2] * 99, what * 0 + 20 * frame], axis=-1)
        distances.append(distance)
        pictures["video"].append(png(shade.astype(np.uint8)))
        pictures["segmentations"].append(png(what.astype(np.uint8)))
        pictures["normal"].append(png(whole((normal + 1) / 2)))
        pictures["object_coordinates"].append(png(whole(places)))
    least, most = np.min(distances), np.max(distances)
    pictures["depth"] = [png(whole((distance - least) / (most - least))) for distance in distances]
    return {**_metadata(number, least, most), **_camera(world), **_instances(world), **_rest(), **pictures}


def _metadata(number: int, least: float, most: float) -> dict:
    return {
        "metadata/video_name": [f"{40 + number}".encode()],
        "metadata/width": np.array([WIDTH]),
        "metadata/height": np.array([HEIGHT]),
        "metadata/num_frames": np.array([NUM_FRAMES]),
        "metadata/num_instances": np.array([len(SIZES)]),
        "metadata/depth_range": np.array([least, most]),
        "metadata/forward_flow_range": np.array([-1.0, 1.0]),
        "metadata/backward_flow_range": np.array([-1.0, 1.0]),
        "background": [b"some_field"],
    }


def _camera(world: World) -> dict:
    poses = [world.camera_pose(frame) for frame in range(NUM_FRAMES)]
    return {
        "camera/focal_length": np.array([FOCAL]),
        "camera/sensor_width": np.array([SENSOR]),
        "camera/field_of_view": np.array([2 * np.arctan2(SENSOR / 2, FOCAL)]),
        "camera/quaternions": np.array([quaternion for quaternion, _ in poses]),
        "camera/positions": np.array([place for _, place in poses]),
    }


def _instances(world: World) -> dict:
    numbers, frames = range(len(SIZES)), range(NUM_FRAMES)
    corners = np.array(list(itertools.product([0.0, 1.0], repeat=3)))
    poses = [[world.object_pose(number, frame) for frame in frames] for number in numbers]
    boxes = [seen_boxes(world, number) for number in numbers]
    return {
        "instances/mass": np.ones(len(SIZES)),
        "instances/positions": np.array([[place for _, place in of_object] for of_object in poses]),
        "instances/quaternions": np.array([[quaternion for quaternion, _ in of_object] for of_object in poses]),
        "instances/bboxes_3d": np.array(
            [[world.carried(number, frame, corners) for frame in frames] for number in numbers]
        ),
        "instances/bboxes/ragged_flat_values": np.array([box for of_object in boxes for box in of_object.values()]),
        "instances/bboxes/ragged_row_lengths_0": np.array([len(of_object) for of_object in boxes]),
        "instances/bbox_frames/ragged_flat_values": np.array([frame for of_object in boxes for frame in of_object]),
        "instances/bbox_frames/ragged_row_lengths_0": np.array([len(of_object) for of_object in boxes]),
        "instances/asset_id": [b"one", b"other"],
        "instances/is_dynamic": np.array([1, 1]),
    }


def _rest() -> dict:
    flow = np.arange(NUM_FRAMES * HEIGHT * WIDTH * 2) % 65536
    return {"forward_flow": flow, "backward_flow": flow, "events/collisions/force": np.zeros(0)}


def seen_boxes(world: World, number: int) -> dict[int, tuple[float, float, float, float]]:
    """Give an object's box in each frame in which it is seen: y, x, y, x as shares, round whole pixels."""
    boxes = {}
    for frame in range(NUM_FRAMES):
        rows, columns = np.nonzero(world.cast(frame, world.rays(frame))[1] == number + 1)
        if len(rows):
            least = rows.min() / HEIGHT, columns.min() / WIDTH
            boxes[frame] = (*least, (rows.max() + 1) / HEIGHT, (columns.max() + 1) / WIDTH)
    return boxes


def write(root: Path) -> MoviConfig:
    """Write three films in two files."""
    root.mkdir(parents=True)
    records = [record(example(film(number))) for number in range(NUM_FILMS)]
    (root / "movi_e-train.tfrecord-00000-of-00002").write_bytes(b"".join(records[:2]))
    (root / "movi_e-train.tfrecord-00001-of-00002").write_bytes(records[2])
    return replace(base(str(root)), num_frames=4, size=(20, 28), num_points=9, num_tracks=40)


def picture_of(data: bytes) -> np.ndarray:
    """Decode what `png` encoded in 8 bits."""
    return np.asarray(Image.open(io.BytesIO(data)))
