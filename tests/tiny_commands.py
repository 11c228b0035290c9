"""What came of a command line: what it printed, or the sentence that it ended with."""

import json


def done(result):
    """What a command that ended well printed; of a JSON document, its content."""
    code, output, errors = result
    assert code == 0, errors
    return json.loads(output) if output.startswith("{") else output


def refusal(result):
    """What a command that refused its arguments said, on one line; it printed nothing else."""
    code, output, errors = result
    assert (code, output) == (2, ""), errors
    assert "Traceback" not in errors
    return " ".join(errors.replace("│", " ").split())
