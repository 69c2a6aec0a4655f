"""unitcorpus: speech-unit corpora for speech language models, built in parallel and reproducibly.

    import unitcorpus
    corpus = unitcorpus.open("corpora/stinystories")
    for sample in corpus.samples("train"):
        sample.units, sample.durations, sample.meta["text"]

Importing the package is cheap: torch and Ray load only with the stages that use them.
"""

from unitcorpus.errors import UnitcorpusError
from unitcorpus.shards.reader import Corpus, Sample, open_corpus

__version__ = "0.1.0"

open = open_corpus

__all__ = ["Corpus", "Sample", "UnitcorpusError", "__version__", "open"]
