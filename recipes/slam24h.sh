#!/bin/sh
# Slam: a speech language model in 24 hours on one GPU (arXiv 2502.15814), from corpora to scores.
#
#   recipes/slam24h.sh [FOLDER] [CORPUS …]
#
# FOLDER (default: slam24h) gets corpora/ and runs/. Each CORPUS is a finished corpus of the same units to
# train on as well; the paper adds Libri-Light and LibriSpeech. Every step may be stopped and the script
# run again: what is finished is skipped, what is not goes on where it was. A training run that SIGTERM
# stopped exits with 143 and ends the script, so that nothing goes on with half a model.
set -eu
folder=${1:-slam24h}
[ $# -eq 0 ] || shift
corpora=$folder/corpora runs=$folder/runs
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

# 1. Corpora. Not part of the 24 hours: see `unitcorpus plan stinystories` for what speaking them takes.
unitcorpus build stinystories --out "$corpora/stinystories"
unitcorpus pairs spokenswag --out "$corpora/spokenswag"
unitcorpus verify "$corpora/stinystories"
unitcorpus verify "$corpora/spokenswag"

# 2. Pretraining: 23.5 hours.
python -m slam_model.train slam --data "$corpora/stinystories" "$@" --out "$runs/slam"

# 3. Preference optimisation: half an hour.
python -m slam_model.train slam_dpo --data "$corpora/spokenswag" --out "$runs/slam-dpo" \
    --set "model.base=$runs/slam/final"

# 4. Scores, before and after DPO. Test sets that lie in FOLDER/corpora are used: docs/recipes.md says
#    how to get sblimp, swuggy, spoken_storycloze, tstorycloze and salmon.
tests=
for name in sblimp swuggy spoken_storycloze tstorycloze salmon; do
    [ ! -e "$corpora/$name/corpus.json" ] || tests="$tests $corpora/$name"
done
for run in slam slam-dpo; do
    # shellcheck disable=SC2086 - one word a test set
    python -m slam_model.eval "$runs/$run/final" --json "$runs/$run/scores.json" \
        --data "$corpora/stinystories" "$corpora/spokenswag" $tests
done
