"""Parents and pivots of joints, against articulated chains whose hinges are known."""

import numpy as np
from scipy.spatial.transform import Rotation

from viewtime.recon.surface.skeleton import skeleton_of
from viewtime.recon.surface.skinning import Skin

FRAMES = 9
HINGES = np.array([[0.0, 0, 0], [0.3, 0, 0], [0.6, 0.1, 0], [0.0, 0.3, 0.0], [0.0, 0.6, 0.1]])
PARENTS = np.array([-1, 0, 1, 0, 3])  # a trunk with two limbs of two bones


def articulated():
    """The skin of two limbs that swing about their hinges while the trunk walks on."""
    generator = np.random.default_rng(0)
    rotations, places = np.zeros((FRAMES, 5, 3, 3)), np.zeros((FRAMES, 5, 3))
    centres = HINGES + np.array([[0, 0, -0.1], [0.15, 0.02, 0], [0.2, 0, 0.03], [0, 0.15, 0], [0.02, 0.15, 0]])
    for frame in range(FRAMES):
        hinge = np.zeros((5, 3))
        for joint, parent in enumerate(PARENTS):
            turn = Rotation.from_rotvec(0.25 * frame * generator.normal(size=3) * (frame > 0)).as_matrix()
            if parent < 0:
                rotations[frame, joint], hinge[joint] = turn, [0.05 * frame, 0, 0]
            else:
                rotations[frame, joint] = rotations[frame, parent] @ turn
                hinge[joint] = hinge[parent] + rotations[frame, parent] @ (HINGES[joint] - HINGES[parent])
            places[frame, joint] = hinge[joint] + rotations[frame, joint] @ (centres[joint] - HINGES[joint])
    joint = np.repeat(np.arange(5), 40)
    index = np.stack([joint, np.where(PARENTS[joint] < 0, 1, PARENTS[joint])], axis=1)
    weight = np.tile([0.8, 0.2], (len(joint), 1))
    return Skin(centres, rotations, places, index, weight)


def test_parents_and_hinges_are_found_from_the_motion():
    skeleton = skeleton_of(articulated())
    links = {frozenset(pair) for pair in enumerate(skeleton.parents) if pair[1] >= 0}
    assert links == {frozenset(pair) for pair in enumerate(PARENTS) if pair[1] >= 0}
    assert skeleton.parents[0] == -1  # the trunk halves the surface
    np.testing.assert_allclose(skeleton.pivots[1:], HINGES[1:], atol=2e-3)


def test_joints_that_move_alike_hang_on_the_near_one():
    centres = np.array([[0.0, 0, 0], [1.0, 0, 0], [2.0, 0, 0], [3.0, 0, 0]])
    still = np.tile(np.eye(3), (FRAMES, 4, 1, 1))
    index = np.array([[0, 1], [1, 2], [2, 3]] * 10)
    skin = Skin(centres, still, np.tile(centres, (FRAMES, 1, 1)), index, np.full((30, 2), 0.5))
    skeleton = skeleton_of(skin)
    links = {frozenset(pair) for pair in enumerate(skeleton.parents.tolist()) if pair[1] >= 0}
    assert links == {frozenset((0, 1)), frozenset((1, 2)), frozenset((2, 3))}
    assert skeleton.parents.tolist().count(-1) == 1
    one = Skin(centres[:1], still[:, :1], np.zeros((FRAMES, 1, 3)), np.zeros((4, 1), int), np.ones((4, 1)))
    assert skeleton_of(one).parents.tolist() == [-1]
