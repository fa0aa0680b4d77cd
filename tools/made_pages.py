"""The pages that are made from other files at each build."""

import api_page
import sessions
import statements_page
import status_page


def write():
    for page in (statements_page, status_page, sessions, api_page):
        page.write()
