#!/bin/sh
# `make demo`: the whole pipeline on built-in stories, offline.
set -eu
out=${UNITCORPUS_DEMO:-corpora}
say() { printf '\n$ %s\n' "$*"; "$@"; }

say unitcorpus build demo/stinystories --out "$out/demo-stinystories"
say unitcorpus verify "$out/demo-stinystories"
printf '\nthe first utterance, as other toolkits read it:\n'
unitcorpus export "$out/demo-stinystories" --split validation | cut -c 1-160 | sed -n 1p

say unitcorpus pairs demo/spokenswag --out "$out/demo-spokenswag"
say unitcorpus verify "$out/demo-spokenswag"
printf '\nthe first pair:\n'
unitcorpus export "$out/demo-spokenswag" | cut -c 1-320 | sed -n 1p
printf '\nRun it again: nothing is built twice. Delete a file in a data/ folder and run it: the same bytes.\n'
