"""slam_model: shards in, a speech language model out, inside a time budget.

python -m slam_model.train slam --data corpora/stinystories --out runs/slam
python -m slam_model.eval runs/slam/final --data corpora/stinystories
"""
