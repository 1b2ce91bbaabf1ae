"""Does the highest bound pick the best model? A zoo of small models, trained, scored and reported.

    python examples/model_selection/train_zoo.py zoo=small
    python examples/model_selection/score_zoo.py zoo=small
    python examples/model_selection/report.py zoo=small

Each program goes on where it was stopped. `zoo=full` is the one of the README. With `speech=recorded` all three
do the same on human speech; `examples/data/asterisk.py` says how to get it.
"""
