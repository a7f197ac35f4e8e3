"""Print the resolved configuration of a server: defaults, then a file or preset, then the environment."""

from __future__ import annotations

import argparse
import json

from riffstream.config import json_schema, load_config, presets, to_toml
from riffstream.errors import ParameterError

EXAMPLES = """examples:
  riffstream config                          the defaults, as TOML
  riffstream config public-radio             a preset that comes with the package
  riffstream config my.toml --json           a file, as JSON
  RIFFSTREAM_SERVER_PORT=9000 riffstream config mini
  riffstream config --presets                list the presets
  riffstream config --schema                 the JSON Schema of a file, for editors

precedence: default < file < environment (RIFFSTREAM_<SECTION>_<KEY>) < flag of 'riffstream serve'"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("config", nargs="?", metavar="FILE|PRESET", help="a TOML file or the name of a preset")
    parser.add_argument("--config", dest="option", metavar="FILE|PRESET", help="same, as in 'riffstream serve'")
    parser.add_argument("--presets", action="store_true", help="list the presets and exit")
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of a file, for editors, and exit")
    parser.add_argument("--show-tokens", action="store_true", help="print tokens instead of ***")
    parser.add_argument("--json", action="store_true", help="JSON instead of TOML")
    parser.add_argument("--quiet", action="store_true", help="check only: print nothing, exit with 2 on an error")


def run(args: argparse.Namespace) -> int:
    """Print the configuration."""
    if args.presets:
        for name, path in presets().items():
            if not args.quiet:
                print(json.dumps({"name": name, "path": str(path)}) if args.json else f"{name:<16} {path}")
        return 0
    if args.schema:
        print(json.dumps(json_schema(), indent=2))
        return 0
    if args.config and args.option:
        raise ParameterError("--config", args.option, f"one configuration; {args.config} is given as well")
    config = load_config(args.config or args.option, check_secrets=False)
    values = config.to_dict() if args.show_tokens else config.public_dict()
    if not args.quiet:
        print(json.dumps(values, indent=2) if args.json else to_toml(values), end="\n" if args.json else "")
    return 0
