"""Does what AstrID takes for granted of the archives hold? Needs a network; takes minutes.

    python -m benchmarks.live_check            # every service
    python -m benchmarks.live_check ztf        # one

A service joins with a module here that has ``check(fetcher, target)`` and with its line in `CHECKS`.
"""
