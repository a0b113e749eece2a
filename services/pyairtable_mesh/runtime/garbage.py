"""The garbage collector of a process that serves."""

import gc


def settle() -> None:
    """Take what was built for good out of the collector's sight, and let it run less often.

    A call leaves no cycles behind; the default thresholds would have the collector walk every module, and every
    connected stream, every few hundred allocations.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    gc.enable()
