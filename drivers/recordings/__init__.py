"""Recordings: whatever lies in this folder is a driver, a file or a folder each."""
