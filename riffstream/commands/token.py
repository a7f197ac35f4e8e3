"""Make a signed token: the right to listen, steer or manage, for a time, at one station or all.

The server needs the same key in access.signing_keys. It keeps no list of tokens: a token ends with its time, or with
the removal of its key.
"""

from __future__ import annotations

import argparse
import re
import secrets

from riffstream.config import check_station_name, load_config
from riffstream.errors import ParameterError
from riffstream.server.roles import Role
from riffstream.server.tokens import MAX_DAYS, SignedTokens

EXAMPLES = """examples:
  riffstream token --new-key                         a key for access.signing_keys
  riffstream token dj --for 8h --config my.toml      a DJ's token for tonight
  riffstream token listener --station main --for 30d
  RIFFSTREAM_ACCESS_SIGNING_KEYS=... riffstream token owner --for 1h

A new key goes before the old one in access.signing_keys: it signs, and tokens of the old key stay valid until it is
removed."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("role", nargs="?", choices=[role.value for role in Role], help="rights of the token")
    parser.add_argument("--for", dest="duration", default="24h", metavar="TIME", help="30s, 10m, 8h or 7d (24h)")
    parser.add_argument("--station", default="", metavar="NAME", help="limit the token to one station")
    parser.add_argument("--config", metavar="FILE|PRESET", help="configuration with access.signing_keys")
    parser.add_argument("--new-key", action="store_true", help="print a new random key and exit")


def run(args: argparse.Namespace) -> int:
    """Print the token."""
    if args.new_key:
        print(secrets.token_urlsafe(32))
        return 0
    if args.role is None:
        raise ParameterError("role", None, ", ".join(role.value for role in Role))
    found = _DURATION.fullmatch(args.duration)
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 1 <= seconds <= MAX_DAYS * 86400:
        raise ParameterError("--for", args.duration, f"a number with s, m, h or d, from 1s to {MAX_DAYS}d")
    if args.station:
        check_station_name(args.station)
    keys = load_config(args.config).access.signing_keys
    print(SignedTokens(keys).issue(Role(args.role), seconds=seconds, station=args.station))
    return 0
