"""JupyterLab without calls to the network: no news, no search for updates, no list of extensions to install."""

c = get_config()  # noqa: F821, given by Jupyter
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.LabApp.extension_manager = "readonly"
