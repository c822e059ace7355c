"""Neural Image Re-Exposure: the vocabulary and the mathematics, free of processes, sockets and vendor SDKs."""
