"""What breaks Glassworks, tried on purpose: kills, full disks, signals, clocks, limits; `python -m faults` tells what happened."""
