"""Whether W&B is used, and whether its server is there: asked before W&B itself, which waits for a minute."""

from __future__ import annotations

import netrc
import os
import socket
from typing import Any, Literal
from urllib.parse import urlparse
from urllib.request import getproxies, proxy_bypass

Mode = Literal["online", "offline", "disabled"]
"""What W&B does."""

WANDB_MODES: tuple[Mode, ...] = ("online", "offline", "disabled")
MODES = ("auto", *WANDB_MODES)
REACH_SECONDS = 5.0
"""For a server that does not even refuse."""


def resolve_mode(mode: str) -> Mode:
    """ "auto" as WANDB_MODE says, else "online" where a W&B key is configured and "offline" where not.

    Only asks whether a key is there.

    Raises:
        ValueError: on an unknown mode.
    """
    if mode not in MODES:
        raise ValueError(f"tracking mode {mode!r} is not one of {', '.join(MODES)}")
    wanted = os.environ.get("WANDB_MODE", "").lower() if mode == "auto" else mode
    for known in WANDB_MODES:
        if wanted == known:
            return known
    return "online" if os.environ.get("WANDB_API_KEY") or _netrc_has_key() else "offline"


def _netrc_has_key() -> bool:
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    named = os.environ.get("NETRC")
    for path in [named] if named else ["~/.netrc", "~/_netrc"]:
        try:
            # hosts rather than authenticators(): a "default" entry is no W&B key
            if host in netrc.netrc(os.path.expanduser(path)).hosts:  # without a home folder, a file that is not there
                return True
        except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
            continue
    return False


def reach(settings: Any) -> None:
    """Connect to where W&B's `settings` say that its server is, or to the proxy on the way, and close again.

    W&B itself tries for as long as `init_timeout` says, even where the connection is refused.

    Raises:
        ConnectionError: naming the address, if nobody answers.
    """
    url = urlparse(settings.base_url)
    host = url.hostname or ""
    proxy = getattr(settings, f"{url.scheme}_proxy", None)
    if not proxy and not proxy_bypass(host):
        proxy = getproxies().get(url.scheme) or getproxies().get("all")
    if proxy:
        url = urlparse(proxy if "://" in proxy else f"http://{proxy}")
    address = (url.hostname or "", url.port or {"http": 80, "https": 443}.get(url.scheme, 1080))
    try:
        socket.create_connection(address, REACH_SECONDS).close()
    except OSError as error:
        raise ConnectionError(f"{address[0]}:{address[1]}: {error.strerror or error}") from error
