"""Break a build in any of the known ways, run the same command again: the same bytes, nothing left
over, nothing lost or doubled."""

from __future__ import annotations

import random

import pytest

from faults import FAULTS, Fault, can_mount
from scene import Loss, Scene


@pytest.mark.parametrize("fault", [pytest.param(fault, id=fault.name) for fault in FAULTS])
def test_after_a_fault_the_same_command_gives_the_same_bytes(scene: Scene, fault: Fault) -> None:
    if fault.mount and not can_mount(scene.home):
        pytest.skip("mounting a small file system takes root")
    root = scene.place(fault.task)
    fault.inject(scene, root, random.Random(fault.name))
    assert scene.recovered(fault.task, root) == Loss()
