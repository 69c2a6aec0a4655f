"""Under what the ingredients of a corpus stand, as far as it is known here; the rest is named as
unknown, with the place to look."""

from __future__ import annotations

from typing import Any

MODELS = {
    "hexgrad/Kokoro-82M": "Apache-2.0",
    "facebook/hubert-base-ls960": "Apache-2.0",
}
"""Licences of published models, as their pages state them."""

_KNOWN = """
    afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd bsd-2-clause bsd-3-clause bsl-1.0 cc cc-by-2.0
    cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0
    cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 gpl gpl-2.0
    gpl-3.0 isc lgpl lgpl-2.1 lgpl-3.0 mit mpl-2.0 odbl odc-by openrail other pddl unknown unlicense
"""
HUB = frozenset(_KNOWN.split())
"""What the Hub knows as a `license`; others go by `license: other` and a name."""


def ingredients(corpus: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(what, which, licence) of everything that went into a corpus; of corpus.json."""
    recipe, units = corpus["recipe"], corpus["units"]
    rows = [("rows", _source(recipe), recipe["licence"] or "not said by the recipe")]
    speech = recipe["speech"]
    if speech is not None and speech["engine"] == "espeak":
        rows.append(("speech", "espeak-ng", "GPL-3.0-or-later; not that of the speech it makes"))
    elif speech is not None:
        name = speech.get("model", speech["engine"])
        rows.append(("speech", name, _model(name)))
    extractor = units["extractor"]
    if "model" in extractor:
        rows.append(("features", extractor["model"], _model(extractor["model"])))
    if "codebook" in units:
        book = recipe["units"].get("codebook", "a local file")  # left out where it is one
        ours = book == "demo"
        said = "Apache-2.0, with unitcorpus" if ours else "that of whoever published or fitted it"
        rows.append(("codebook", book, said))
    if extractor["kind"] == "published":
        rows.append(("units", extractor["name"], "that of whoever published them"))
    return rows


def _source(recipe: dict[str, Any]) -> str:
    source = recipe["source"]
    built_in = source["kind"] == "stories"
    return source.get("path") or ("built-in stories" if built_in else f"a {source['kind']} file")


def _model(name: str) -> str:
    return MODELS.get(name, f"not known here; see huggingface.co/{name}" if "/" in name else "?")
