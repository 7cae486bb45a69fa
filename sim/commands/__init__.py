"""The commands of ``python -m sim``, one module each.

A module has ``SUMMARY`` (one line), ``STOPPED`` (what Ctrl-C leaves behind), ``add_arguments(parser)``
and ``run(arguments, console) -> status``.
"""
