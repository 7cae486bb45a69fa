"""Is a completion right? Verifiers, and the processes that they work in.

A verifier is a function ``(completion, reference) -> bool``::

    exact    the answer's text, after a documented normalisation     normalization: what does not count
    regex    the text that a pattern finds
    math     mathematical equality, by math-verify
    module:function, file.py:function        anybody's               naming: name -> function

Completions are written by a model that is rewarded for whatever gets past its verifier, and some of
them are hostile by accident. A verifier therefore never runs in the trainer: pool hands every call to
a worker process (worker) with a limit of time and memory.
"""
