"""A claim is written before its number is seen, then judged from measurements; no torch needed."""

import sys

import numpy as np

from glassworks.core.text import Text
from glassworks.evidence.claims import Claim, Evidence, Finding, Outcome, Scale, judge
from glassworks.evidence.measurements import Measurement


def accuracy_is_high(evidence: Evidence) -> Finding:
    """Holds when the whole 95 % interval over seeds lies above 0.9."""
    accuracy = evidence["accuracy"].interval()
    outcome = Outcome.HOLDS if accuracy.low > 0.9 else Outcome.FAILS
    return Finding(outcome, accuracy, "fraction", Text(f"accuracy is {accuracy}"))


claim = Claim("mine.solved", Text("The model solves the task."), Text("my notes"), ("accuracy",), accuracy_is_high)


def measured(*values: float) -> Evidence:
    """Accuracies of one seed each, at laptop scale."""
    seeds = {"seed": tuple(range(len(values)))}
    accuracy = Measurement("accuracy", Text("accuracy"), np.array(values), ("seed",), seeds, "fraction")
    return Evidence({"accuracy": accuracy}, Scale.LAPTOP)


for evidence in (measured(0.96, 0.95, 0.97), measured(0.99, 0.80, 0.99), measured(0.99)):
    (verdict,) = judge([claim], evidence)
    print(f"{verdict.outcome.value:10} {verdict.because}")

assert judge([claim], measured(0.96, 0.95, 0.97))[0].outcome is Outcome.HOLDS
# Two seeds short of three: nothing is decided, however good the number looks.
assert judge([claim], measured(0.99))[0].outcome is Outcome.UNDECIDED
print("torch was loaded:", "torch" in sys.modules)
