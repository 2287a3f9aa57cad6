"""What a task ends with: the verdict on its program, together with what was collected of its outputs."""

from dataclasses import asdict

from gridapps.runs.reasons import OUTPUTS_INCOMPLETE
from gridapps.runs.states import State
from gridapps.sandbox.ending import Verdict
from gridapps.sandbox.protocol import Ended
from gridapps.worker.collection import Collected
from gridapps.worker.outcomes import Finished

_QUOTED = 3  # omissions in the text; the task lists more


def conclude(ended: Ended, verdict: Verdict, collected: Collected) -> Finished:
    """The outcome of the task. It fails, although its program succeeded, if content is in no output."""
    state, text = State(verdict.state), verdict.text
    reason: str = verdict.reason
    if state == State.SUCCESS and collected.lost_count:
        state, reason, text = State.FAILURE, OUTPUTS_INCOMPLETE, _incomplete(collected)
    return Finished(
        state=state,
        reason=reason,
        text=text,
        exit_code=None if ended.not_started else ended.exit_code,
        usage=asdict(ended.usage),
        outputs=collected.outputs,
        left_out=[asdict(omission) for omission in collected.left_out],
        left_out_count=collected.left_out_count,
    )


def _incomplete(collected: Collected) -> str:
    quoted = [each for each in collected.left_out if each.lost][:_QUOTED]
    named = "; ".join(f"{each.path} {each.why.removesuffix('.')}" for each in quoted)
    more = collected.lost_count - len(quoted)
    return (
        f"Outputs incomplete: the program succeeded, but {collected.lost_count} of its files could not be "
        f"kept: {named}{f'; and {more} more' if more else ''}. The {len(collected.outputs)} others can be "
        "downloaded."
    )
