"""slam_model: speech language models over the units of a corpus, trained within a time budget.

    python -m slam_model.train slam --data corpora/librispeech corpora/stinystories --out runs/slam
    python -m slam_model.eval runs/slam/final --data corpora/storycloze

Reads finished corpora of unitcorpus (a folder, hf:// or any fsspec URL); writes plain
`save_pretrained` checkpoints, which transformers loads without this package.
"""
