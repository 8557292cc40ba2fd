"""What the package is measured by; ``python -m benchmarks`` lists the benchmarks."""
