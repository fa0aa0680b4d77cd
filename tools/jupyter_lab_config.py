"""JupyterLab for the book: it knows the macros, and asks nothing of the network."""

import sys
from pathlib import Path

from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager

sys.path.insert(0, str(Path(__file__).parent))
import lab_notebooks  # noqa: E402


class BookContents(AsyncLargeFileManager):
    async def get(self, *arguments, **options):
        model = await super().get(*arguments, **options)
        if model["type"] == "notebook" and model["content"]:
            model["content"] = lab_notebooks.opened(model["content"])
        return model

    async def save(self, model, path=""):
        if model.get("type") == "notebook" and model.get("content"):
            model["content"] = lab_notebooks.saved(model["content"])
        return await super().save(model, path)


def without_news(handler, page):
    """Nobody is asked whether to fetch news, either."""
    page["disabledExtensions"].append("@jupyterlab/apputils-extension:announcements")
    return page


c = get_config()  # noqa: F821, given by Jupyter
c.ServerApp.contents_manager_class = BookContents
c.ServerApp.tornado_settings = {"page_config_hook": without_news}
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.LabApp.extension_manager = "readonly"
