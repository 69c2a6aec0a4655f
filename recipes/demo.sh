#!/bin/sh
# `make demo`: the whole story on built-in stories, offline: corpus, pairs, a test set, pretraining, DPO,
# scores before and after, and a page to look at and listen to.
set -eu
out=${UNITCORPUS_DEMO:-corpora}
runs=${UNITCORPUS_DEMO_RUNS:-runs}
say() { printf '\n$ %s\n' "$*"; "$@"; }

say unitcorpus build demo/stinystories --out "$out/demo-stinystories"
say unitcorpus verify "$out/demo-stinystories"
printf '\nthe first utterance, as other toolkits read it:\n'
unitcorpus export "$out/demo-stinystories" --split validation | cut -c 1-160 | sed -n 1p

say unitcorpus pairs demo/spokenswag --out "$out/demo-spokenswag"
printf '\nthe first pair:\n'
unitcorpus export "$out/demo-spokenswag" | cut -c 1-320 | sed -n 1p
say unitcorpus pairs demo/contrasts --out "$out/demo-contrasts"

say python -m slam_model.train demo/slam --data "$out/demo-stinystories" --out "$runs/demo-slam"
say python -m slam_model.train demo/slam_dpo --data "$out/demo-spokenswag" --out "$runs/demo-slam-dpo" \
    --set "model.base=$runs/demo-slam/final"
say python -m slam_model.eval "$runs/demo-slam/final" "$runs/demo-slam-dpo/final" \
    --data "$out/demo-stinystories" "$out/demo-contrasts"

say unitcorpus report "$out/demo-stinystories"
printf '\nOpen %s/demo-stinystories/report.html in a browser.\n' "$out"
printf 'Run it again: nothing is built or trained twice. Delete a file in a data/ folder and run it: the same bytes.\n'
