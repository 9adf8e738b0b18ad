"""The state machine of the C that ships against its model, over random histories."""

from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsac_robot.core.protocol_enums import EventCode, Fault, StateRequest
from dsac_robot.core.protocol_messages import CmdWheels, Event, HelloReq, Nack, StateReq
from tests.firmware.model import Model, Said
from tests.firmware.rig import MAGIC, PERIOD_US, REST, HostBase

PERIODS = st.sampled_from([5, 6, 8, 20, 39, 40, 41, 100])
OPERATION = st.one_of(
    st.tuples(st.just("hello"), st.sampled_from([1, 1, 1, 2]), st.integers(1, 3)),
    st.tuples(st.just("request"), st.sampled_from(list(StateRequest)), st.sampled_from([True] * 9 + [False])),
    st.tuples(st.just("arm"), st.just(0), st.just(0)),
    st.tuples(st.just("command"), st.sampled_from([0, 0, -20_000, 20_000, 20_001, -100_000, -100_001]), st.just(0)),
    st.tuples(st.just("estop"), st.booleans(), st.just(0)),
    st.tuples(st.just("overcurrent"), st.booleans(), st.just(0)),
)
SESSION_OFF = st.sampled_from([0] * 12 + [1, -1])


def said(base: HostBase) -> list[Said]:
    return [(e.code.name, int(e.state), -1 if e.code == EventCode.AT_REST else e.value) for e in base.of(Event)]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
@given(history=st.lists(st.tuples(PERIODS, OPERATION, SESSION_OFF), max_size=40))
def test_any_history_gives_the_states_events_and_refusals_of_the_model(core: Any, history: list[Any]) -> None:
    base = HostBase(core)
    base.step(replace(REST, t_us=PERIOD_US))  # INIT is over
    model = Model(session_next=251)
    before = len(base.of(Event))
    pressed, present = False, Fault(0)

    def run(periods: int) -> None:
        for _ in range(periods):
            base.inputs.overcurrent = bool(present)
            t_us = base.now_us - base.origin + PERIOD_US
            drive = base.step(replace(REST, t_us=t_us, estop_pressed=int(pressed)))
            model.tick(base.now_us, pressed, present)
            assert drive.state == model.state
            assert bool(drive.enabled) == (model.state in (2, 3, 4))

    for periods, (name, first, second), off in history:
        run(periods)
        session = max(0, model.session + off)
        nacks, expected = len(base.of(Nack)), None
        if name == "hello":
            base.send(base.frame(HelloReq(first, second)))
            model.hello(first, second, base.now_us)
        elif name in ("request", "arm"):
            asked = StateRequest.ARM if name == "arm" else first
            magic_ok = name == "arm" or second
            base.send(base.frame(StateReq(asked, MAGIC[asked] ^ (not magic_ok), session)))
            expected = model.request(asked, magic_ok, session, base.now_us)
        elif name == "command" and session:
            stamp = base.now_us + first
            base.send(base.frame(CmdWheels(0, 0, session, stamp)))
            expected = model.command(session, stamp, base.now_us)
        elif name == "estop":
            pressed = first
        elif name == "overcurrent":
            present = Fault.OVERCURRENT if first else Fault(0)
        assert [n.reason for n in base.of(Nack)[nacks:]] == ([expected] if expected else [])
    run(3)
    assert said(base)[before:] == model.said
