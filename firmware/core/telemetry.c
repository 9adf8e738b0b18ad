#include <string.h>

#include "base.h"
#include "bytes.h"
#include "robot_limits.h"

#define CONTROL_HZ (1000000u / CONTROL_PERIOD_US)
/* At most NACK_BURST at once and one more each NACK_TOKEN_US: no more than NACK_HZ_MAX in any second. */
#define NACK_TOKEN_US (1000000u / (NACK_HZ_MAX - NACK_BURST))

void base_send(base_t *base, uint8_t type, const uint8_t *payload, size_t length) {
  uint8_t frame[WIRE_ENCODED_MAX];
  size_t bytes = wire_encode(frame, type, base->tx_seq, payload, length);
  base->tx_seq++; /* a frame that is dropped leaves a gap that the host counts */
  if ((TX_BYTES - (base->tx_head - base->tx_tail)) < bytes) {
    base->tx_dropped++;
    return;
  }
  for (size_t i = 0; i < bytes; i++) {
    base->tx[base->tx_head % TX_BYTES] = frame[i];
    base->tx_head++;
  }
}

size_t base_transmit(base_t *base, uint8_t *out, size_t most) {
  size_t taken = 0;
  while ((taken < most) && (base->tx_tail != base->tx_head)) {
    out[taken] = base->tx[base->tx_tail % TX_BYTES];
    base->tx_tail++;
    taken++;
  }
  return taken;
}

static void send_crash(base_t *base) {
  const base_crash_t *crash = &base->boot.crash;
  uint8_t out[CRASH_BYTES];
  if (crash->reset_cause == 0u) {
    return;
  }
  put_u64(&out[CRASH_T_US_AT], crash->t_us);
  put_u32(&out[CRASH_BOOTS_AT], crash->boots);
  put_u32(&out[CRASH_PC_AT], crash->pc);
  put_u32(&out[CRASH_LR_AT], crash->lr);
  put_u32(&out[CRASH_CFSR_AT], crash->cfsr);
  put_u32(&out[CRASH_FAULT_ADDRESS_AT], crash->fault_address);
  out[CRASH_RESET_CAUSE_AT] = crash->reset_cause;
  base_send(base, MSG_CRASH, out, sizeof out);
}

void base_send_hello(base_t *base, uint32_t nonce) {
  uint8_t out[HELLO_BYTES];
  put_u16(&out[HELLO_PROTO_AT], PROTOCOL_VERSION);
  put_u32(&out[HELLO_NONCE_AT], nonce);
  put_u16(&out[HELLO_SESSION_AT], base->machine.session);
  out[HELLO_BOARD_AT] = base->boot.board;
  out[HELLO_RESET_CAUSE_AT] = base->boot.reset_cause;
  out[HELLO_VERSION_MAJOR_AT] = FIRMWARE_VERSION_MAJOR;
  out[HELLO_VERSION_MINOR_AT] = FIRMWARE_VERSION_MINOR;
  out[HELLO_VERSION_PATCH_AT] = FIRMWARE_VERSION_PATCH;
  out[HELLO_DIRTY_AT] = base->boot.dirty;
  (void)memcpy(&out[HELLO_GIT_AT], base->boot.git, sizeof base->boot.git);
  (void)memcpy(&out[HELLO_BUILD_ID_AT], base->boot.build_id, sizeof base->boot.build_id);
  put_u32(&out[HELLO_LIMITS_CRC_AT], ROBOT_LIMITS_CRC);
  put_u32(&out[HELLO_PARAMS_CRC_AT], params_crc(&base->params));
  put_u32(&out[HELLO_BOOTS_AT], base->store.boots);
  base_send(base, MSG_HELLO, out, sizeof out);
  send_crash(base);
}

void base_send_events(base_t *base) {
  for (uint8_t i = 0; i < base->machine.event_count; i++) {
    const machine_event_t *event = &base->machine.events[i];
    uint8_t out[EVENT_BYTES];
    put_u64(&out[EVENT_T_US_AT], event->t_us);
    out[EVENT_CODE_AT] = event->code;
    out[EVENT_STATE_AT] = event->state;
    put_u32(&out[EVENT_VALUE_AT], event->value);
    base_send(base, MSG_EVENT, out, sizeof out);
  }
  base->machine.event_count = 0;
}

void base_send_nack(base_t *base, uint8_t type, uint8_t seq, uint8_t reason, uint64_t now_us) {
  uint64_t tokens = base->nack_tokens + ((now_us - base->nack_us) / NACK_TOKEN_US);
  if (tokens >= NACK_BURST) {
    tokens = NACK_BURST;
    base->nack_us = now_us;
  } else {
    base->nack_us = now_us - ((now_us - base->nack_us) % NACK_TOKEN_US);
  }
  if (tokens > 0u) {
    uint8_t out[NACK_BYTES];
    out[NACK_REJECTED_TYPE_AT] = type;
    out[NACK_REJECTED_SEQ_AT] = seq;
    out[NACK_REASON_AT] = reason;
    base_send(base, MSG_NACK, out, sizeof out);
    tokens--;
  }
  base->nack_tokens = (uint8_t)tokens;
}

static void send_odom(base_t *base, const base_outputs_t *outputs, uint64_t now_us) {
  const machine_t *machine = &base->machine;
  uint64_t age_ms = (now_us - machine->fresh_us) / 1000u;
  uint8_t out[ODOM_BYTES];
  bool aged = !machine->has_fresh || (age_ms > 65535u);
  put_u64(&out[ODOM_T_US_AT], now_us);
  put_u64(&out[ODOM_LEFT_TICKS_AT], (uint64_t)base->wheels[0].ticks);
  put_u64(&out[ODOM_RIGHT_TICKS_AT], (uint64_t)base->wheels[1].ticks);
  put_i32(&out[ODOM_LEFT_MRADPS_AT], (int32_t)(base->wheels[0].speed_radps * 1000.0f));
  put_i32(&out[ODOM_RIGHT_MRADPS_AT], (int32_t)(base->wheels[1].speed_radps * 1000.0f));
  put_i16(&out[ODOM_LEFT_DUTY_E4_AT], outputs->left_duty_e4);
  put_i16(&out[ODOM_RIGHT_DUTY_E4_AT], outputs->right_duty_e4);
  put_u16(&out[ODOM_FAULTS_AT], machine->faults);
  out[ODOM_STATE_AT] = machine->state;
  out[ODOM_CMD_SEQ_AT] = machine->cmd_seq;
  put_u16(&out[ODOM_CMD_AGE_MS_AT], aged ? 65535u : (uint16_t)age_ms);
  base_send(base, MSG_ODOM, out, sizeof out);
}

static void send_imu(base_t *base, const base_inputs_t *inputs, uint64_t now_us) {
  uint8_t out[IMU_BYTES];
  put_u64(&out[IMU_T_US_AT], now_us);
  for (unsigned i = 0; i < 3u; i++) {
    put_i32(&out[IMU_GYRO_X_URADPS_AT + (4u * i)], inputs->gyro_urad_s[i]);
    put_i32(&out[IMU_ACCEL_X_UMPS2_AT + (4u * i)], inputs->accel_um_s2[i]);
  }
  put_i16(&out[IMU_TEMPERATURE_CDEGC_AT], inputs->imu_cdegc);
  base_send(base, MSG_IMU, out, sizeof out);
}

static void send_status(base_t *base, const base_inputs_t *inputs, uint64_t now_us) {
  uint8_t out[STATUS_BYTES];
  put_u64(&out[STATUS_T_US_AT], now_us);
  out[STATUS_STATE_AT] = base->machine.state;
  out[STATUS_ESTOP_PRESSED_AT] = base->machine.estop_pressed ? 1u : 0u;
  put_u16(&out[STATUS_FAULTS_AT], base->machine.faults);
  put_u16(&out[STATUS_FAULTS_PRESENT_AT], base->machine.faults_present);
  put_u16(&out[STATUS_SESSION_AT], base->machine.session);
  put_u32(&out[STATUS_BATTERY_MV_AT], (uint32_t)(base->battery_v * 1000.0f));
  put_i32(&out[STATUS_BATTERY_MA_AT], inputs->battery_ma);
  put_u32(&out[STATUS_PARAMS_CRC_AT], params_crc(&base->params));
  put_u32(&out[STATUS_MISSED_TICKS_AT], inputs->missed_ticks);
  put_u16(&out[STATUS_LOOP_US_MAX_AT], base->loop_us_max);
  put_i16(&out[STATUS_MCU_DEGC_AT], inputs->mcu_degc);
  base->loop_us_max = 0;
  base_send(base, MSG_STATUS, out, sizeof out);
}

static void send_link_stats(base_t *base, const base_inputs_t *inputs, uint64_t now_us) {
  const wire_counters_t *c = &base->receiver.counters;
  const uint32_t values[] = {c->ok,       c->bad_cobs, c->bad_crc, c->bad_length,       c->unknown_type,  c->bad_value,
                             c->overflow, c->repeated, c->lost,    inputs->uart_errors, base->tx_dropped};
  uint8_t out[LINK_STATS_BYTES];
  put_u64(&out[LINK_STATS_T_US_AT], now_us);
  for (unsigned i = 0; i < sizeof values / sizeof values[0]; i++) {
    put_u32(&out[LINK_STATS_OK_AT + (4u * i)], values[i]);
  }
  base_send(base, MSG_LINK_STATS, out, sizeof out);
}

void base_send_telemetry(base_t *base, const base_inputs_t *inputs, const base_outputs_t *outputs, uint64_t now_us) {
  if ((base->ticks % (CONTROL_HZ / ODOM_HZ)) == 0u) {
    send_odom(base, outputs, now_us);
    if (inputs->imu_valid) {
      send_imu(base, inputs, now_us);
    }
  }
  if ((base->ticks % (CONTROL_HZ / STATUS_HZ)) == 0u) {
    send_status(base, inputs, now_us);
  }
  if ((base->ticks % (CONTROL_HZ / LINK_STATS_HZ)) == 0u) {
    send_link_stats(base, inputs, now_us);
  }
}
