"""JupyterLab for the book: it knows the macros, and asks nothing of the network."""

import sys
from pathlib import Path

from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager

sys.path.insert(0, str(Path(__file__).parent))
import lab_macros  # noqa: E402


class BookContents(AsyncLargeFileManager):
    async def get(self, *arguments, **options):
        model = await super().get(*arguments, **options)
        if model["type"] == "notebook" and model["content"]:
            lab_macros.add(model["content"])
        return model

    async def save(self, model, path=""):
        if model.get("type") == "notebook" and model.get("content"):
            lab_macros.remove(model["content"])
        return await super().save(model, path)


c = get_config()  # noqa: F821, given by Jupyter
c.ServerApp.contents_manager_class = BookContents
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.LabApp.extension_manager = "readonly"
