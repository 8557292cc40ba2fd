"""Adapt to tasks as they come, and answer for them: needs the package.

    python adapt.py learner.skcm < requests.jsonl > answers.jsonl

Every line of the input is an object: "task" names a task; "support" and "labels" give
rows of it, which are added to those that came before; "rows" are asked about. A line
may hold the rows, or the question, or both. Every line of the output holds the labels
and probabilities of what was asked.
"""

import copy
import json
import sys

import numpy as np

from skcausalmeta.exceptions import SkcausalmetaError
from skcausalmeta.persistence import load


class Service:
    """Tasks by name, each a copy of one learner that shares its backbone."""

    def __init__(self, learner):
        self.learner, self.tasks = learner, {}

    def add(self, name, rows, labels):
        """Adapt to rows of a task, beside those that it had before."""
        known = self.tasks.get(name)
        task = copy.copy(self.learner if known is None else known)
        task.adapt(np.asarray(rows), labels, keep_classes=known is not None)
        self.tasks[name] = task  # only now: a failure leaves the task as it was

    def answer(self, name, rows):
        """Return labels and probabilities as lists."""
        task, X = self.tasks[name], np.asarray(rows)
        probabilities = task.predict_proba(X)
        return {
            "labels": task.predict(X).tolist(),
            "probabilities": probabilities.tolist(),
        }

    def handle(self, request):
        """Do what a line asks for; an error is an answer too."""
        try:
            if "support" in request:
                self.add(request["task"], request["support"], request["labels"])
            if "rows" not in request:
                return {"task": request["task"]}
            return self.answer(request["task"], request["rows"])
        except (KeyError, SkcausalmetaError) as error:
            return {"error": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    service = Service(load(sys.argv[1]))
    for line in sys.stdin:
        print(json.dumps(service.handle(json.loads(line))), flush=True)
