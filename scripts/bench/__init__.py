"""The benchmarks: aftertune beside others on the same work, and how its cost grows. `make bench` runs them.

Every contender is a process of its own, so that its memory and its libraries are its own. The page
docs/benchmarks.md is written from docs/benchmarks.json, which holds every run.
"""
