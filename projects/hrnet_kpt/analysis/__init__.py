"""Model inspection, keypoint error analysis, and benchmarks."""
