"""What akv takes, as ratios to a limit or a peer that is measured in the same run. `python -m benchmarks --help`"""
