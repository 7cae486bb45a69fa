"""Figures and the demo. One file per figure: ``compute(folders) -> arrays``, ``draw(arrays) -> Figure``.

Everything is read from run folders, never from live objects, so a figure can be redrawn years later.
"""
