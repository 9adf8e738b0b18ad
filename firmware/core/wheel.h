/* One side's wheels: encoder, ramp, PI speed control with feed-forward, and the monitors that watch them. */
#ifndef WHEEL_H
#define WHEEL_H

#include <stdbool.h>
#include <stdint.h>

#include "params.h"

#define SPEED_WINDOW 4u       /* control periods over which speed is measured */
#define REST_RADPS 0.25f      /* slower is at rest; above one encoder tick in the window for 1300 ticks a turn */
#define JUMP_OVER_MAX 3.0f    /* a speed of so many times the built-in limit is no motion */

typedef struct {
  int64_t ticks;     /* since boot, forward positive */
  int32_t raw;       /* the counter as it was last */
  int64_t past_ticks[SPEED_WINDOW];
  uint64_t past_us[SPEED_WINDOW];
  uint8_t next;
  float speed_radps; /* over the window */
  float set_radps;   /* after the ramp */
  float integral;    /* drive */
  float duty;        /* -1 to 1, forward positive */
  float stall_s, against_s;
} wheel_t;

/* The rows LEFT_KP to LEFT_ENCODER_SIGN of the parameters, or those of the right. */
typedef struct {
  float kp, ki, kv, ks, motor_sign, encoder_sign;
} wheel_gains_t;

wheel_gains_t wheel_gains(const params_t *params, bool right);
void wheel_init(wheel_t *wheel, int32_t raw, uint64_t now_us);
/* Takes the counter, which may have wrapped, and measures the speed. */
void wheel_measure(wheel_t *wheel, const params_t *params, const wheel_gains_t *gains, int32_t raw, uint64_t now_us);
bool wheel_at_rest(const wheel_t *wheel);
/* Moves both set points towards targets: away from zero by accel, towards it by brake. */
void wheels_ramp(wheel_t wheels[2], const params_t *params, const float target_radps[2], float dt_s);
/* Shrinks both set points by the same factor, the faster one by brake: the path keeps its curvature. */
void wheels_ramp_down(wheel_t wheels[2], const params_t *params, float dt_s);
void wheel_control(wheel_t *wheel, const params_t *params, const wheel_gains_t *gains, float dt_s);
void wheel_off(wheel_t *wheel);
/* FAULT_ENCODER_* bits of the left wheel; the right's are those shifted by one. */
uint16_t wheel_faults(wheel_t *wheel, const params_t *params, bool jumps_count, float dt_s);

#endif
