"""The network of Neural Image Re-Exposure; one file per part of the paper's Section 4."""
