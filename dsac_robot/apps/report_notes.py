"""Notes in a bag: what began, what was done to the robot and when. Written by the demo, read by the report.

They are on the topic ``notes`` (diagnostic_msgs/DiagnosticArray, one status): ``name`` is the kind, ``message`` the
text, the header's stamp the instant. A note ``run`` begins a run and says in its values what the run must show.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

TOPIC = "notes"
RUN, EVENT, END = "run", "event", "end"


class Expect(str, Enum):
    """What a run must show."""

    NOTHING = ""
    GOAL = "goal"  # reach the goal without contact
    REST = "rest"  # come to rest in time after the policy died, the guard naming the cause
    GUARD = "guard"  # the guard changes or stops what the policy asks for, and nothing is touched
    MONITOR = "monitor"  # the monitor raises its level and the guard heeds it


@dataclass(frozen=True)
class Note:
    """One note. ``expect`` means something for kind ``run`` only."""

    stamp_ns: int
    kind: str
    text: str
    expect: Expect = Expect.NOTHING
