"""Finds the packages of a wheel; all else is in pyproject.toml, which cannot add mapped folders to those it finds."""

from __future__ import annotations

from setuptools import find_packages, setup

_MAPPED = ["stream._benchmarks", "stream._benchmarks.gpu", "stream._configs"]

setup(packages=[*find_packages(include=["nire*", "drivers*", "stream*"]), *_MAPPED])
