"""The engines that the tests use: suites of Debian and stores of images."""

from tests.fixtures.roots import TESTED

# The gate tests the store that is the default of Docker today.
STORES = [(suite, store) for suite in TESTED for store in (True, False) if store or len(TESTED) > 1]


def name_of(parameter: tuple[str, bool]) -> str:
    suite, containerd_store = parameter
    return f"{suite}-{'containerd' if containerd_store else 'overlay2'}"
