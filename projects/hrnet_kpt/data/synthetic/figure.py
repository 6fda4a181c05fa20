"""An articulated person as coloured polygons: a 3D skeleton in a random pose, rotated and projected.

Body coordinates are fractions of the body height: x to the person's left, y down, z forward.

Left and right limbs differ in a light seam along one edge: seen from the torso outwards, the seam of a left limb is on
its left edge, that of a right limb on its right edge. Stripes on left limbs would not work with training, which flips
images and swaps the labels: in every second image the striped limb would be the right one. A flip moves a seam to the
other edge, so that a flipped figure is labelled correctly. Everything else is symmetric: face, hair, colours, light.
"""

from __future__ import annotations

import colorsys
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..schema import COCO_PERSON

Array = NDArray[np.float64]
Colour = tuple[int, int, int]

ARC = np.linspace(0.0, 1.0, 8)
CIRCLE = np.array([(math.cos(k * math.pi / 8), math.sin(k * math.pi / 8)) for k in range(16)])
SEAM: Colour = (250, 248, 240)
LIMB_LIGHTNESS = (0.2, 0.62)  # dark enough for the seam to show


class Shape(NamedTuple):
    """A filled polygon: (n, 2) x and y, its colour, and its body part, a value of PART_NUMBER or 0."""

    polygon: Array
    colour: Colour
    part: int


def random_colour(rng: np.random.Generator, lightness: tuple[float, float] = (0.2, 0.95)) -> Colour:
    """A random colour of any hue. lightness: range of the value in HSV."""
    hue, saturation, value = rng.random(), rng.uniform(0.1, 0.9), rng.uniform(*lightness)
    return from_hsv(hue, saturation, value)


def limb(
    start: Array, end: Array, radii: tuple[float, float], colour: Colour, seam: float, part: int
) -> list[Shape]:
    """A tapered limb from start to end, (2,) each, and its light seam.

    seam: 1.0 for the left edge, seen from start to end; -1.0 for the right edge; 0.0 for no seam.
    """
    shapes = [Shape(capsule(start, end, radii), colour, part)]
    if seam:
        along = end - start
        side = seam * np.array([along[1], -along[0]]) / max(math.hypot(*along), 1e-9)
        edge = (start + side * radii[0] * 0.52, end + side * radii[1] * 0.52)
        shapes.append(Shape(capsule(*edge, (radii[0] * 0.4, radii[1] * 0.4)), SEAM, part))
    return shapes


def capsule(start: Array, end: Array, radii: tuple[float, float]) -> Array:
    """The polygon (n, 2) of the convex hull of two circles."""
    along = end - start
    distance = math.hypot(*along)
    if distance <= abs(radii[0] - radii[1]) + 1e-9:
        return disc(start if radii[0] > radii[1] else end, max(radii))
    angle = math.atan2(along[1], along[0])
    spread = math.acos((radii[0] - radii[1]) / distance)
    around_end = angle - spread + ARC * 2 * spread
    around_start = angle + spread + ARC * 2 * (math.pi - spread)
    angles = np.concatenate([around_end, around_start])
    vertices = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    vertices[: len(ARC)] = vertices[: len(ARC)] * radii[1] + end
    vertices[len(ARC) :] = vertices[len(ARC) :] * radii[0] + start
    return vertices


def disc(centre: Array, radius: float) -> Array:
    """The polygon (n, 2) of a circle."""
    return centre + CIRCLE * radius


def hull(points: Array) -> Array:
    """The convex hull of (n, 2) points, by Andrew's monotone chain."""
    ordered = sorted(map(tuple, points.tolist()))
    vertices: list[tuple[float, ...]] = []
    for chain in (ordered, ordered[::-1]):
        half: list[tuple[float, ...]] = []
        for x, y in chain:
            while len(half) > 1:
                (ax, ay), (bx, by) = half[-2:]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                half.pop()
            half.append((x, y))
        vertices += half[:-1]
    return np.array(vertices)


def from_hsv(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def shaded(colour: Colour, factor: float) -> Colour:
    red, green, blue = colour
    return round(red * factor), round(green * factor), round(blue * factor)


# Body parts: a keypoint is visible where one of its parts is in front.
LIMBS = ("upper_arm", "forearm", "thigh", "shin")
PARTS = ("torso", "head", *(f"{side}_{limb}" for limb in LIMBS for side in ("left", "right")))
PART_NUMBER = {name: number for number, name in enumerate(PARTS, start=1)}
SIDES = (("left", 1.0), ("right", -1.0))


class Pose(NamedTuple):
    """Angles in degrees.

    Attributes:
        limbs: Forward and sideways, from hanging down, of left_arm, left_forearm, left_thigh, left_shin, and the right.
        body: Of torso and head: lean (forward), lean_side, twist (of the shoulders), look (sideways), nod.
    """

    limbs: dict[str, tuple[float, float]]
    body: dict[str, float]


class Figure(NamedTuple):
    """A person.

    Attributes:
        shapes: From back to front.
        keypoints: (17, 2) x and y, in the units of the polygons.
        seen_through: For each keypoint, the body parts that do not occlude it when they are in front.
    """

    shapes: list[Shape]
    keypoints: Array
    seen_through: list[frozenset[int]]

    def place(self, scale: float, offset: Array) -> Figure:
        """Scale about the origin, then translate by offset (2,)."""
        return Figure(
            [shape._replace(polygon=shape.polygon * scale + offset) for shape in self.shapes],
            self.keypoints * scale + offset,
            self.seen_through,
        )

    def extent(self) -> tuple[Array, Array]:
        """The minimum and maximum x and y, (2,) each."""
        points = np.concatenate([shape.polygon for shape in self.shapes])
        return points.min(axis=0), points.max(axis=0)


def random_figure(
    rng: np.random.Generator, pose: Pose | None = None, yaw: float | None = None
) -> Figure:
    """A person of random build, pose, view and colours, around the origin; body height about 1.

    With the same state of `rng`, figures of different `pose` and `yaw` are the same person.

    Args:
        rng: The source of randomness.
        pose: Instead of a random one.
        yaw: The body's rotation about the vertical axis in degrees, 0 towards the viewer, instead of a random one.
    """
    joints, head_axes, girth = _skeleton(rng, pose)
    head_radius = math.dist(joints["head"], joints["chin"])

    # Front, back or half profile; then slightly from above, and rotated in the image plane.
    view = rng.choice(3, p=(0.7, 0.18, 0.12))
    yaws = (rng.normal(0, 20), 180 + rng.normal(0, 20), rng.choice((-1, 1)) * rng.uniform(40, 75))
    yaw = yaws[view] if yaw is None else yaw
    roll = rng.normal(0, 7) if rng.random() < 0.9 else rng.uniform(-40, 40)
    camera = _rotation(2, roll) @ _rotation(0, rng.uniform(-4, 16)) @ _rotation(1, yaw)
    joints = {name: camera @ point for name, point in joints.items()}
    flat = {name: point[:2] for name, point in joints.items()}

    skin, hair = _skin_and_hair(rng)
    shirt = random_colour(rng)
    torso = np.concatenate(
        [disc(flat[f"{side}_shoulder"], 0.048 * girth) for side, _ in SIDES]
        + [disc(flat[f"{side}_hip"], 0.058 * girth) for side, _ in SIDES]
        + [disc((flat["neck"] + flat["pelvis"]) / 2, 0.085 * girth)]
    )
    torso_depth = float((joints["neck"][2] + joints["pelvis"][2]) / 2)
    parts = [(torso_depth, [Shape(hull(torso), shirt, PART_NUMBER["torso"])])]
    head, face, face_depths = _head(
        flat, joints["head"], camera @ head_axes, head_radius, skin, hair
    )
    parts.append((float(joints["head"][2]) + 0.03, head))

    for side, sign in SIDES:
        sleeve, trouser = (random_colour(rng, LIMB_LIGHTNESS) for _ in range(2))
        shoe = random_colour(rng, (0.1, 0.4))
        for name, start, end, radii, colour, forward in (
            ("upper_arm", "shoulder", "elbow", (0.040, 0.034), sleeve, 0.02),
            ("forearm", "elbow", "wrist", (0.034, 0.027), sleeve, 0.03),
            ("thigh", "hip", "knee", (0.058, 0.044), trouser, -0.02),
            ("shin", "knee", "ankle", (0.044, 0.032), trouser, -0.03),
        ):
            first, last = f"{side}_{start}", f"{side}_{end}"
            number = PART_NUMBER[f"{side}_{name}"]
            thick = (radii[0] * girth, radii[1] * girth)
            shapes = limb(flat[first], flat[last], thick, colour, sign, number)
            if name == "forearm":
                shapes.insert(0, Shape(disc(flat[f"{side}_hand"], 0.034 * girth), skin, number))
            if name == "shin":
                toe = capsule(flat[last], flat[f"{side}_toe"], (0.034 * girth, 0.026 * girth))
                shapes.insert(0, Shape(toe, shoe, number))
            depth = float(joints[first][2] + joints[last][2]) / 2
            parts.append((depth + forward, shapes))

    parts.sort(key=lambda part: part[0])
    keypoints = [face[name] if name in face else flat[name] for name in COCO_PERSON.names]
    seen_through = [
        frozenset({PART_NUMBER["head"]} if face_depths[name] > 0 else ())
        if name in face
        else _seen_through(name, joints)
        for name in COCO_PERSON.names
    ]
    return Figure(
        [shape for _, shapes in parts for shape in shapes], np.array(keypoints), seen_through
    )


def _skeleton(rng: np.random.Generator, pose: Pose | None) -> tuple[dict[str, Array], Array, float]:
    """Joints in body coordinates, (3,) each; the head's axes left, down, forward as columns (3, 3); the girth."""
    random = _random_pose(rng)
    limbs, body = pose or random
    build = {
        name: rng.uniform(0.88, 1.12) for name in ("shoulder", "hip", "arm", "leg", "torso", "head")
    }
    girth = rng.uniform(0.85, 1.35)
    torso = _rotation(2, body["lean_side"]) @ _rotation(0, body["lean"])
    chest = torso @ _rotation(1, body["twist"])
    joints: dict[str, Array] = {"pelvis": np.zeros(3)}
    joints["neck"] = torso @ (0.0, -0.29 * build["torso"], 0.0)
    head_axes = torso @ _rotation(1, body["look"]) @ _rotation(0, body["nod"])
    radius = 0.085 * build["head"]
    joints["chin"] = joints["neck"] + head_axes @ (0.0, -0.035, 0.0)
    joints["head"] = joints["chin"] + head_axes @ (0.0, -radius, 0.0)
    for side, sign in SIDES:
        spread = 0.105 * build["shoulder"] + 0.015 * girth
        joint = joints["neck"] + chest @ (sign * spread, 0.025, 0.0)
        joints[f"{side}_shoulder"] = joint
        upper, lower = limbs[f"{side}_arm"], limbs[f"{side}_forearm"]
        joints[f"{side}_elbow"] = joint + 0.17 * build["arm"] * _direction(*upper, sign)
        reach = _direction(*lower, sign)
        joints[f"{side}_wrist"] = joints[f"{side}_elbow"] + 0.15 * build["arm"] * reach
        joints[f"{side}_hand"] = joints[f"{side}_wrist"] + 0.035 * reach
        joint = np.array([sign * (0.055 * build["hip"] + 0.015 * girth), 0.0, 0.0])
        joints[f"{side}_hip"] = joint
        thigh, shin = limbs[f"{side}_thigh"], limbs[f"{side}_shin"]
        joints[f"{side}_knee"] = joint + 0.245 * build["leg"] * _direction(*thigh, sign)
        joints[f"{side}_ankle"] = joints[f"{side}_knee"] + 0.23 * build["leg"] * _direction(
            *shin, sign
        )
        toe = _direction(shin[0] + 80, 15.0, sign)
        joints[f"{side}_toe"] = joints[f"{side}_ankle"] + 0.085 * toe
    return joints, head_axes, girth


def _random_pose(rng: np.random.Generator) -> Pose:
    uniform = rng.uniform
    kind = rng.choice(
        ("stand", "walk", "reach", "sit", "crouch", "lunge"), p=(0.22, 0.2, 0.2, 0.14, 0.08, 0.16)
    )
    stride = uniform(15, 40) * rng.choice((-1, 1))
    lean = {"walk": uniform(0, 12), "sit": uniform(-10, 20), "crouch": uniform(20, 45)}
    limbs = {}
    for side, sign in SIDES:
        swing, bend = uniform(-20, 30), uniform(0, 70)
        spread, turn = uniform(5, 40), uniform(-10, 20)
        if kind == "walk":
            swing, bend = -sign * stride + uniform(-10, 10), uniform(10, 70)
        elif kind in ("sit", "crouch"):
            swing, bend = uniform(0, 60), uniform(20, 80)
        elif kind in ("reach", "lunge") and rng.random() < 0.75:
            swing, spread = uniform(-15, 15), uniform(50, 165)
            bend, turn = uniform(-15, 15), uniform(-50, 70)
        limbs[f"{side}_arm"] = (swing, spread)
        limbs[f"{side}_forearm"] = (swing + bend, spread + turn)
        thigh, knee, apart = uniform(-8, 12), uniform(0, 15), uniform(1, 14)
        if kind == "walk":
            thigh, knee = sign * stride, uniform(0, 35)
        elif kind == "sit":
            thigh, knee, apart = uniform(60, 95), uniform(55, 100), uniform(3, 30)
        elif kind == "crouch":
            thigh, knee, apart = uniform(70, 115), uniform(100, 135), uniform(5, 35)
        elif kind == "lunge":
            thigh, knee, apart = uniform(-10, 35), uniform(0, 45), uniform(12, 42)
        limbs[f"{side}_thigh"] = (thigh, apart)
        limbs[f"{side}_shin"] = (thigh - knee, apart + uniform(-12, 6))
    torso = {
        "lean": lean.get(str(kind), uniform(-6, 10)),
        "lean_side": rng.normal(0, 8),
        "twist": uniform(-20, 20),
        "look": uniform(-30, 30),
        "nod": uniform(-12, 18),
    }
    return Pose(limbs, torso)


def _head(
    flat: dict[str, Array], centre: Array, axes: Array, radius: float, skin: Colour, hair: Colour
) -> tuple[list[Shape], dict[str, Array], dict[str, float]]:
    """Shapes of neck, head and face from back to front; the face's keypoints, and their depths: visible above 0.

    flat: joints, (2,) each; centre: (3,); axes: the head's left, down and forward as columns (3, 3).
    """
    number = PART_NUMBER["head"]
    positions = {"nose": np.array([0.0, 0.12, 1.0])}
    for side, sign in SIDES:
        positions[f"{side}_eye"] = np.array([sign * 0.4, -0.12, 0.88])
        positions[f"{side}_ear"] = np.array([sign * 0.98, 0.05, -0.05])
    in_space = {name: centre + axes @ point * radius for name, point in positions.items()}
    face = {name: point[:2] for name, point in in_space.items()}
    # An ear sticks out: it is visible from behind, too, until the head occludes it.
    slack = {name: 0.45 * radius if "ear" in name else -0.1 * radius for name in face}
    depths = {name: float(in_space[name][2] - centre[2]) + slack[name] for name in face}

    # The face is a cap of the sphere; points behind the horizon are moved onto it.
    opening = math.radians(66)
    rim = np.concatenate(
        [CIRCLE * math.sin(opening), np.full((len(CIRCLE), 1), math.cos(opening))], axis=1
    )
    rim = (rim @ _rotation(0, 14).T) @ axes.T
    hidden = rim[:, 2] < 0
    rim[hidden, :2] /= np.hypot(rim[hidden, 0], rim[hidden, 1])[:, None]

    def ear(side: str) -> Shape:
        return Shape(disc(face[f"{side}_ear"], radius * 0.24), shaded(skin, 0.85), number)

    near_first = sorted(("left", "right"), key=lambda side: in_space[f"{side}_ear"][2])
    shapes = [Shape(capsule(flat["neck"], flat["head"], (radius * 0.5,) * 2), skin, number)]
    shapes += [ear(side) for side in near_first if in_space[f"{side}_ear"][2] <= centre[2]]
    shapes.append(Shape(disc(flat["head"], radius), hair, number))
    if not hidden.all():
        shapes.append(Shape(flat["head"] + rim[:, :2] * radius, skin, number))
    shapes += [ear(side) for side in near_first if in_space[f"{side}_ear"][2] > centre[2]]
    for name in ("left_eye", "right_eye", "nose"):
        if depths[name] > 0:
            colour = shaded(skin, 0.7) if name == "nose" else (25, 20, 30)
            shapes.append(Shape(disc(face[name], radius * 0.19), colour, number))
    return shapes, face, depths


def _seen_through(keypoint: str, joints: dict[str, Array]) -> frozenset[int]:
    """The body parts that do not occlude a joint. joints: (3,) each, the third coordinate towards the viewer."""
    side, joint = keypoint.split("_")
    names = {
        "shoulder": ("upper_arm",),
        "elbow": ("upper_arm", "forearm"),
        "wrist": ("forearm",),
        "hip": ("thigh",),
        "knee": ("thigh", "shin"),
        "ankle": ("shin",),
    }[joint]
    parts = {PART_NUMBER[f"{side}_{name}"] for name in names}
    # The torso occludes the joints of its far side.
    middle, far = {"shoulder": ("neck", 0.075), "hip": ("pelvis", 0.05)}.get(joint, ("", 0.0))
    if middle and joints[keypoint][2] > joints[middle][2] - far:
        parts.add(PART_NUMBER["torso"])
    return frozenset(parts)


def _direction(swing: float, spread: float, sign: float) -> Array:
    """Unit vector (3,). swing: degrees forward from down; spread: degrees sideways; sign: 1 for left."""
    forward, aside = math.radians(swing), math.radians(spread)
    down = math.cos(aside)
    return np.array([sign * math.sin(aside), down * math.cos(forward), down * math.sin(forward)])


def _rotation(axis: int, degrees: float) -> Array:
    """Rotation matrix (3, 3) about an axis."""
    first, second = (number for number in range(3) if number != axis)
    matrix = np.eye(3)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix[first, first] = matrix[second, second] = cos
    matrix[first, second], matrix[second, first] = sin, -sin
    return matrix


def _skin_and_hair(rng: np.random.Generator) -> tuple[Colour, Colour]:
    """Two colours of clearly different lightness, so that a face differs from the back of a head."""
    value = rng.uniform(0.45, 1.0)
    skin = from_hsv(rng.uniform(0.03, 0.1), rng.uniform(0.25, 0.6), value)
    hair = random_colour(rng, (0.05, value - 0.35) if value > 0.6 else (0.85, 1.0))
    return skin, hair
