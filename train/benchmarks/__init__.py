"""A model's answers to the paper's eight benchmarks, judged and put beside its Table 1.

Reading order, which is also the order of the data flow::

    definitions   which benchmarks there are           references: column of a data set -> right answer
    loading       data set or file -> problems         instruction, prompting: problems -> token ids
    answering     problems -> judged answers           answer_file: what survives a kill
    scores        answers -> numbers                   pass_at_k, interval: the formulas
    paper         Table 1 as printed                   table: ours beside it
    command       python -m train bench: its options   examination: all of the above in turn
                                                       model, folder, progress

Nothing here trains, and nothing here decides how an answer is judged: a verifier is handed in.
"""
