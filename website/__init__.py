"""What turns the pages of this repository into a site: see mkdocs.yml, ``make docs``.

Pages are written to be read in the repository. ``links`` follows their links into the site; ``lists``
and ``dialect`` teach Python-Markdown GitHub's lists and formulas; ``roles`` and ``keywords`` are about
docstrings; ``hooks`` puts it together.
"""
