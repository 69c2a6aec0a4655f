"""What a corpus is, in words: said alike by the card and by the report."""

from __future__ import annotations

from typing import Any


def units_in_words(units: dict[str, Any]) -> str:
    """`mHuBERT … layer 11, 500 units, 25 frames a second`, of a unit spec."""
    extractor = units["extractor"]
    what = extractor.get("model") or extractor.get("name") or extractor["kind"]
    layer = f" layer {extractor['layer']}" if "layer" in extractor else ""
    return f"{what}{layer}, {units['size']:,} units, {units['frame_rate']:g} frames a second"


def speech_in_words(corpus: dict[str, Any]) -> str:
    """Engine, model and voices, or where else the speech came from; of corpus.json."""
    speech = corpus["recipe"]["speech"]
    if speech is None:
        recorded = corpus["speech"] is not None
        return "recordings of the source" if recorded else "none: the units were published"
    model = f" ({speech['model']})" if "model" in speech else ""
    version = corpus["speech"].get("version", "")
    said = f"{speech['engine']} {version}".strip()
    voices = speech["voices"]
    return f"{said}{model}, voice{'s' if len(voices) > 1 else ''} {', '.join(voices)}"


def source_in_words(recipe: dict[str, Any]) -> str:
    """Where the rows came from: `huggingface org/name at 3fa4…`; a local file is not named."""
    source = recipe["source"]
    parts = [source["kind"]]
    if source.get("path"):
        parts.append(source["path"])
    if source.get("revision"):
        parts.append(f"at {source['revision'][:12]}")
    said = " ".join(parts)
    return f"{said}, the first {source['limit']:,} rows" if source.get("limit") else said


WORDS = {
    "entropy": "entropy of the units in bits",
    "longest_run": "seconds on one unit",
    "silence": "share of silence",
    "clipping": "share of samples at full scale",
    "word_errors": "word error rate of a transcript",
}
"""Measures whose names do not say it."""


def filter_in_words(rule: dict[str, Any]) -> str:
    """`auto_bleu of prompt+chosen text (order 2, slam) below 0.3`, of a recipe's filter."""
    measure = rule["measure"]
    if measure == "identical":
        return "chosen and rejected are not the same units"
    side, what = rule.get("side"), WORDS.get(measure, measure.replace("_", " "))
    if measure == "auto_bleu":
        of = f"{side} {rule['of']}" if side else rule["of"]
        what = f"auto-BLEU-{rule['order']} ({rule['variant']}) of the {of}"
    elif measure == "length_ratio":
        what = f"{rule['of']} of chosen over rejected"
    elif side:
        what += f" of {side}"
    if measure == "word_errors":
        what += f" ({rule['model']})"
    words = {"min": "at least", "max": "at most", "below": "below"}
    bounds = [f"{said} {rule[key]:g}" for key, said in words.items() if rule[key] is not None]
    return f"{what} {' and '.join(bounds)}"
