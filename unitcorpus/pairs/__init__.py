"""Spoken pairs: what is preferred over what, and how much a sequence repeats itself.

`auto_bleu` here is the function, as the field types it; its module is reached by
`from unitcorpus.pairs.auto_bleu import …`.
"""

from __future__ import annotations

from unitcorpus.pairs.auto_bleu import auto_bleu, auto_bleu_batch, auto_bleu_text

__all__ = ["auto_bleu", "auto_bleu_batch", "auto_bleu_text"]
