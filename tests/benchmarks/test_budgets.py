"""Bounds that hold on any machine: the networks' size, and ratios within one run."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import edi, network, planes
from benchmarks.budgets import Budget, budgets, exceeded
from nire.network.config import SIZES, named


@pytest.mark.parametrize("size", SIZES)
def test_sizes_keep_to_their_budget(size: str) -> None:
    parameters, (build_gmac, build_gb), (query_gmac, query_gb) = network.count_work(named(size))
    figures = {"params": parameters, "build_gmac": build_gmac, "query_gmac": query_gmac}
    assert build_gb > 4e-9 * parameters  # weights are read at least once
    assert 0 < query_gb < build_gb
    assert not exceeded("network", {f"{size}_{what}": value for what, value in figures.items()})


@pytest.mark.parametrize("bench", [planes, edi], ids=["planes", "edi"])
def test_ratios_keep_to_their_budget(bench) -> None:  # type: ignore[no-untyped-def]
    name = bench.__name__.rpartition(".")[2]
    figures = {result.metric: result.value for result in bench.run()}
    assert any((name, metric) in budgets() for metric in figures)
    assert not exceeded(name, figures)


def test_a_figure_outside_says_what_was_expected() -> None:
    (line,) = exceeded("network", {"nano_query_gmac": 0.7, "nano_build_gmac": 1.0, "unheard_of": 5.0})
    assert "nano_query_gmac" in line
    assert "0.7" in line
    assert "<= 0.4" in line


def test_slack_is_a_factor_both_ways() -> None:
    budget = Budget(2.0, 10.0, 1.5)
    assert [budget.allows(value) for value in (1.3, 1.4, 14.9, 15.1)] == [False, True, True, False]


def test_a_bound_that_means_nothing_is_refused(tmp_path: Path) -> None:
    for text in ("[a.b]\nslack = 2.0", "[a.b]\nmax = 1\nmaximum = 2", "[a.b]\nmax = 1\nslack = 0.5"):
        (tmp_path / "budgets.toml").write_text(text)
        with pytest.raises(ValueError, match=r"a\.b"):
            budgets(tmp_path / "budgets.toml")
        budgets.cache_clear()
