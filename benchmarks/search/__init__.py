"""How soon samplers and pruners come to a good answer: ``python -m benchmarks.search``.

Three generated datasets, two surrogates, one objective and two. So that hundreds of studies fit into an hour, they
look their trainings up in a table. These are real, each made once, when a study first asks for it: the ranges of what
matters are cut into cells, and a trial is a training at the centre of its cell, the second one there when its study
has been there before (``problems``, ``table``). Everything
around a training is the project's: the composed config, the search space with its conditions, sampler, pruner, time
pruning, what Optuna is told. No configuration is tried first.

The clock of a study is CPU time on one core, which other work on the machine hardly stretches: the seconds that its
trainings took, stretched so that a whole one takes ``studies.SECONDS`` on average, and the seconds that its sampler
took to ask, as they are. Unstretched, samplers would be weighed against trainings a hundred times shorter than real
ones.

What is there is kept, and a later call adds what is missing: ``results/search_trainings`` has a line for each training,
``results/search.jsonl`` one for each study, with all its trials.

Source: A. Klein & F. Hutter (2019), Tabular benchmarks for joint architecture and hyperparameter optimization,
arXiv:1905.04970.
"""
