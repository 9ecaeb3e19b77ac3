"""`vitrail VERB ...`: the verbs are loaded when they are called, so that `--help` is instant."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import click

from vitrail import __version__
from vitrail.cli.render import Left, is_left, show_error, talk, unheard
from vitrail.errors import EXIT_BUG, EXIT_DONE, SystemFault, UsageError, VitrailError, nearest, read_fault, write_fault

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# verb -> (module in this folder, one line for the overview)
VERBS: dict[str, tuple[str, str]] = {
    "train": ("train", "Train a recipe, or a model on a folder of pictures."),
    "evaluate": ("evaluate", "Measure a model on labelled pictures."),
    "plan": ("plan", "Say what a run would take, before it is started."),
    "predict": ("predict", "Name what is on pictures."),
    "export": ("export", "Make a bundle for an engine, with a measured proof."),
    "convert": ("convert", "Write weights for another world, read back and compared."),
    "verify": ("verify", "Prove a bundle again, on any machine."),
    "compare": ("compare", "Say whether two models give the same answers, and which is right more often."),
    "benchmark": ("benchmark", "Time models on this machine, in turns."),
    "offline": ("offline", "Pack, infer and score as the model zoo's 310 scripts."),
    "replay": ("replay", "Repeat a training step that broke, and say where."),
    "show": ("show", "Say what a model, recipe, source or list holds."),
    "data": ("data", "Audit, pack and prepare sources of pictures."),
    "weights": ("weights", "List and pull published weight files."),
}


class Verbs(click.Group):
    """The verbs, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        command = importlib.import_module(f"vitrail.cli.{VERBS[name][0]}").command
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; a pipe that breaks elsewhere than on stdout is a fault (click would say 1 and nothing)."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            if is_left(sys.stdout):  # of a verb's help, which click prints
                raise Left from None
            raise read_fault(error, "a pipe") from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            raise UsageError("V001", f"no verb `{args[0]}`", hint=nearest(args[0], VERBS))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, line) for name, (_, line) in VERBS.items()])


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="vitrail")
def vitrail() -> None:
    """Image classification with vision transformers: from a folder of pictures to a proven, deployed model.

    \b
    vitrail train --model cct_7_3x1_32 --data PHOTOS --out runs/photos
    vitrail export runs/photos --format onnx
    vitrail predict runs/photos/bundle PICTURE.jpg

    Completion in bash: eval "$(_VITRAIL_COMPLETE=bash_source vitrail)" (zsh and fish alike).
    """


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; everything that goes wrong is one coded error on stderr."""
    while (nowhere_yet := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # closed by whoever started us: what libraries say to 1 and 2 must not go into the next file
    os.close(nowhere_yet)
    if sys.stdout is None or sys.stderr is None:  # what is said goes nowhere
        with (
            open(os.devnull, "w") as nowhere,
            redirect_stdout(sys.stdout or nowhere),
            redirect_stderr(sys.stderr or nowhere),
        ):
            return run(arguments)
    try:
        value: Any = vitrail.main(args=list(arguments), prog_name="vitrail", standalone_mode=False)
        return value if isinstance(value, int) else EXIT_DONE
    except VitrailError as error:
        return _fail(error)
    except MemoryError:
        return _fail(SystemFault("V703", "memory does not suffice", hint="free some, or give a smaller --batch"))
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except (Left, SystemExit):  # whoever reads the result has left; click itself leaves where that is a help text
        unheard(sys.stdout)
        return EXIT_DONE
    except click.exceptions.NoArgsIsHelpError as error:
        talk(f"{error.ctx.get_help() if error.ctx else error.format_message()}\n")
        return 2
    except click.ClickException as error:
        return _fail(_usage(error))
    except (KeyboardInterrupt, click.Abort):
        talk("\nstopped\n")
        return 128 + signal.SIGINT
    except OSError as error:  # a name too long, a file where a folder is meant: the system's word, not a bug
        unnamed = write_fault(error, "what is printed") if error.errno in _FULL else read_fault(error, "a file")
        return _fail(unnamed if error.filename is None else read_fault(error, error.filename))
    except Exception as error:  # the one place where a bug of ours ends: a line for the user, a file for us
        return _bug(error, arguments)


def _fail(error: VitrailError) -> int:
    show_error(error)
    return error.exit_code


def _usage(error: click.ClickException) -> UsageError:
    context = getattr(error, "ctx", None)
    where = context.command_path if context else "vitrail"
    possible = getattr(error, "possibilities", None)
    hint = f"did you mean `{possible[0]}`?" if possible else f"`{where} --help` lists what it takes"
    what = error.format_message().split(" Did you mean")[0].rstrip(".")
    return UsageError("V001", f"{what[:1].lower()}{what[1:]}", hint=hint)


def _bug(error: Exception, arguments: Sequence[str]) -> int:
    import platform
    import tempfile
    import traceback

    lines = [f"vitrail {__version__}, Python {platform.python_version()}, {platform.platform()}"]
    lines += [f"arguments: {list(arguments)}", "", *traceback.format_exception(error)]
    with tempfile.NamedTemporaryFile("w", prefix="vitrail-bug-", suffix=".txt", delete=False) as file:
        file.write("\n".join(lines))
    talk(f"internal error: {type(error).__name__}: {error}; a bug of ours, reported in {file.name}\n")
    return EXIT_BUG
