"""What to do about an attempt that ended, by its exit code and by what was said."""

import re

from pretrain.exit_codes import ExitCode

# The first whose words are said counts. {host} is the machine, {run} the run or the corpus.
_BAD_NODE = (
    (
        "make room there",
        "Free room on that disk, or have the run write elsewhere; starting again goes on from the "
        "newest whole checkpoint.",
    ),
    (
        "killed from outside",
        "Look for the kernel's out-of-memory messages on {host} (`dmesg`); if there are any, take "
        "fewer feeding.workers or a smaller batch.micro_batch, else start again.",
    ),
    (
        "gave no sign of life",
        "Look whether {host} can be reached and what stopped that process; start again, and with "
        "{host} in place.exclude if it repeats.",
    ),
    (
        "could not join|rendezvous",
        "Look whether the first machine lives and its place.port is open to the others; "
        "`trawl launch preflight` tries both.",
    ),
    (
        "all are in the same collective",
        "Suspect network or devices: `trawl launch preflight` measures each pair of machines.",
    ),
    (
        "all are in different collectives",
        "The ranks parted ways, which is a bug: keep the stacks and report them.",
    ),
    (
        "made no progress",
        "Read where it stands in its stacks; storage that hangs is the usual reason. Start again, "
        "and with {host} in place.exclude if it repeats.",
    ),
    (
        "no word",
        "Look whether {host} can be reached and its kernel's log; start again, and with {host} in "
        "place.exclude if it repeats.",
    ),
)
_ANY_BAD_NODE = "Start again, and with {host} in place.exclude if it repeats."
_BY_CODE = {
    ExitCode.FAILURE: "It is a bug, of Trawl or of a library; starting again will likely fail "
    "again.",
    ExitCode.USER_ERROR: "Mend what that line names and submit again; no retry was used up.",
    ExitCode.DATA_ERROR: "Run `trawl corpus verify {corpus}`, restore the shard and submit again, "
    "or leave it out with `feeding.bad_shards: skip`.",
    ExitCode.STALE: "There is nothing to do: a newer attempt has taken over, and this one wrote "
    "nothing since.",
    ExitCode.PREEMPTED: "Nothing is wrong: submit again, and it goes on from what is safe.",
    ExitCode.NUMERICS: "Starting again alone repeats it: mend or leave out those samples, lower "
    "the learning rate, or raise guards.rollbacks.",
}


def advice(code: int, said: str, *, host: str, run: str, corpus: str) -> str:
    """Return what to do about an attempt that ended with `code`, of which `said` was said."""
    known = ExitCode(code) if code in set(ExitCode) else ExitCode.FAILURE
    text = _BY_CODE.get(known, "")
    if known == ExitCode.BAD_NODE:
        found = (todo for words, todo in _BAD_NODE if re.search(words, said))
        text = next(found, _ANY_BAD_NODE)
    return text.format(host=host or "the machine", run=run, corpus=corpus)
