"""Why a run failed, in the words of the error that was raised on purpose."""

import dagster as dg


def interrupted(event: dg.DagsterEvent) -> bool:
    """Return whether a step or run failed because somebody stopped it."""
    error = getattr(event.event_specific_data, "error", None)
    return error is not None and error.cls_name == dg.DagsterExecutionInterruptedError.__name__


def reason(event: dg.DagsterEvent) -> str:
    """Return the step and the text of its error, without Dagster's wrapping."""
    step = event.step_key or "run"
    data = event.event_specific_data
    failure = getattr(data, "user_failure_data", None)
    if failure is not None and failure.description:
        return f"{step}: {failure.description}"
    error = getattr(data, "error", None)
    if interrupted(event):
        return f"{step}: interrupted; what was finished is kept, so run it again to go on"
    while error is not None and error.cause is not None and (error.cls_name or "").startswith("Dagster"):
        error = error.cause  # what stands behind the first error of our own is its cause, and says less
    text = error.message.strip() if error is not None else event.message or "failed"
    return f"{step}: {text.split(': ', 1)[-1]}"
