"""What turns the pages of this repository into a site: see mkdocs.yml, ``make docs``.

Pages are written to be read in the repository. ``links`` follows their links into the site; ``lists``,
``formulas`` and ``dialect`` teach Python-Markdown GitHub's lists and formulas; ``docstrings``, ``roles``
and ``keywords`` are about docstrings; ``pages`` and ``hooks`` put it together. ``dialect``, ``roles``,
``keywords`` and ``hooks`` are plugs for mkdocs; the others need nothing of it and have their tests.
"""
