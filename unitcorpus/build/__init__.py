"""A build: plan, run, finish. `build.run.build_corpus` is the whole of it."""
