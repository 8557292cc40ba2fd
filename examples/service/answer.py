"""Answer for rows with an exported task: numpy and onnxruntime are all it needs.

    python answer.py task.onnx < rows.jsonl > answers.jsonl

Every line of the input is a list of rows, every line of the output an object with
the labels and probabilities of classes, or the predictions of a regressor.
"""

import json
import sys

import numpy as np
import onnxruntime


class Task:
    """An exported task, and what its file says of it."""

    def __init__(self, path):
        self.session = onnxruntime.InferenceSession(
            path, providers=["CPUExecutionProvider"]
        )
        facts = self.session.get_modelmeta().custom_metadata_map
        self.classes = json.loads(facts["classes"])
        self.dtype = np.dtype(facts["input_dtype"])
        self.shape = tuple(json.loads(facts["input_shape"]))

    def answer(self, rows):
        """Return labels and probabilities, or predictions, as lists."""
        X = np.asarray(rows, dtype=self.dtype)
        if X.shape[1:] != self.shape:
            raise ValueError(f"Rows must have shape {self.shape}. Got {X.shape[1:]}.")
        found = self.session.run(None, {"rows": X})
        if self.classes is None:
            return {"predictions": found[0].tolist()}
        scores, probabilities = found
        labels = [self.classes[k] for k in scores.argmax(axis=1)]
        return {"labels": labels, "probabilities": probabilities.tolist()}


if __name__ == "__main__":
    task = Task(sys.argv[1])
    for line in sys.stdin:
        print(json.dumps(task.answer(json.loads(line))), flush=True)
