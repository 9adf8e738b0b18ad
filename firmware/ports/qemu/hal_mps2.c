/* QEMU's mps2-an386: link on UART0, plant port on UART1 (docs/firmware.md), parameters in memory that survives resets.
 * The emulated board has no PWM, encoders, ADC or GPIO; the plant port stands for them. */
#include <string.h>

#include "bytes.h"
#include "cortexm.h"
#include "hal.h"
#include "hal_io.h"
#include "robot_limits.h"
#include "uart.h"

#define TIMER_CTRL REG(0x40000000u)
#define TIMER_VALUE REG(0x40000004u)
#define TIMER_RELOAD REG(0x40000008u)
#define CORE_HZ 25000000u
#define WATCHDOG_LOAD REG(0x40008000u)
#define WATCHDOG_CTRL REG(0x40008008u)
#define WATCHDOG_CLEAR REG(0x4000800Cu)
#define WATCHDOG_CYCLES (2u * CORE_HZ) /* behind the software watchdog: first NMI, then reset */

#define MSG_PLANT_STATE 0x70u
#define PLANT_STATE_BYTES 53u
#define MSG_PLANT_POKE 0x71u
#define PLANT_POKE_BYTES 9u
#define MSG_PLANT_LINK 0x72u
#define MSG_PLANT_DRIVE 0xF0u
#define PLANT_DRIVE_BYTES 14u
enum { POKE_CRASH = 1, POKE_HANG, POKE_RESTART_AT, POKE_IMU_VALID, POKE_OVERCURRENT };

static const wire_message_t PLANT_MESSAGES[] = {
    {MSG_PLANT_STATE, PLANT_STATE_BYTES, false}, {MSG_PLANT_POKE, PLANT_POKE_BYTES, false}, {MSG_PLANT_LINK, 0, true}};

static uint8_t flash[2][HAL_FLASH_PAGE_BYTES] __attribute__((section(".noinit")));
static uart_t link_uart, plant_uart;
static wire_receiver_t plant_receiver;
static base_inputs_t sensed;
static base_outputs_t driven;
static uint8_t driven_state, plant_seq;
static uint32_t timer_last;
static uint64_t timer_cycles;
static uint64_t due_us; /* the next control period */
/* Lockstep: the clock stands at clock_us; a state that has come moves it on to target_us. */
static bool lockstep, has_origin, state_pending;
static uint64_t clock_us, target_us, origin_us, plant_origin_us, tick_begin_us;

void port_irq(uint32_t number) { uart_irq((number == link_uart.irq) ? &link_uart : &plant_uart); }
void port_motors_off(void) {}
void hal_crash_context(uint64_t now_us, uint32_t boots) { crash_context(now_us, boots); }

static uint64_t timer_us(void) {
  uint32_t value = TIMER_VALUE; /* counts down */
  timer_cycles += timer_last - value;
  timer_last = value;
  return timer_cycles / (CORE_HZ / 1000000u);
}

uint64_t hal_now_us(void) { return lockstep ? clock_us : timer_us(); }

void hal_init(base_boot_t *boot) {
  TIMER_RELOAD = 0xFFFFFFFFu;
  TIMER_VALUE = 0xFFFFFFFFu;
  TIMER_CTRL = 1;
  timer_last = TIMER_VALUE;
  uart_init(&link_uart, 0x40004000u, 0);
  uart_init(&plant_uart, 0x40005000u, 2);
  wire_receiver_init(&plant_receiver, PLANT_MESSAGES, sizeof PLANT_MESSAGES / sizeof PLANT_MESSAGES[0]);
  boot->board = BOARD_MPS2_AN386;
  boot->reset_cause = crash_reset_cause();
  if (boot->reset_cause == RESET_POWER_ON) {
    (void)hal_flash_erase(0);
    (void)hal_flash_erase(1);
  } else if (boot->reset_cause == RESET_UNKNOWN) {
    boot->reset_cause = RESET_WATCHDOG; /* only the hardware watchdog resets without a word */
  } else {
    /* the record says it */
  }
  crash_record(&boot->crash);
  build_identity(boot);
  clock_us = crash_take_note();
  lockstep = clock_us != 0u;
  due_us = hal_now_us() + CONTROL_PERIOD_US;
  sensed.accel_um_s2[2] = 9806650;
  sensed.imu_cdegc = 2500;
  sensed.mcu_degc = 25;
  sensed.imu_valid = true;
  sensed.battery_adc_uv = (uint32_t)(25.0f * 1e6f / DEFAULT_BATTERY_SCALE);
  cortexm_systick(CORE_HZ);
  WATCHDOG_LOAD = WATCHDOG_CYCLES;
  WATCHDOG_CTRL = 3;
}

static bool has_work(void) {
  return (link_uart.head != link_uart.tail) || (plant_uart.head != plant_uart.tail) || state_pending;
}

void hal_wait(void) { cortexm_wait(has_work); }
size_t hal_link_read(uint8_t *data, size_t most) { return uart_read(&link_uart, data, most); }
bool hal_link_write(uint8_t byte) { return uart_write(&link_uart, byte); }

void hal_watchdog_feed(void) {
  soft_watchdog_feed();
  WATCHDOG_LOAD = WATCHDOG_CYCLES;
}

static void take_state(const uint8_t *payload) {
  uint64_t plant_us = get_u64(payload);
  if (!has_origin) {
    origin_us = hal_now_us();
    plant_origin_us = plant_us;
    clock_us = origin_us;
    has_origin = true;
    lockstep = true;
  }
  target_us = origin_us + (plant_us - plant_origin_us);
  state_pending = true;
  sensed.left_count = (int32_t)(uint32_t)get_u64(&payload[8]);
  sensed.right_count = (int32_t)(uint32_t)get_u64(&payload[16]);
  for (unsigned i = 0; i < 3u; i++) {
    sensed.gyro_urad_s[i] = get_i32(&payload[24u + (4u * i)]);
    sensed.accel_um_s2[i] = get_i32(&payload[36u + (4u * i)]);
  }
  sensed.battery_adc_uv = (uint32_t)(((uint64_t)get_u32(&payload[48]) * 1000u) / (uint32_t)DEFAULT_BATTERY_SCALE);
  sensed.estop_pressed = payload[52] != 0u;
}

static void take_poke(const uint8_t *payload) {
  uint64_t value = get_u64(&payload[1]);
  switch (payload[0]) {
    case POKE_CRASH:
      __asm volatile("udf #0");
      break;
    case POKE_HANG:
      for (;;) {
        __asm volatile("nop");
      }
    case POKE_RESTART_AT:
      (void)hal_flash_erase(0);
      (void)hal_flash_erase(1);
      crash_leave_note(value);
      cortexm_reset();
    case POKE_IMU_VALID:
      sensed.imu_valid = value != 0u;
      break;
    case POKE_OVERCURRENT:
      sensed.overcurrent = value != 0u;
      break;
    default:
      break; /* no such poke */
  }
}

static void poll_plant(void) {
  uint8_t byte;
  while (!state_pending && (uart_read(&plant_uart, &byte, 1) == 1u)) {
    wire_result_t frame = wire_receive(&plant_receiver, byte);
    if (!frame.accepted) {
      continue;
    }
    if (frame.type == MSG_PLANT_STATE) {
      take_state(frame.payload);
    } else if (frame.type == MSG_PLANT_POKE) {
      take_poke(frame.payload);
    } else {
      for (uint8_t i = 0; i < frame.length; i++) {
        (void)uart_put(&link_uart, frame.payload[i]);
      }
    }
  }
}

static void answer(void) {
  uint8_t payload[PLANT_DRIVE_BYTES];
  uint8_t frame[WIRE_ENCODED_MAX];
  put_u64(payload, clock_us);
  put_i16(&payload[8], driven.left_duty_e4);
  put_i16(&payload[10], driven.right_duty_e4);
  payload[12] = driven.enable ? 1u : 0u;
  payload[13] = driven_state;
  size_t length = wire_encode(frame, MSG_PLANT_DRIVE, plant_seq, payload, sizeof payload);
  plant_seq++;
  for (size_t i = 0; i < length; i++) {
    while (!uart_write(&plant_uart, frame[i])) {
      hal_watchdog_feed(); /* who steps the clock must read; until then time stands still */
    }
  }
}

static bool tick_due_in_lockstep(uint64_t *now_us) {
  hal_watchdog_feed();
  if (!state_pending || (link_uart.head != link_uart.tail)) {
    return false; /* first what came over the link before this state */
  }
  if (due_us <= target_us) {
    clock_us = due_us;
    due_us += CONTROL_PERIOD_US;
    *now_us = clock_us;
    return true;
  }
  clock_us = target_us;
  state_pending = false;
  answer();
  return false;
}

bool hal_tick_due(uint64_t *now_us) {
  poll_plant();
  if (lockstep) {
    return tick_due_in_lockstep(now_us);
  }
  uint64_t now = timer_us();
  if (now < due_us) {
    return false;
  }
  uint64_t missed = (now - due_us) / CONTROL_PERIOD_US;
  sensed.missed_ticks += (uint32_t)missed;
  due_us += (missed + 1u) * CONTROL_PERIOD_US;
  tick_begin_us = now;
  *now_us = now;
  return true;
}

void hal_inputs_read(base_inputs_t *inputs) {
  sensed.timing_trusted = lockstep;
  *inputs = sensed;
}

void hal_outputs_write(const base_outputs_t *outputs, uint8_t state) {
  driven = *outputs;
  driven_state = state;
  uint64_t loop_us = lockstep ? 0u : (timer_us() - tick_begin_us);
  sensed.loop_us = (loop_us < 65535u) ? (uint16_t)loop_us : 65535u;
}

void hal_flash_read(uint8_t page, uint32_t offset, uint8_t *data, size_t length) {
  memcpy(data, &flash[page][offset], length);
}

bool hal_flash_erase(uint8_t page) {
  memset(flash[page], 0xFF, HAL_FLASH_PAGE_BYTES);
  return true;
}

bool hal_flash_write(uint8_t page, uint32_t offset, const uint8_t *data, size_t length) {
  for (size_t i = 0; i < length; i++) {
    flash[page][offset + i] &= data[i];
  }
  return true;
}
