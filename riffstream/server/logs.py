"""Logs on stderr, as text lines or as one JSON object per line."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

from aiohttp.http_exceptions import HttpProcessingError

__all__ = ["configure", "event", "http_logger"]

_logger = logging.getLogger("riffstream")
# Standard attributes of a log record; all others are fields of the caller.
_BUILT_IN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def event(name: str, /, *, level: int = logging.INFO, exc_info: bool | BaseException = False, **fields: Any) -> None:
    """Log the event ``name`` ("listener joined") with fields for filters."""
    _logger.log(level, name, exc_info=exc_info, extra={f"field_{key}": value for key, value in fields.items()})


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {key.removeprefix("field_"): value for key, value in vars(record).items() if key not in _BUILT_IN}


class _Text(logging.Formatter):
    """Formatter of a record as a line of text."""

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{key}={value}" for key, value in _fields(record).items())
        when = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = "" if record.levelno == logging.INFO else f" {record.levelname.lower()}"
        line = f"{when}{level} {record.getMessage()}" + (f"  {fields}" if fields else "")
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _Json(logging.Formatter):
    """Formatter of a record as a JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)  # ASCII: escapes of the console would break the JSON


class _Ours(logging.Filter):
    """Log filter that drops errors caused by clients (invalid requests, closed connections)."""

    def filter(self, record: logging.LogRecord) -> bool:
        fault = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        return not isinstance(fault, HttpProcessingError | ConnectionError)


def http_logger() -> logging.Logger:
    """Logger for aiohttp."""
    logger = _logger.getChild("http")
    if not logger.filters:
        logger.addFilter(_Ours())
    return logger


def configure(level: str = "info", *, json_lines: bool = False) -> None:
    """Send the package's logs to stderr, from ``level`` (debug, info, warning, error) up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if json_lines else _Text())
    _logger.handlers[:] = [handler]
    _logger.setLevel(level.upper())
    _logger.propagate = False
