"""
Random reads, writes, truncations, stores through mappings, allocations and copies, compared with a model in memory.

HRFS_RANDOM_OPS is the number of operations a seed; 3,000 where it is not set, so that all of this takes seconds. The
long run is HRFS_RANDOM_OPS=200000, about a minute a test. HRFS_RANDOM_SEEDS="5 6 7" takes other seeds.
"""

import os

import pytest

import harness
import random_io

OPERATIONS = int(os.environ.get("HRFS_RANDOM_OPS", 3000))
SEEDS = [int(seed) for seed in os.environ.get("HRFS_RANDOM_SEEDS", "1 2").split()]

# As much as the slowest machine could want.
LIMIT_S = 120 + OPERATIONS // 100


def play(folder, source, seed, count, operations=OPERATIONS):
    """In a child process: a store beyond the end of a file that should be longer is a bus error."""
    def work():
        run = random_io.Play(folder, source, seed, count)
        try:
            run.run(operations)
        finally:
            run.close()
        return dict(run.counts)
    return harness.in_child(work).value


@pytest.mark.limit(LIMIT_S)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["tmpfs", "disk"])
@pytest.mark.parametrize("count", [1, 4], ids=["one_file", "four_files"])
def test_random_io_is_as_the_model_and_the_log_replays_to_the_same_sizes(request, mount, mode, kind, count, seed):
    folder = request.getfixturevalue("disk_place" if kind == "disk" else "place")
    mounted = mount(folder=folder, options=mode.options)
    counts = play(mounted.point, mounted.source, seed, count)
    assert sum(counts.values()) == OPERATIONS
    if OPERATIONS >= 1000:
        unused = {kind.__name__ for kind in random_io.Play.OPERATIONS} - counts.keys()
        assert not unused


@pytest.mark.as_user
@pytest.mark.parametrize("seed", SEEDS)
def test_random_io_on_a_mount_of_an_ordinary_user(mount, a_user, disk_place, seed):
    mounted = mount(folder=disk_place, user=a_user)

    def work():
        run = random_io.Play(mounted.point, mounted.source, seed, 2)
        run.run(OPERATIONS)
        run.close()
        return True

    assert harness.in_child(work, a_user if harness.IS_ROOT else None).value


@pytest.mark.as_user
def test_the_model_is_right_without_a_mount(place):
    """Else a failure above would say nothing about the mount."""
    assert play(place, place, 1, 3, 2000)


@pytest.mark.as_user
@pytest.mark.parametrize("harm", ["byte", "size"])
def test_a_file_that_is_otherwise_is_found(place, harm):
    run = random_io.Play(place, place, 1, 1)
    run.run(300)
    file = run.files[0]
    if harm == "byte":
        middle = len(file.data) // 2
        file.data[middle] ^= 1
    else:
        file.data.append(0)
    with pytest.raises(random_io.Differs):
        run.check_all(file)
    run.close()
