#!/bin/sh
# `make demo`: the whole story on built-in stories, offline: corpus, pairs, a test set, pretraining, DPO,
# scores before and after, what the model says, and a page to look at and listen to.
set -eu
out=${UNITCORPUS_DEMO:-corpora}
runs=${UNITCORPUS_DEMO_RUNS:-runs}
part() { printf '\n== %s\n' "$*"; }
say() { printf '\n$ %s\n' "$*"; "$@"; }
first() { sed -n 1p | cut -c "1-$1" | sed 's/$/ …/'; } # of the lines, the beginning of one

part "1. A corpus: built-in stories, spoken by espeak-ng, as units"
say unitcorpus build demo/stinystories --out "$out/demo-stinystories"
say unitcorpus verify "$out/demo-stinystories"
printf '\nIts first utterance for validation, as other toolkits read it:\n'
unitcorpus export "$out/demo-stinystories" --split validation | first 100

part "2. Preference pairs, and a test set"
say unitcorpus pairs demo/spokenswag --out "$out/demo-spokenswag"
printf '\nThe first pair:\n'
unitcorpus export "$out/demo-spokenswag" | first 300
say unitcorpus pairs demo/contrasts --out "$out/demo-contrasts"

part "3. A small speech language model: pretraining, then preference optimisation (DPO)"
say python -m slam_model.train demo/slam --data "$out/demo-stinystories" --out "$runs/demo-slam"
say python -m slam_model.train demo/slam_dpo --data "$out/demo-spokenswag" --out "$runs/demo-slam-dpo" \
    --set "model.base=$runs/demo-slam/final"

part "4. Scores before and after DPO: perplexity, and how often the right utterance is likelier (%)"
say python -m slam_model.eval "$runs/demo-slam/final" "$runs/demo-slam-dpo/final" \
    --data "$out/demo-stinystories" "$out/demo-contrasts"

part "5. It speaks on: the units that follow three seconds of a story"
say python -m slam_model.generate "$runs/demo-slam-dpo/final" --data "$out/demo-stinystories" \
    --limit 3 --repetition-penalty 1.1 --out "$runs/demo-generated"

part "6. The corpus as a page"
say unitcorpus report "$out/demo-stinystories"
cat <<END

Done. Open this page in a browser, to look at the corpus and to listen to it:

    $(cd "$out/demo-stinystories" && pwd)/report.html

Run it again: nothing is built or trained twice. Delete a file in a data/ folder and run it: the same bytes.
END
