"""Pages in a browser, beside whatever else the machine does: a test that failed is run once more, and the summary says so.

What fails twice fails. Everything below the pages (questions, jobs, engine, door) has tests of its own that run once.
"""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of this folder."""
    for item in items:
        if "studio/pages" in item.path.as_posix():
            item.add_marker(pytest.mark.flaky(reruns=1))
