"""Build hook: the long description, which is README.md without what shows only beside the files.

Setuptools runs it in every build; all else is in pyproject.toml. README.md has relative pictures
and links, which are broken in a package index: pictures go, and links become their text.
"""

import re
from pathlib import Path


def long_description(readme: str) -> str:
    """Return the text without comments, relative pictures and relative links."""
    text = re.sub(r"<!--.*?-->\n*", "", readme, flags=re.DOTALL)
    text = re.sub(r"!\[[^\]]*\]\((?!https?://)[^)]*\)\n*", "", text)
    text = re.sub(r"\[([^\]]*)\]\((?!https?://)([^)#]*)[^)]*\)", _unlinked, text)
    return f"{text.rstrip()}\n\nThe pages that are named here are in the source distribution.\n"


def _unlinked(link: re.Match[str]) -> str:
    text, page = link.groups()
    return text if text == page else f"{text} (`{page}`)"


if __name__ == "__main__":
    from setuptools import setup

    setup(
        long_description=long_description(
            (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
        ),
        long_description_content_type="text/markdown",
    )
