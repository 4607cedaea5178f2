import platform
import sys

import pytest
import torch

from glassworks.tensors.memory import keep_freed_memory


def test_freed_memory_is_kept_where_the_c_library_can():
    assert keep_freed_memory() is (sys.platform.startswith("linux") and platform.libc_ver()[0] == "glibc")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page faults are counted by the Linux kernel")
def test_a_tensor_freed_and_made_again_faults_no_new_pages():
    import resource

    keep_freed_memory()

    def faults_of_ten() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            torch.ones(4 * 2**20)  # 16 MB
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    faults_of_ten()
    assert faults_of_ten() < 4096  # one of ten tensors, not all of them
