"""How much longer a promise in seconds may take where other work has the processors."""

import os


def allowed(seconds: float, *, at_most: float) -> float:
    """The bound on a quiet machine, and as many times it as there are processes for each processor.

    `at_most` is less than what the fault that the bound tells would take.
    """
    for_each_processor = os.getloadavg()[0] / (os.cpu_count() or 1)
    return min(seconds * max(1.0, for_each_processor), at_most)
