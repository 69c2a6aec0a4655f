"""What the entry points share: wrong input is one line and exit code 2, and no traceback.

if __name__ == "__main__":
    command.run(main)
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from huggingface_hub.utils import logging

from unitcorpus.errors import UnitcorpusError


def run(main: Callable[[Sequence[str]], int]) -> None:
    """Exits with what `main(arguments)` returns; `--debug` anywhere shows the traceback instead."""
    words = [word for word in sys.argv[1:] if word != "--debug"]
    debug = len(words) < len(sys.argv) - 1
    if "HF_HUB_VERBOSITY" not in os.environ:  # its client tells of each retry in two lines
        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        sys.exit(main(words))
    except UnitcorpusError as error:
        _fail(error, str(error), debug)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        _fail(error, f"{error.strerror or error}{where}", debug)


def _fail(error: Exception, message: str, debug: bool) -> None:
    if debug:
        raise error
    print(f"slam_model: {message}", file=sys.stderr)
    sys.exit(2)
