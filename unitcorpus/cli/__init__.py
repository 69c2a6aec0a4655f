"""The `unitcorpus` command. Modules here parse, call and print; the work is done elsewhere.

Wrong input is one line and exit code 2; a problem found in data is exit code 1; Ctrl-C is 130.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

import typer

from unitcorpus.cli.build import build, pairs, plan
from unitcorpus.cli.corpus import export, status, verify
from unitcorpus.cli.dedup import dedup
from unitcorpus.cli.doctor import doctor
from unitcorpus.cli.kmeans import kmeans
from unitcorpus.cli.push import push
from unitcorpus.cli.report import report
from unitcorpus.errors import UnitcorpusError, redacted

app = typer.Typer(
    name="unitcorpus",
    help="Speech-unit corpora for speech language models: the same bytes every time.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(build)
app.command()(pairs)
app.command()(plan)
app.command()(status)
app.command()(verify)
app.command()(export)
app.command()(doctor)
app.command()(report)
app.command()(push)
app.command()(dedup)
app.add_typer(kmeans, name="kmeans")


@app.callback()
def options(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    """Example: unitcorpus build demo/stinystories --out corpora/demo"""


class Stopped(BaseException):
    """SIGINT or SIGTERM: unwinds, so that nothing half-written stays; exits with 128 + signal."""

    def __init__(self, number: int) -> None:
        self.code = 128 + number


def _stop(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one must not cut the unwinding short
    raise Stopped(number)


def main() -> None:
    """Runs the command line; the one place where errors become messages and exit codes."""
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    words = [word for word in sys.argv[1:] if word != "--debug"]  # wherever it stands
    try:
        sys.exit(app(words, standalone_mode=False) or 0)
    except typer.Exit as leave:
        sys.exit(leave.exit_code)
    except UnitcorpusError as error:
        _fail(error, str(error), 2)
    except Stopped as stop:
        resumable = words[:1] in (["build"], ["pairs"], ["push"], ["dedup"])
        more = "; what was finished is kept, run the same command to go on" if resumable else ""
        _fail(stop, f"stopped{more}", stop.code)
    except BrokenPipeError:
        sys.stderr.close()  # the reader went away, as `| head` does
        sys.exit(141)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        _fail(error, f"{error.strerror or error}{where}", 2)
    except Exception as error:
        show = getattr(error, "format_message", None)  # click's own: an unknown option, say
        if show is None:
            raise
        _fail(error, show(), 2)


def _fail(error: BaseException, message: str, code: int) -> None:
    if "--debug" in sys.argv:
        raise error
    print(f"unitcorpus: {redacted(message)}", file=sys.stderr)
    sys.exit(code)
