#include "wheel.h"

#include <string.h>

#include "machine.h"
#include "robot_limits.h"

#define TURN_RAD 6.28318531f

static float clamp(float value, float most) {
  if (value > most) {
    return most;
  }
  return (value < -most) ? -most : value;
}

static float magnitude(float value) { return (value < 0.0f) ? -value : value; }

wheel_gains_t wheel_gains(const params_t *params, bool right) {
  const float *at = &params->value[right ? PARAM_RIGHT_KP : PARAM_LEFT_KP];
  return (wheel_gains_t){at[0], at[1], at[2], at[3], at[4], at[5]};
}

void wheel_init(wheel_t *wheel, int32_t raw, uint64_t now_us) {
  (void)memset(wheel, 0, sizeof *wheel);
  wheel->raw = raw;
  for (unsigned i = 0; i < SPEED_WINDOW; i++) { /* as if it had stood still */
    wheel->past_us[i] = now_us - (uint64_t)((SPEED_WINDOW - 1u - i) * CONTROL_PERIOD_US);
  }
}

void wheel_measure(wheel_t *wheel, const params_t *params, const wheel_gains_t *gains, int32_t raw, uint64_t now_us) {
  int32_t delta = (int32_t)((uint32_t)raw - (uint32_t)wheel->raw);
  wheel->raw = raw;
  wheel->ticks += (gains->encoder_sign > 0.0f) ? (int64_t)delta : -(int64_t)delta;
  float ticks = (float)(wheel->ticks - wheel->past_ticks[wheel->next]);
  float span_s = (float)(uint32_t)(now_us - wheel->past_us[wheel->next]) * 1e-6f;
  wheel->past_ticks[wheel->next] = wheel->ticks;
  wheel->past_us[wheel->next] = now_us;
  wheel->next = (uint8_t)((wheel->next + 1u) % SPEED_WINDOW);
  if (span_s > 0.0f) {
    wheel->speed_radps = ticks * (TURN_RAD / params->value[PARAM_TICKS_PER_REV]) / span_s;
  }
}

bool wheel_at_rest(const wheel_t *wheel) { return magnitude(wheel->speed_radps) < REST_RADPS; }

static float ramp(float set, float target, float up, float down) {
  bool braking = (set * target < 0.0f) || (magnitude(target) < magnitude(set));
  float change = clamp(target - set, braking ? down : up);
  if (set * (set + change) < 0.0f) {
    return 0.0f; /* through zero in two steps: braking ends there */
  }
  return set + change;
}

void wheels_ramp(wheel_t wheels[2], const params_t *params, const float target_radps[2], float dt_s) {
  float most = params->value[PARAM_SPEED_RADPS_MAX];
  for (unsigned i = 0; i < 2u; i++) {
    wheels[i].set_radps = ramp(wheels[i].set_radps, clamp(target_radps[i], most),
                               params->value[PARAM_ACCEL_RADPS2_MAX] * dt_s, params->value[PARAM_BRAKE_RADPS2] * dt_s);
  }
}

void wheels_ramp_down(wheel_t wheels[2], const params_t *params, float dt_s) {
  float left = magnitude(wheels[0].set_radps);
  float right = magnitude(wheels[1].set_radps);
  float faster = (left > right) ? left : right;
  float slower_by = params->value[PARAM_BRAKE_RADPS2] * dt_s;
  float factor = (faster > slower_by) ? ((faster - slower_by) / faster) : 0.0f;
  wheels[0].set_radps *= factor;
  wheels[1].set_radps *= factor;
}

void wheel_control(wheel_t *wheel, const params_t *params, const wheel_gains_t *gains, float dt_s) {
  float most = params->value[PARAM_DUTY_MAX];
  float error = wheel->set_radps - wheel->speed_radps;
  float forward = gains->kv * wheel->set_radps;
  if (wheel->set_radps != 0.0f) {
    forward += (wheel->set_radps > 0.0f) ? gains->ks : -gains->ks;
  }
  float wanted = forward + (gains->kp * error) + wheel->integral;
  wheel->duty = clamp(wanted, most);
  /* Anti-windup: at the limit only an error that leads away from it is integrated */
  bool stuck = (wanted != wheel->duty) && (error * wanted > 0.0f);
  if (!stuck) {
    wheel->integral = clamp(wheel->integral + (gains->ki * error * dt_s), most);
  }
}

void wheel_off(wheel_t *wheel) {
  wheel->set_radps = 0.0f;
  wheel->integral = 0.0f;
  wheel->duty = 0.0f;
}

uint16_t wheel_faults(wheel_t *wheel, const params_t *params, bool jumps_count, float dt_s) {
  bool driven = magnitude(wheel->duty) > params->value[PARAM_STALL_DUTY];
  bool rest = wheel_at_rest(wheel);
  bool against = driven && !rest && (wheel->duty * wheel->speed_radps < 0.0f);
  wheel->stall_s = (driven && rest) ? (wheel->stall_s + dt_s) : 0.0f;
  wheel->against_s = against ? (wheel->against_s + dt_s) : 0.0f;
  uint16_t faults = 0;
  if (wheel->stall_s >= params->value[PARAM_STALL_S]) {
    faults |= FAULT_ENCODER_STALL_LEFT;
  }
  bool jump = jumps_count && (magnitude(wheel->speed_radps) > (JUMP_OVER_MAX * DEFAULT_SPEED_RADPS_MAX));
  if (jump || (wheel->against_s >= params->value[PARAM_STALL_S])) {
    faults |= FAULT_ENCODER_IMPLAUSIBLE_LEFT;
  }
  return faults;
}
