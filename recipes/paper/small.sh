#!/bin/sh
# Every grid of the paper at the size of a laptop: offline corpora and bases, then tables 1 to 3 and figures
# 1 to 5, by two runners at once that share the cells.
#
#   recipes/paper/small.sh [FOLDER]                  (default: small)   GRIDS="table2 figure4" … for some
#
# Running it again resumes. Tables and figures are in FOLDER/GRID/.
set -eu
folder=${1:-small}
here=$(dirname "$0")
data=$folder/data
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
export HF_HUB_OFFLINE=1
python=${PYTHON:-python}

build() {
    command=$1 recipe=$2 name=$3
    shift 3
    [ -e "$data/$name/corpus.json" ] || $python -m unitcorpus "$command" "$recipe" --out "$data/$name" "$@"
}
build build demo/stinystories recordings --set name=recordings --set source.count=80 --set seed=1 --set "speech.voices=[en-gb, en-gb+f4]"
build build demo/stinystories stinystories --set name=stinystories --set source.count=120 --set seed=2 --set validation=0.2
build build demo/stinystories diverse --set name=diverse --set source.count=80 --set seed=3 --set "speech.voices=[en-gb-scotland, en-us+m7]"
build pairs demo/spokenswag spokenswag --set source.count=200
build pairs demo/contrasts contrasts --set source.count=200
$python "$here/small_bases.py" "$data"

for grid in ${GRIDS:-table1 table2 table3 figure1 figure2 figure3 figure4 figure5}; do
    set -- "paper/$grid" --profile paper/small --data "$data" --out "$folder/$grid"
    $python -m slam_model.grid "$@" >"$folder/second-runner.txt" 2>&1 &
    $python -m slam_model.grid "$@"
    wait $!
done
