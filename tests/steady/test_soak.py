"""A long run in small: what grows over a hundred and sixty examinations would fill a machine over a night."""

import pytest
from faults.soak import Reading, judged, soak


def readings(megabytes, handles=9, threads=1):
    return [Reading(10 * n, megabytes(n), handles, threads, float(n)) for n in range(1, 41)]


def test_growth_over_the_second_half_is_told_and_a_warm_start_is_not():
    assert judged(readings(lambda n: 500.0 + min(n, 10) * 20)).is_steady
    assert not judged(readings(lambda n: 500.0 + 2 * n)).is_steady
    leaking = [Reading(n, 500.0, 9 + n // 10, 1, 0.0) for n in range(1, 41)]
    assert judged(leaking).handles > 0
    assert not judged(leaking).is_steady


@pytest.mark.slow
@pytest.mark.nightly
def test_many_examinations_leave_memory_files_and_threads_as_they_were():
    found = judged(soak(160, readings=32))
    assert found.is_steady, found
