"""Measurements of speed and memory, behind `nire-live bench`; tests assert no absolute times, this prints them.

A wheel holds this folder as `stream._benchmarks` (pyproject.toml), so its files import each other relatively.
"""
