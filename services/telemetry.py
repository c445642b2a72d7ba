"""Sets up logs and metrics."""

import json
import logging
import time
from collections.abc import Sequence

from prometheus_client import Counter, Histogram, start_http_server

from services import tls
from services.settings import CommonSettings, host_port, secret_values

RPCS = Counter(
    "memetwin_rpc_total", "Completed RPCs by method and status code.", ["method", "code"]
)
RPC_SECONDS = Histogram(
    "memetwin_rpc_seconds",
    "Duration of RPCs in seconds, from arrival to completion.",
    ["method"],
    buckets=[0.0005 * 2**step for step in range(17)],
)


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON: time, level, logger, message and the ``extra`` keys.

    Args:
        secrets: texts that are replaced by ``***`` wherever they appear.
    """

    _STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        super().__init__()
        # A secret may appear as it is, in JSON, or in the representation of a text or of bytes.
        forms = {form for secret in secrets for form in (secret, json.dumps(secret)[1:-1])}
        self._secrets = sorted(forms, key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {
            name: value for name, value in record.__dict__.items() if name not in self._STANDARD
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        text = json.dumps(line, default=str)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def set_up(settings: CommonSettings) -> None:
    """Log JSON lines to stderr, and serve Prometheus metrics if the settings name an address.

    Raises:
        SettingError: the settings of TLS are not valid.
    """
    tls.validate(settings.tls)
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines(secret_values(settings)))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    if settings.metrics_listen:
        host, port = host_port(settings.metrics_listen)
        server, _ = start_http_server(port, host)
        if settings.tls_cert:
            server.socket = tls.ServerContext.of(settings.tls).wrap_listener(server.socket)
