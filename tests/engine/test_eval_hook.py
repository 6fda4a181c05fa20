"""The best checkpoint and early stopping, by a metric that may be NaN."""

import math
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnet_kpt.engine import eval_hook
from hrnet_kpt.engine.eval_hook import EvalHook, read_history

NAN = math.nan


class State:
    """What `EvalHook` needs of a RunState: checkpoints are recorded, not written."""

    def __init__(self, folder):
        self.folder, self.path, self.saved = folder, folder / "model.pth", -1

    def save(self):
        self.saved = self.trainer.iter


class Storage:
    def latest(self):
        return {}

    def put_scalar(self, *args):
        pass


def run(values, patience, folder, mode="max"):
    """Evaluate in each iteration; return the number of evaluations, the best iteration, and the warnings."""
    best, warnings = [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(eval_hook, "link_checkpoint", lambda path, name: best.append(trainer.iter))
        patch.setattr(eval_hook.logger, "warning", lambda text, *args: warnings.append(text % args))
        state = State(folder)
        trainer = SimpleNamespace(iter=0, start_iter=0, max_iter=len(values), storage=Storage())
        state.trainer = trainer
        results = iter(values)
        hook = EvalHook(
            1, lambda: {"bbox": {"AP": next(results)}}, state, "bbox/AP", mode, patience
        )
        hook.trainer = trainer
        hook.before_train()
        while trainer.iter < trainer.max_iter:
            hook.after_step()
            trainer.iter += 1
    return trainer.max_iter, best[-1] if best else None, warnings


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.sampled_from([NAN, math.inf, 1.0, 2.0, 3.0]), min_size=1, max_size=8),
    patience=st.integers(0, 3),
)
def test_values_that_are_not_finite_are_warnings_and_do_not_count(
    values, patience, tmp_path_factory
):
    finite = [(number, v) for number, v in enumerate(values) if math.isfinite(v)]
    expected, best = len(values), None
    waited = 0
    for number, value in finite:
        if best is None or value > values[best]:
            best, waited = number, 0
        else:
            waited += 1
        if patience and waited == patience:
            expected = number + 1
            break
    folder = tmp_path_factory.mktemp("run")
    done, found, warnings = run(values, patience, folder)
    assert (done, found) == (expected, best)
    assert len(warnings) == sum(not math.isfinite(v) for v in values[:done])
    assert all("train.best.metric=bbox/AP" in text and "patience" in text for text in warnings)
    again = [entry["results"]["bbox"]["AP"] for entry in read_history(folder / "evaluations.json")]
    assert [v if math.isfinite(v) else None for v in again] == [
        v if math.isfinite(v) else None for v in values[:done]
    ]
