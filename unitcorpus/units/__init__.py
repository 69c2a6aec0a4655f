"""Unit extractors by the name in a recipe's `units.extractor`. A new one is a class and a line."""

from __future__ import annotations

from unitcorpus.units.base import ExtractorClass
from unitcorpus.units.hubert import HubertExtractor
from unitcorpus.units.mfcc import MfccExtractor

EXTRACTORS: dict[str, ExtractorClass] = {"mfcc": MfccExtractor, "hubert": HubertExtractor}
