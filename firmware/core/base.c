#include "base.h"

#include <string.h>

#include "bytes.h"

#define SELF_TEST_US 500000u   /* the longest that INIT waits for the IMU */
#define IMU_LOST_US 100000u
#define OVERRUNS_MAX 20u       /* missed control periods in a second */
#define BATTERY_FILTER 0.05f   /* of the new value, each control period: a time constant of 0.1 s */
#define DT_S_MAX 0.05f

static bool is_reset_fault(uint8_t cause) { return (cause == RESET_WATCHDOG) || (cause == RESET_CRASH); }

void base_init(base_t *base, const base_boot_t *boot, const base_inputs_t *inputs, uint64_t now_us) {
  (void)memset(base, 0, sizeof *base);
  base->boot = *boot;
  base->boot_us = now_us;
  base->tick_us = now_us;
  base->imu_us = now_us;
  base->nack_us = now_us;
  base->nack_tokens = NACK_BURST;
  base->overrun_base = inputs->missed_ticks;
  params_defaults(&base->params);
  store_result_t found = store_load(&base->store, &base->params);
  base->store.boots++;
  uint16_t faults = 0;
  if (!store_save(&base->store, &base->params) || (found == STORE_DAMAGED)) {
    faults |= FAULT_PARAM_STORE;
  }
  if (is_reset_fault(boot->reset_cause)) {
    faults |= (boot->reset_cause == RESET_CRASH) ? FAULT_CRASH_RESET : FAULT_WATCHDOG_RESET;
  }
  /* Sessions of one boot are not those of the next */
  machine_init(&base->machine, faults, (uint16_t)(base->store.boots * 251u));
  wire_receiver_init(&base->receiver, WIRE_TO_BASE, WIRE_TO_BASE_COUNT);
  wheel_init(&base->wheels[0], inputs->left_count, now_us);
  wheel_init(&base->wheels[1], inputs->right_count, now_us);
  base->battery_v = (float)inputs->battery_adc_uv * 1e-6f * base->params.value[PARAM_BATTERY_SCALE];
  base->tx[0] = 0; /* each connection begins with a delimiter */
  base->tx_head = 1;
  base_send_hello(base, 0);
  machine_event(&base->machine, EVENT_BOOTED, boot->reset_cause, now_us);
  base_send_events(base);
}

static void send_param(base_t *base, const uint8_t *id, int index) {
  uint8_t out[PARAM_VALUE_BYTES];
  (void)memcpy(&out[PARAM_VALUE_PARAM_AT], id, 2);
  put_f32(&out[PARAM_VALUE_VALUE_AT], base->params.value[index]);
  base_send(base, MSG_PARAM_VALUE, out, sizeof out);
}

static uint8_t on_param_get(base_t *base, const uint8_t *payload) {
  int index = params_index(get_u16(&payload[PARAM_GET_PARAM_AT]));
  if (index < 0) {
    return NACK_UNKNOWN_PARAM;
  }
  send_param(base, &payload[PARAM_GET_PARAM_AT], index);
  return 0;
}

static uint8_t on_param_set(base_t *base, const uint8_t *payload) {
  int index = params_index(get_u16(&payload[PARAM_SET_PARAM_AT]));
  if (machine_session_check(&base->machine, get_u16(&payload[PARAM_SET_SESSION_AT])) != 0u) {
    return NACK_BAD_SESSION;
  }
  if (base->machine.state != STATE_IDLE) {
    return NACK_BAD_STATE;
  }
  if (index < 0) {
    return NACK_UNKNOWN_PARAM;
  }
  if (!params_set(&base->params, index, get_f32(&payload[PARAM_SET_VALUE_AT]))) {
    return NACK_BAD_VALUE;
  }
  send_param(base, &payload[PARAM_SET_PARAM_AT], index);
  return 0;
}

static uint8_t on_param_store(base_t *base, const uint8_t *payload, uint64_t now_us) {
  uint32_t crc = params_crc(&base->params);
  if (get_u32(&payload[PARAM_STORE_MAGIC_AT]) != MAGIC_STORE) {
    return NACK_BAD_MAGIC;
  }
  if (machine_session_check(&base->machine, get_u16(&payload[PARAM_STORE_SESSION_AT])) != 0u) {
    return NACK_BAD_SESSION;
  }
  if (base->machine.state != STATE_IDLE) {
    return NACK_BAD_STATE;
  }
  if (get_u32(&payload[PARAM_STORE_PARAMS_CRC_AT]) != crc) {
    return NACK_BAD_PARAM_CRC;
  }
  if (!store_save(&base->store, &base->params)) {
    return NACK_STORE_FAILED;
  }
  machine_event(&base->machine, EVENT_PARAMS_STORED, crc, now_us);
  return 0;
}

static void on_time_sync(base_t *base, const uint8_t *payload, uint64_t now_us) {
  uint8_t out[TIME_SYNC_RSP_BYTES];
  put_u64(&out[TIME_SYNC_RSP_T0_US_AT], get_u64(&payload[TIME_SYNC_T0_US_AT]));
  put_u64(&out[TIME_SYNC_RSP_T1_US_AT], now_us);
  put_u64(&out[TIME_SYNC_RSP_T2_US_AT], now_us);
  base_send(base, MSG_TIME_SYNC_RSP, out, sizeof out);
}

static uint8_t on_message(base_t *base, const wire_result_t *frame, uint64_t now_us) {
  const uint8_t *payload = frame->payload;
  machine_t *machine = &base->machine;
  machine_heard(machine, now_us);
  switch (frame->type) {
    case MSG_HELLO_REQ:
      machine_hello(machine, get_u16(&payload[HELLO_REQ_PROTO_AT]), get_u32(&payload[HELLO_REQ_NONCE_AT]), now_us);
      base_send_hello(base, machine->nonce);
      return 0;
    case MSG_CMD_WHEELS: {
      const int32_t mradps[2] = {get_i32(&payload[CMD_WHEELS_LEFT_MRADPS_AT]),
                                 get_i32(&payload[CMD_WHEELS_RIGHT_MRADPS_AT])};
      return machine_command(machine, mradps, get_u16(&payload[CMD_WHEELS_SESSION_AT]),
                             get_u64(&payload[CMD_WHEELS_STAMP_US_AT]), frame->seq, now_us);
    }
    case MSG_STATE_REQ:
      return machine_request(machine, payload[STATE_REQ_REQUEST_AT], get_u32(&payload[STATE_REQ_MAGIC_AT]),
                             get_u16(&payload[STATE_REQ_SESSION_AT]), now_us);
    case MSG_TIME_SYNC:
      on_time_sync(base, payload, now_us);
      return 0;
    case MSG_PARAM_SET:
      return on_param_set(base, payload);
    case MSG_PARAM_GET:
      return on_param_get(base, payload);
    default:
      return on_param_store(base, payload, now_us);
  }
}

static uint8_t nack_of(uint8_t reject) {
  switch (reject) {
    case REJECT_UNKNOWN_TYPE:
      return NACK_UNKNOWN_TYPE;
    case REJECT_BAD_VALUE:
      return NACK_BAD_VALUE;
    default:
      return NACK_BAD_LENGTH;
  }
}

void base_receive(base_t *base, const uint8_t *data, size_t length, uint64_t now_us) {
  for (size_t i = 0; i < length; i++) {
    wire_result_t frame = wire_receive(&base->receiver, data[i]);
    uint8_t nack = 0;
    if (frame.accepted) {
      nack = on_message(base, &frame, now_us);
    } else if ((frame.payload != NULL) && (frame.reject != REJECT_REPEATED)) {
      nack = nack_of(frame.reject); /* its CRC was right */
    } else {
      /* damage, or an unfinished frame: no answer */
    }
    base_send_events(base);
    if (nack != 0u) {
      base_send_nack(base, frame.type, frame.seq, nack, now_us);
    }
  }
}

static uint16_t watch_battery(base_t *base, const base_inputs_t *inputs, float dt_s) {
  const float *p = base->params.value;
  float volts = (float)inputs->battery_adc_uv * 1e-6f * p[PARAM_BATTERY_SCALE];
  base->battery_v += BATTERY_FILTER * (volts - base->battery_v);
  bool low = base->battery_v < p[PARAM_UNDERVOLTAGE_V];
  base->undervoltage_s = low ? (base->undervoltage_s + dt_s) : 0.0f;
  return (base->undervoltage_s >= p[PARAM_UNDERVOLTAGE_S]) ? FAULT_UNDERVOLTAGE : 0u;
}

static uint16_t watch_timing(base_t *base, const base_inputs_t *inputs, uint64_t now_us) {
  uint16_t faults = 0;
  if (inputs->imu_valid) {
    base->imu_us = now_us;
  }
  if (((now_us - base->imu_us) >= IMU_LOST_US) && (base->machine.state != STATE_INIT)) {
    faults |= FAULT_IMU_LOST;
  }
  if (inputs->timing_trusted && ((inputs->missed_ticks - base->overrun_base) > OVERRUNS_MAX)) {
    faults |= FAULT_TICK_OVERRUN;
  }
  if ((base->ticks % (1000000u / CONTROL_PERIOD_US)) == 0u) {
    base->overrun_base = inputs->missed_ticks;
  }
  return faults;
}

static uint16_t watch(base_t *base, const base_inputs_t *inputs, float dt_s, uint64_t now_us) {
  uint16_t faults = watch_battery(base, inputs, dt_s);
  faults |= watch_timing(base, inputs, now_us);
  faults |= wheel_faults(&base->wheels[0], &base->params, inputs->timing_trusted, dt_s);
  faults |= (uint16_t)(wheel_faults(&base->wheels[1], &base->params, inputs->timing_trusted, dt_s) << 1);
  if (inputs->overcurrent) {
    faults |= FAULT_OVERCURRENT;
  }
  if (base->machine.state > STATE_FAULT) {
    faults |= FAULT_INTERNAL;
  }
  return faults;
}

static void drive(base_t *base, const wheel_gains_t gains[2], float dt_s, base_outputs_t *outputs) {
  const machine_t *machine = &base->machine;
  outputs->enable = machine_enabled(machine);
  if (!outputs->enable) {
    wheel_off(&base->wheels[0]);
    wheel_off(&base->wheels[1]);
  } else {
    const float target_radps[2] = {(float)machine->left_mradps * 1e-3f, (float)machine->right_mradps * 1e-3f};
    if (machine->state == STATE_ACTIVE) {
      wheels_ramp(base->wheels, &base->params, target_radps, dt_s);
    } else {
      wheels_ramp_down(base->wheels, &base->params, dt_s);
    }
    wheel_control(&base->wheels[0], &base->params, &gains[0], dt_s);
    wheel_control(&base->wheels[1], &base->params, &gains[1], dt_s);
  }
  outputs->left_duty_e4 = (int16_t)(base->wheels[0].duty * gains[0].motor_sign * 1e4f);
  outputs->right_duty_e4 = (int16_t)(base->wheels[1].duty * gains[1].motor_sign * 1e4f);
}

void base_tick(base_t *base, const base_inputs_t *inputs, uint64_t now_us, base_outputs_t *outputs) {
  const wheel_gains_t gains[2] = {wheel_gains(&base->params, false), wheel_gains(&base->params, true)};
  float dt_s = (float)(uint32_t)(now_us - base->tick_us) * 1e-6f;
  dt_s = (dt_s > DT_S_MAX) ? DT_S_MAX : dt_s;
  base->tick_us = now_us;
  base->ticks++;
  if (inputs->loop_us > base->loop_us_max) {
    base->loop_us_max = inputs->loop_us;
  }
  wheel_measure(&base->wheels[0], &base->params, &gains[0], inputs->left_count, now_us);
  wheel_measure(&base->wheels[1], &base->params, &gains[1], inputs->right_count, now_us);
  bool standing = (base->wheels[0].set_radps == 0.0f) && (base->wheels[1].set_radps == 0.0f);
  machine_inputs_t step = {
      .faults_present = watch(base, inputs, dt_s, now_us),
      .estop_pressed = inputs->estop_pressed,
      .ready = inputs->imu_valid || ((now_us - base->boot_us) >= SELF_TEST_US),
      .slow = standing,
      .at_rest = wheel_at_rest(&base->wheels[0]) && wheel_at_rest(&base->wheels[1]),
  };
  machine_step(&base->machine, &step, now_us);
  drive(base, gains, dt_s, outputs);
  base_send_events(base);
  base_send_telemetry(base, inputs, outputs, now_us);
}
