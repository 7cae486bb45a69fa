"""Every formula of the paper as a sympy object: proved, or corrected where it is wrong.

One file per concept, named like its counterpart in `cures`: each holds the expressions and the claims
made about them. An expression exists once: the report prints it as LaTeX; tests, figures and the
simulator evaluate it with :func:`theory.claims.numeric`. ``python -m theory check`` runs all claims,
``python -m theory report`` writes them down.
"""
