"""A second opinion on the solids, in double precision: whether a point is inside, and what a ray meets first."""

import numpy as np

from fourd.datasets.toy_world.camera import camera_path, intrinsics
from fourd.datasets.toy_world.clips import World
from fourd.datasets.toy_world.draw import draw_scene
from fourd.datasets.toy_world.scene import GROUND, NUM_OBJECTS, SKY, WALL, Kind
from fourd.datasets.toy_world.stage import motion_of

FAR = 24.0
STEP_M = 0.004


def inside(kind: Kind, size: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Tell for each point, in the solid's own frame, whether it is inside; written from the shapes' definitions."""
    (a, b, c), (x, y, z) = size, np.moveaxis(points, -1, 0)
    out, ends = np.hypot(x, y), np.sqrt(x**2 + y**2 + (np.abs(z) - b) ** 2)
    corner = np.array([0.0, a]), np.array([np.sqrt(0.75) * a, -a / 2]), np.array([-np.sqrt(0.75) * a, -a / 2])
    sides = list(zip(corner, (*corner[1:], corner[0]), strict=True))  # clockwise: what is inside is right of each
    left_of = [(q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0]) for p, q in sides]
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            Kind.SPHERE: lambda: x**2 + y**2 + z**2 < a**2,
            Kind.BOX: lambda: (np.abs(x) < a) & (np.abs(y) < b) & (np.abs(z) < c),
            Kind.CAPSULE: lambda: ((out < a) & (np.abs(z) < b)) | (ends < a),
            Kind.CYLINDER: lambda: (out < a) & (np.abs(z) < b),
            Kind.ELLIPSOID: lambda: (x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2 < 1,
            Kind.CONE: lambda: (np.abs(z) < b) & (out < a * (b - z) / (2 * b)),
            Kind.PRISM: lambda: (np.abs(z) < b) & (np.max(left_of, axis=0) < 0),
            Kind.OCTAHEDRON: lambda: np.abs(x) / a + np.abs(y) / b + np.abs(z) / c < 1,
            Kind.RING: lambda: (np.abs(z) < b) & (out < a) & (out > c),
            Kind.DUMBBELL: lambda: (ends < a) | ((out < c) & (np.abs(z) < b)),
        }[kind]()


class Witness:
    """Hold one clip's solids, walls and cameras, and look at them along single rays."""

    def __init__(self, world: World, index: int) -> None:
        self.scene = draw_scene(world.look, world.seed, index)
        self.cameras = camera_path(self.scene.camera, self.scene.labels.camera_motion, world.time_s / world.duration_s)
        self.motion = motion_of(self.scene, self.cameras[0], world.time_s)
        self.pinhole = intrinsics(world.height, world.width, self.scene.field_of_view_rad)

    def look(self, frame: int, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give the depth along z and the thing that is met first, for points `n 2` of a picture."""
        rays = np.concatenate([xy, np.ones((len(xy), 1))], axis=1) @ np.linalg.inv(self.pinhole).T
        start, lines = self.cameras[frame, :3, 3], rays @ self.cameras[frame, :3, :3].T
        with np.errstate(divide="ignore"):
            options = [np.where(lines[:, 2] < 0, -start[2] / lines[:, 2], np.inf)]
        things = [GROUND, *range(NUM_OBJECTS)]
        options += [self._solid_depth(frame, k, start, lines) for k in range(NUM_OBJECTS)]
        for number, (x, y, distance, height) in enumerate(self.scene.walls):
            far = -(start @ [x, y, 0] + distance) / (lines @ [x, y, 0])
            met = (far > 0) & (lines @ [x, y, 0] < 0) & (start[2] + far * lines[:, 2] < height)
            options.append(np.where(met, far, np.inf))
            things.append(WALL + number)
        nearest = np.argmin(options, axis=0)
        depth = np.min(options, axis=0)
        return np.where(depth < FAR, depth, np.inf), np.where(depth < FAR, np.array(things)[nearest], SKY)

    def _solid_depth(self, frame: int, k: int, start: np.ndarray, lines: np.ndarray) -> np.ndarray:
        """Walk along each ray in small steps until inside, then halve the last step again and again."""
        kind, size = Kind(self.scene.bodies.kind[k]), self.scene.bodies.size[k]
        turn, place = self.motion.rotation[frame, k], self.motion.position[frame, k]
        origin, direction = (start - place) @ turn, lines @ turn
        length = np.linalg.norm(direction, axis=-1)
        middle, reach = -(direction @ origin) / length**2, 1.7 * np.linalg.norm(size) / length
        steps = (middle - reach)[:, None] + np.linspace(0, 1, int(4 * np.linalg.norm(size) / STEP_M)) * (2 * reach)[
            :, None
        ]
        within = inside(kind, size, origin + steps[..., None] * direction[:, None])
        first = within.argmax(axis=1)
        high = np.take_along_axis(steps, first[:, None], 1)[:, 0]
        low = high - (steps[:, 1] - steps[:, 0])
        for _ in range(30):
            half = (low + high) / 2
            is_in = inside(kind, size, origin + half[:, None] * direction)
            low, high = np.where(is_in, low, half), np.where(is_in, half, high)
        return np.where(within.any(axis=1), high, np.inf)
