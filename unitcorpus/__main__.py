"""`python -m unitcorpus` is the `unitcorpus` command."""

from unitcorpus.cli import main

main()
