"""`viewtime COMMAND`: one table of commands; each is imported only when it runs, so that `--help` is fast."""

from __future__ import annotations

import functools
import importlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from viewtime.configs.load import suggest
from viewtime.errors import Stopped, UserError, machine_failure
from viewtime.files import clear_stale
from viewtime.log import log, set_up_logging
from viewtime.where import next_command, refuse_address, refuse_empty


@dataclass(frozen=True)
class Command:
    """A command: its options' class in `viewtime.configs.schema` ("module:name"), the module whose `run` it calls.

    `with_asset` is the module in its place where the options ask for an asset beside the command's own result.
    """

    config: str
    module: str
    help: str
    with_asset: str = ""

    def chosen(self, config: object) -> str:
        """The module for these options."""
        return self.with_asset if self.with_asset and getattr(config, "asset", False) else self.module


COMMANDS = {
    "curate": Command("curate:CurateConfig", "data.curation.command", "choose animated assets worth rendering"),
    "render": Command("render:RenderConfig", "render_objaverse.command", "render assets into grids"),
    "encode": Command("encode:EncodeConfig", "data.stored.encode_command", "turn grids into training shards"),
    "train": Command("train:TrainCommand", "train.command", "train a model"),
    "sample": Command(
        "sample:SampleConfig", "sample.command", "one video in, a grid of views × frames out", "recon.video_to_asset"
    ),
    "reconstruct": Command("reconstruct:ReconstructConfig", "recon.command", "fit a grid with a 4D asset"),
    "distill": Command(
        "distill:DistillConfig", "recon.distill_command", "a text or a picture to 4D, by guidance models"
    ),
    "evaluate": Command("evaluate:EvaluateConfig", "sample.metrics.command", "compare grids with the truth"),
    "export": Command("export:ExportConfig", "recon.export_command", "write an asset or weights in another format"),
    "app": Command("app:AppConfig", "app.command", "the road from a video to an asset on one page in the browser"),
    "view": Command("view:ViewConfig", "recon.view_command", "look at an asset in the browser"),
    "init": Command("init:InitConfig", "model.init_command", "SV4D's initial weights out of SVD-xt and SV3D_p"),
    "info": Command("info:InfoConfig", "info", "versions, devices and parts; or what a weight file holds"),
}


def config_class(command: Command) -> type:
    """The dataclass of a command's options."""
    module, _, name = command.config.partition(":")
    return getattr(importlib.import_module(f"viewtime.configs.schema.{module}"), name)


def main(argv: list[str] | None = None) -> int:
    """Entry point of the `viewtime` script."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(_overview())
        return 0 if argv else 2
    if argv[0] == "--version":
        from viewtime import __version__

        print(__version__)
        return 0
    if argv[0] not in COMMANDS:
        print(f"no command {argv[0]!r}{suggest(argv[0], list(COMMANDS))}; see viewtime --help", file=sys.stderr)
        return 2
    return run_command(argv[0], argv[1:], prog=f"viewtime {argv[0]}")


def run_command(name: str, argv: list[str], prog: str) -> int:
    """Parse, run, print the paths written and then the command that usually follows.

    Exit codes: 0 done, 1 failed, 2 misuse, 130 interrupted. Training that a signal stopped in good order ends with
    128 + the signal's number (143 for SIGTERM).
    """
    command, debug = COMMANDS[name], "--debug" in argv
    argv = [argument for argument in argv if argument != "--debug"]
    set_up_logging(debug)
    from viewtime.configs.command import parse
    from viewtime.many import asks_for_many, parse_many, run_many
    from viewtime.run_folder import forget_failed_starts

    started = time.monotonic()
    try:
        refuse_empty(argv)
        for argument in argv:
            refuse_address(argument.partition("=")[2] if argument.startswith("--") and "=" in argument else argument)
        if asks_for_many(name, argv):
            options, rest = parse_many(name, argv, prog)
            run = functools.partial(run_many, name, options, rest)
        else:
            schema = config_class(command)
            own_parser = getattr(schema, "from_argv", None)
            config = own_parser(argv, prog) if own_parser else parse(schema, argv, prog, name)
            run = functools.partial(_run, command, config)
    except UserError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 2
    try:
        returned = run()
    except Stopped as stop:
        print(f"{prog}: {stop}", file=sys.stderr)
        return 128 + stop.number
    except KeyboardInterrupt:
        print(f"{prog}: interrupted after {time.monotonic() - started:.0f} s", file=sys.stderr)
        return 130
    except Exception as error:
        known = error if isinstance(error, UserError) else machine_failure(error)
        if known is not None:
            forget_failed_starts()
        if debug or known is None:
            raise
        print(f"{prog}: {known}", file=sys.stderr)
        return 1
    written: list[Path] = list(returned or ())
    for path in written:
        clear_stale(path)
        print(path)
    following = next_command(name, written)
    if following is not None:
        log.info("next: %s", following)
    return 0


def _run(command: Command, config: object) -> Sequence[Path] | None:
    """Import the command's module and do what the options say; the paths written."""
    return importlib.import_module(f"viewtime.{command.chosen(config)}").run(config)


def _overview() -> str:
    lines = [f"  {name:12s} {command.help}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: viewtime COMMAND [options]",
            "",
            *lines,
            "",
            "viewtime COMMAND --help lists its options; --debug shows tracebacks.",
        ]
    )


if __name__ == "__main__":
    raise SystemExit(main())
