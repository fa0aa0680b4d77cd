"""The installed Chromium, as the tests and the printed book start it: without a network."""

import os
import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome")


def program():
    """Its path, or None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def launch_options():
    """What Playwright's launch takes."""
    arguments = ["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--no-sandbox")  # root is refused with it
    return {"executable_path": program(), "args": arguments}
