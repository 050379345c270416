"""The report's figures. Each reads what stands in the analysis and computes nothing but places."""

from aftertune.records.analysis import Analysis
from aftertune.report.figure import Figure
from aftertune.report.rate_figures import decodings, every_seed, repeated
from aftertune.report.select import Headline
from aftertune.report.share_figures import components, flips
from aftertune.report.variation_figures import figures as of_variations


def figures(analysis: Analysis, head: Headline) -> list[Figure]:
    """All of them, in the order of the page.

    The five that every study asks for are there without results too, and say why they have no panels.
    """
    always = [draw(analysis, head) for draw in (every_seed, repeated, decodings, components, flips)]
    return [*always, *of_variations(analysis, head)]
