"""What this package costs, beside its peers: each measurement in a process of its own, alternating, in one run.

With `pip install -e ".[benchmarks]"`, `python -m benchmarks.training`, `benchmarks.prediction`, `benchmarks.growth` and
`benchmarks.startup` print their tables and write them to `benchmarks/README.md`. They download nothing: corpus and
encoder are arguments.
"""
