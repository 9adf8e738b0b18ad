"""The firmware two ways behind one face: its core in this process (cffi), and the ARM image under QEMU.

Both are stepped by plant states and clocks that the test chooses; link bytes go in and come out as bytes.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cffi

from dsac_robot.core.protocol import FrameDecoder, encode_frame, encode_raw
from dsac_robot.core.protocol_enums import PROTOCOL_VERSION, Direction, State, StateRequest
from dsac_robot.core.protocol_fields import Message
from dsac_robot.core.protocol_messages import CmdWheels, Event, Hello, HelloReq, Odom, StateReq
from sim.firmware_plant import PlantDrive, PlantInputs

FIRMWARE = Path(__file__).parents[2] / "firmware"
ROBOT = "jackal"
PERIOD_US = 5000
MAGIC = {1: 0x5AFE0D15, 2: 0xA2C30A2D, 3: 0xC1EA4B5E, 4: 0xE5709E57}
ADC_DIVIDER = 11  # built-in battery_scale
REST = PlantInputs(0, 0, 0, 0, 0, 0, 0, 0, 9_806_650, 25_000, 0)
POKE_CRASH, POKE_HANG, POKE_RESTART_AT, POKE_IMU_VALID = 1, 2, 3, 4

CDEF = """
typedef struct {
  int32_t left_count, right_count, gyro_urad_s[3], accel_um_s2[3];
  int16_t imu_cdegc, mcu_degc;
  uint32_t battery_adc_uv;
  int32_t battery_ma;
  uint32_t uart_errors, missed_ticks;
  uint16_t loop_us;
  bool imu_valid, estop_pressed, overcurrent, timing_trusted;
} base_inputs_t;
typedef struct { int16_t left_duty_e4, right_duty_e4; bool enable; } base_outputs_t;
void host_flash_erase_all(void);
void host_flash_budget(int32_t bytes);
uint8_t *host_flash(void);
uint8_t host_machine_state(void);
void host_corrupt_state(uint8_t state);
typedef struct {
  uint32_t ok, bad_cobs, bad_crc, bad_length, unknown_type, bad_value, overflow, repeated, lost;
} counters_t;
const counters_t *host_counters(void);
void host_boot(uint8_t reset_cause, const base_inputs_t *inputs, uint64_t now_us);
void host_receive(const uint8_t *data, size_t length, uint64_t now_us);
void host_tick(const base_inputs_t *inputs, uint64_t now_us, base_outputs_t *outputs);
size_t host_transmit(uint8_t *out, size_t most);
uint16_t wire_crc16(const uint8_t *data, size_t length);
uint32_t wire_crc32(uint32_t crc, const uint8_t *data, size_t length);
size_t wire_encode(uint8_t *out, uint8_t type, uint8_t seq, const uint8_t *payload, size_t length);
"""


def make(*targets: str, **variables: str) -> None:
    """Build images with the firmware's own Makefile; raises with the compiler's words."""
    command = ["make", "-s", "-C", str(FIRMWARE), *targets, *(f"{k}={v}" for k, v in variables.items())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def image(name: str, robot: str = ROBOT) -> Path:
    """A built image."""
    return FIRMWARE / "build" / robot / name


def load(library: Path) -> tuple[Any, Any]:
    """(ffi, lib) of a shared library of the core."""
    ffi = cffi.FFI()
    ffi.cdef(CDEF)
    return ffi, ffi.dlopen(str(library))


@dataclass
class Talker:
    """A host's end of the link, without any intelligence: numbers its frames and sorts what comes."""

    seq: int = 0
    session: int = 0
    got: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.decoder = FrameDecoder(Direction.TO_HOST)

    def frame(self, message: Message) -> bytes:
        self.seq = (self.seq + 1) & 0xFF
        return encode_frame(message, self.seq)

    def hello(self, nonce: int = 7) -> bytes:
        return self.frame(HelloReq(PROTOCOL_VERSION, nonce))

    def request(self, request: StateRequest) -> bytes:
        return self.frame(StateReq(request, MAGIC[request], self.session))

    def command(self, left_radps: float, right_radps: float, stamp_us: int) -> bytes:
        return self.frame(CmdWheels(round(1e3 * left_radps), round(1e3 * right_radps), self.session, stamp_us))

    def take(self, data: bytes) -> list[Message]:
        new = [message for _, message in self.decoder.feed(data)]
        for message in new:
            if isinstance(message, Hello):
                self.session = message.session
        self.got += new
        return new

    def of(self, cls: type[Message]) -> list[Any]:
        return [message for message in self.got if isinstance(message, cls)]

    def events(self) -> list[tuple[str, int, int]]:
        return [(event.code.name, int(event.state), event.value) for event in self.of(Event)]

    @property
    def state(self) -> State:
        return self.of(Odom)[-1].state


class HostBase(Talker):
    """The core in this process. One at a time: the library holds one base."""

    def __init__(self, ffi_lib: tuple[Any, Any], now_us: int = 1_000_000, cause: int = 1, erase: bool = True) -> None:
        super().__init__()
        self.ffi, self.lib = ffi_lib
        self.now_us, self.origin = now_us, now_us
        self.due_us = now_us + PERIOD_US
        self.inputs = self.ffi.new("base_inputs_t *")
        self.outputs = self.ffi.new("base_outputs_t *")
        self.out = self.ffi.new("uint8_t[4096]")
        if erase:
            self.lib.host_flash_erase_all()
            self.lib.host_flash_budget(-1)
        self.inputs.imu_valid = self.inputs.timing_trusted = True
        self.inputs.imu_cdegc, self.inputs.mcu_degc = 2500, 25
        self.sense(REST)
        self.raw = b""
        self.lib.host_boot(cause, self.inputs, now_us)
        self.drain()

    def sense(self, state: PlantInputs) -> None:
        inputs = self.inputs
        inputs.left_count, inputs.right_count = (wrap(v) for v in (state.left_ticks, state.right_ticks))
        inputs.gyro_urad_s = [state.gyro_x_uradps, state.gyro_y_uradps, state.gyro_z_uradps]
        inputs.accel_um_s2 = [state.accel_x_umps2, state.accel_y_umps2, state.accel_z_umps2]
        inputs.battery_adc_uv = state.battery_mv * 1000 // ADC_DIVIDER
        inputs.estop_pressed = bool(state.estop_pressed)

    def drain(self) -> list[Message]:
        data = bytes(self.ffi.buffer(self.out, self.lib.host_transmit(self.out, 4096)))
        self.raw += data
        return self.take(data)

    def send(self, data: bytes) -> list[Message]:
        self.lib.host_receive(data, len(data), self.now_us)
        return self.drain()

    def step(self, state: PlantInputs) -> PlantDrive:
        """Run all control periods due up to the plant's time, as the port under QEMU does."""
        self.sense(state)
        target = self.origin + state.t_us
        while self.due_us <= target:
            self.now_us = self.due_us
            self.due_us += PERIOD_US
            self.lib.host_tick(self.inputs, self.now_us, self.outputs)
            self.drain()
        self.now_us = target
        o = self.outputs
        return PlantDrive(target, o.left_duty_e4, o.right_duty_e4, int(o.enable), State(self.lib.host_machine_state()))


def wrap(ticks: int) -> int:
    """A counter modulo 2^32, signed."""
    return (ticks + 2**31) % 2**32 - 2**31


class QemuBase(Talker):
    """The ARM image under QEMU: link and plant port over TCP. ``restart`` boots it in lockstep."""

    def __init__(self, elf: Path, machine: str = "mps2-an386", link_path: Path | None = None) -> None:
        """``link_path``: the link is a Unix socket there, which keeps little of what nobody reads."""
        super().__init__()
        ports = free_ports(2)
        chardevs = [
            f"socket,id=c{i},host=127.0.0.1,port={port},server=on,wait=off,nodelay=on" for i, port in enumerate(ports)
        ]
        if link_path is not None:
            chardevs[0] = f"socket,id=c0,path={link_path},server=on,wait=off"
        command = ["qemu-system-arm", "-M", machine, "-display", "none", "-nodefaults", "-monitor", "none"]
        command += ["-kernel", str(elf)]
        for i, chardev in enumerate(chardevs):
            command += ["-chardev", chardev, "-serial", f"chardev:c{i}"]
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        self.plant = connect(ports[1], self.process)
        self.link = connect(ports[0], self.process) if link_path is None else socket.socket(socket.AF_UNIX)
        if link_path is not None:
            self.link.connect(str(link_path))
        self.ports = ports
        self.raw = b""
        self.plant_seq = 0
        self.plant_decoder = FrameDecoder(Direction.TO_HOST, (PlantDrive,))

    def poke(self, action: int, value: int = 0) -> None:
        self.to_plant(0x71, bytes((action,)) + value.to_bytes(8, "little"))

    def to_plant(self, kind: int, payload: bytes) -> None:
        self.plant_seq += 1
        self.plant.sendall(encode_raw(kind, self.plant_seq & 0xFF, payload))

    def restart(self, clock_us: int) -> None:
        """Boot again in lockstep with this clock; what the first boot said is dropped."""
        self.poke(POKE_RESTART_AT, clock_us)
        self.until(Hello, lambda hello: hello.reset_cause == 4)

    def send(self, data: bytes) -> None:
        """Link bytes by the plant port, so that their order with the states is certain."""
        for at in range(0, len(data), 64):
            self.to_plant(0x72, data[at : at + 64])

    def step(self, state: PlantInputs) -> PlantDrive:
        self.plant_seq += 1
        self.plant.sendall(encode_frame(state, self.plant_seq))
        while True:
            data = self.plant.recv(4096)
            assert data, "QEMU closed the plant port"
            for _, message in self.plant_decoder.feed(data):
                return message

    def drain(self, wait_s: float = 0.05) -> list[Message]:
        """What has come, and what comes until a pause of ``wait_s``; a base that talks all the time gives 64 kB."""
        self.link.settimeout(wait_s)
        data = b""
        with contextlib.suppress(TimeoutError):
            data = self.link.recv(65536)
            assert data, "QEMU closed the link"
            self.link.settimeout(0.004)  # less than the pause between two telemetry frames
            while len(data) < 65536 and (more := self.link.recv(65536)):
                data += more
        self.raw += data
        return self.take(data)

    def until(self, cls: type[Message], wanted: Any = lambda message: True, tries: int = 300) -> Any:
        """The next message of a kind that comes over the link."""
        for _ in range(tries):
            for message in self.drain(0.1):
                if isinstance(message, cls) and wanted(message):
                    return message
        raise AssertionError(f"no such {cls.__name__}; events {self.events()[-5:]}")

    def reconnected(self) -> None:
        """A new connection has a new decoder."""
        self.decoder = FrameDecoder(Direction.TO_HOST)

    def close(self) -> None:
        self.link.close()
        self.plant.close()
        self.process.kill()
        self.process.wait()
        self.log.close()


@contextlib.contextmanager
def qemu(elf: Path, link_path: Path | None = None) -> Iterator[QemuBase]:
    """A QemuBase that is ended whatever happens."""
    base = QemuBase(elf, link_path=link_path)
    try:
        yield base
    finally:
        base.close()


def free_ports(count: int) -> list[int]:
    """TCP ports that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def connect(port: int, process: subprocess.Popen[bytes]) -> socket.socket:
    """A connection to a port that QEMU is about to open."""
    for _ in range(600):
        with contextlib.suppress(OSError):
            made = socket.create_connection(("127.0.0.1", port), 5)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.settimeout(20)
            return made
        assert process.poll() is None, f"QEMU ended with {process.returncode}"
        time.sleep(0.02)
    raise AssertionError(f"QEMU does not listen on {port}")


@dataclass
class Motors:
    """A plant good enough for control: two first-order motors of no-load speed 39.2 rad/s and the ticks they give. The
    time constant is that of the Jackal's wheels off the ground: armature times no-load speed over stall torque."""

    radps: list[float] = field(default_factory=lambda: [0.0, 0.0])
    turns_rad: list[float] = field(default_factory=lambda: [0.0, 0.0])
    inputs: PlantInputs = REST
    blocked: bool = False

    def move(self, drive: PlantDrive, dt_us: int = PERIOD_US) -> PlantInputs:
        for i, duty in enumerate((drive.left_duty_e4, drive.right_duty_e4)):
            target = 0.0 if self.blocked or not drive.enabled else duty * 1e-4 * 39.2
            self.radps[i] += (target - self.radps[i]) * dt_us / 230_000
            self.turns_rad[i] += self.radps[i] * dt_us * 1e-6
        left, right = (int(rad * 8192 / 6.283185307179586) for rad in self.turns_rad)
        self.inputs = replace(self.inputs, t_us=self.inputs.t_us + dt_us, left_ticks=left, right_ticks=right)
        return self.inputs


def build_dir(tag: str) -> str:
    """A build folder beside the normal one, for special flags."""
    return os.path.join("build", tag)
