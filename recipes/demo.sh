#!/bin/sh
# `make demo`: the whole pipeline on built-in stories, offline.
set -eu
out=${UNITCORPUS_DEMO:-corpora/demo-stinystories}
say() { printf '\n$ %s\n' "$*"; "$@"; }

say unitcorpus build demo/stinystories --out "$out"
say unitcorpus verify "$out"
printf '\nthe first utterance, as other toolkits read it:\n'
unitcorpus export "$out" --split validation | cut -c 1-160 | sed -n 1p
printf '\nRun it again: nothing is built twice. Delete a file in %s/data and run it: the same bytes.\n' "$out"
